// The three forms of additive scores: what is inside decides whether queries differ.
#include <cmath>
#include <limits>
#include <vector>

#include "tests/support/tolerance.h"
#include <gtest/gtest.h>

namespace fovea::testing {
namespace {

/// Scores u_i + v_j as products of [u_i, 1, 0, …] and [1, v_j, 0, …].
void make_sums(CaseTensors& t) {
  t.scale = 1;
  for (int64_t h = 0; h < 2; ++h) {
    for (int64_t s = 0; s < 70; ++s) {
      for (int64_t d = 0; d < 8; ++d) {
        const double u = t.q.get(0, h, s, 0), v = t.k.get(0, h, s, 1);
        t.q.put(0, h, s, d, d == 0 ? u : d == 1 ? 1 : 0);
        t.k.put(0, h, s, d, d == 1 ? v : d == 0 ? 1 : 0);
      }
    }
  }
}

/// Largest difference between two queries' outputs of a head.
double spread(const CaseTensors& t) {
  double spread = 0;
  for (int64_t h = 0; h < 2; ++h) {
    for (int64_t i = 0; i < 70; ++i) {
      for (int64_t d = 0; d < 8; ++d) {
        spread = std::max(spread, std::fabs(t.o.get(0, h, i, d) - t.o.get(0, h, 0, d)));
      }
    }
  }
  return spread;
}

TEST(AdditiveScores, LinearInsideIsAWeightOfTheKeyAlone) {
  CaseTensors t(AttentionCase::parse("b1_h2_q70_k70_d8_f32_full_bwd"));
  make_sums(t);
  ASSERT_TRUE(attention_forward(t.problem(), t.outputs()).ok());
  const double size = max_abs(t.v.values()), u = std::numeric_limits<float>::epsilon();
  // Scores of up to 8 with an error of u each.
  EXPECT_LE(spread(t), 2 * 16 * u * size);
  // By hand: softmax over v_j, whatever the query; u_i only moves lse.
  for (int64_t h = 0; h < 2; ++h) {
    double sum = 0, o = 0;
    for (int64_t j = 0; j < 70; ++j) {
      const double weight = std::exp(t.k.get(0, h, j, 1));
      sum += weight;
      o += weight * t.v.get(0, h, j, 3);
    }
    for (int64_t i = 0; i < 70; ++i) {
      EXPECT_NEAR(t.o.get(0, h, i, 3), o / sum, 16 * u * size);
      EXPECT_NEAR(t.lse.get(0, h, i, 0), t.q.get(0, h, i, 0) + std::log(sum), 16 * u * 8);
    }
  }
  // And so no gradient reaches the queries but through lse.
  t.with_d_lse = false;
  ASSERT_TRUE(attention_backward(t.problem(), t.outputs(), t.gradients()).ok());
  double largest = 0;
  for (int64_t i = 0; i < 70; ++i) largest = std::max(largest, std::fabs(t.d_q.get(0, 0, i, 0)));
  EXPECT_LE(largest, 64 * u * 8 * size * max_abs(t.d_o.values()));
}

TEST(AdditiveScores, LeakyReluAndTanhInsideAreNot) {
  CaseTensors leaky(AttentionCase::parse("b1_h2_q70_k70_d8_f32_full_bwd_leaky20"));
  make_sums(leaky);
  ASSERT_TRUE(attention_forward(leaky.problem(), leaky.outputs()).ok());
  EXPECT_GT(spread(leaky), 0.1);
  CaseTensors inside(AttentionCase::parse("b1_h2_q70_k70_d8_f32_full_bwd_additive"));
  ASSERT_TRUE(attention_forward(inside.problem(), inside.outputs()).ok());
  EXPECT_GT(spread(inside), 0.1);
}

}  // namespace
}  // namespace fovea::testing
