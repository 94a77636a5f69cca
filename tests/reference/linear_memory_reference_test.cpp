// The oracle of memories outside a window: a case by hand, and gradients against differences.
#include "fovea/reference/linear_memory_reference.h"

#include <cmath>

#include <gmock/gmock.h>

#include "fovea/core/philox.h"

namespace fovea::reference {
namespace {

std::vector<double> numbers(int64_t count, uint32_t stream) {
  std::vector<double> x;
  for (int64_t i = 0; i < count; ++i) {
    x.push_back(philox4x32({static_cast<uint32_t>(i), stream, 0, 0}, {1, 2})[0] / 2147483648.0 - 1);
  }
  return x;
}

TEST(MemoryReference, ThreeTokensByHand) {
  MemoryProblem p;
  p.len = 3;
  p.head_dim = p.value_dim = 1;
  p.q = {2, 3, 5};
  p.k = {7, 1, 4};
  p.v = {10, 20, 30};
  p.gain = {0, 0, std::log(2)};
  p.o = {1, 2, 3};
  p.lse = {std::log(1), std::log(4), std::log(6)};
  p.left = 2;
  p.right = 1;
  // Token 0 remembers 1 and 2 (weights 2 and 8), token 1 token 2 (12), token 2 token 0 (2·35).
  const MemoryForward f = linear_memory_forward(p);
  EXPECT_NEAR(f.o[0], (1 + 2 * 20 + 8 * 30) / 11.0, 1e-14);
  EXPECT_NEAR(f.o[1], (4 * 2 + 12 * 30) / 16.0, 1e-14);
  EXPECT_NEAR(f.o[2], (6 * 3 + 70 * 10) / 76.0, 1e-14);
  EXPECT_NEAR(f.lse[2], std::log(76), 1e-14);
  p.cu_seqlens = {0, 1, 3};
  EXPECT_DOUBLE_EQ(linear_memory_forward(p).o[0], 1);
  EXPECT_DOUBLE_EQ(linear_memory_forward(p).o[2], 3);
}

/// As the differences of the other oracles: h = 2^-14, errors below 1e-6.
TEST(MemoryReference, GradientsAreThoseOfDifferences) {
  MemoryProblem p;
  p.batch = p.heads = 2;
  p.len = 6;
  p.head_dim = 3;
  p.value_dim = 2;
  p.map = FeatureMap::kEluPlusOne;
  p.q = numbers(4 * 6 * 3, 1);
  p.k = numbers(4 * 6 * 3, 2);
  p.v = numbers(4 * 6 * 2, 3);
  p.gain = numbers(4 * 6, 4);
  p.o = numbers(4 * 6 * 2, 5);
  p.lse = numbers(4 * 6, 6);
  const auto d_o = numbers(4 * 6 * 2, 7), d_lse = numbers(4 * 6, 8);
  const auto loss = [&] {
    const MemoryForward f = linear_memory_forward(p);
    double sum = 0;
    for (size_t i = 0; i < d_o.size(); ++i) sum += d_o[i] * f.o[i];
    for (size_t i = 0; i < d_lse.size(); ++i) sum += d_lse[i] * f.lse[i];
    return sum;
  };
  const double h = 1.0 / 16384;
  for (const auto& [left, right] : {std::pair{2, 0}, {0, 1}, {3, 2}}) {
    p.left = left;
    p.right = right;
    const MemoryBackward g = linear_memory_backward(p, d_o, d_lse);
    for (auto [x, d] : {std::pair{&p.q, &g.d_q},
                        {&p.k, &g.d_k},
                        {&p.v, &g.d_v},
                        {&p.gain, &g.d_gain},
                        {&p.o, &g.d_o},
                        {&p.lse, &g.d_lse}}) {
      ASSERT_EQ(x->size(), d->size());
      for (size_t i = 0; i < x->size(); ++i) {
        const double before = (*x)[i];
        (*x)[i] = before + h;
        const double above = loss();
        (*x)[i] = before - h;
        const double below = loss();
        (*x)[i] = before;
        EXPECT_NEAR((*d)[i], (above - below) / (2 * h), 1e-6);
      }
    }
  }
}

}  // namespace
}  // namespace fovea::reference
