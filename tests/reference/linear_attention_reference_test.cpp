// The oracle of linear attention: cases worked by hand, and every gradient against central
// differences of the forward.
#include "fovea/reference/linear_attention_reference.h"

#include <cmath>
#include <functional>

#include <gmock/gmock.h>

#include "fovea/core/philox.h"
#include "fovea/core/status.h"

namespace fovea::reference {
namespace {

using ::testing::HasSubstr;

/// Numbers in [-1, 1) that depend on the stream only.
std::vector<double> numbers(int64_t count, uint32_t stream) {
  std::vector<double> x;
  for (int64_t i = 0; i < count; ++i) {
    x.push_back(philox4x32({static_cast<uint32_t>(i), stream, 0, 0}, {1, 2})[0] / 2147483648.0 - 1);
  }
  return x;
}

LinearProblem problem(int64_t q_len = 5, int64_t kv_len = 5) {
  LinearProblem p;
  p.batch = 2;
  p.heads = 2;
  p.q_len = q_len;
  p.kv_len = kv_len;
  p.head_dim = 3;
  p.value_dim = 2;
  p.q = numbers(4 * q_len * 3, 1);
  p.k = numbers(4 * kv_len * 3, 2);
  p.v = numbers(4 * kv_len * 2, 3);
  return p;
}

std::vector<double> negative(std::vector<double> x) {
  for (double& value : x) value = -std::fabs(value);
  return x;
}

std::vector<double> positive(std::vector<double> x) {
  for (double& value : x) value = std::fabs(value) + 0.1;
  return x;
}

double loss(const LinearProblem& p, const std::vector<double>& d_o,
            const std::vector<double>& d_final) {
  const LinearForward f = linear_attention_forward(p);
  double sum = 0;
  for (size_t i = 0; i < d_o.size(); ++i) sum += d_o[i] * f.o[i];
  for (size_t i = 0; i < d_final.size(); ++i) sum += d_final[i] * f.final_state[i];
  return sum;
}

/// A central difference with step h errs by h² |f'''| / 6 + eps |f| / h; h = 2^-14 makes both
/// smaller than 1e-6 for losses and derivatives of the order of 10.
void expect_gradients(LinearProblem p) {
  const double h = 1.0 / 16384;
  const LinearForward f = linear_attention_forward(p);
  const auto d_o = numbers(std::ssize(f.o), 11);
  const auto d_final = numbers(std::ssize(f.final_state), 12);
  const LinearBackward g = linear_attention_backward(p, d_o, d_final);
  const auto expect = [&](const char* what, std::vector<double>& x, const std::vector<double>& d) {
    if (x.empty()) return;
    ASSERT_EQ(x.size(), d.size()) << what;
    for (size_t i = 0; i < x.size(); ++i) {
      const double before = x[i];
      x[i] = before + h;
      const double above = loss(p, d_o, d_final);
      x[i] = before - h;
      const double below = loss(p, d_o, d_final);
      x[i] = before;
      EXPECT_NEAR(d[i], (above - below) / (2 * h), 1e-6) << what << " " << i;
    }
  };
  expect("d_q", p.q, g.d_q);
  expect("d_k", p.k, g.d_k);
  expect("d_v", p.v, g.d_v);
  expect("d_decay", p.decay, g.d_decay);
  expect("d_beta", p.beta, g.d_beta);
  expect("d_initial_state", p.initial_state, g.d_initial_state);
}

TEST(LinearReference, TwoStepsByHand) {
  LinearProblem p;
  p.q_len = p.kv_len = 2;
  p.head_dim = p.value_dim = 1;
  p.q = {2, 3};
  p.k = {5, 7};
  p.v = {11, 13};
  p.decay = {0, std::log(0.5)};
  p.scale = 2;
  // S_1 = 55, S_2 = 27.5 + 91
  EXPECT_THAT(linear_attention_forward(p).o, ::testing::ElementsAre(220, 711));
  EXPECT_THAT(linear_attention_forward(p).final_state, ::testing::ElementsAre(118.5));
  p.beta = {0.5, 0.25};
  p.decay.clear();
  // S_1 = 0.5·5·11 = 27.5; S_2 = 27.5 + 0.25·7·(13 - 27.5·7)
  EXPECT_THAT(linear_attention_forward(p).final_state,
              ::testing::ElementsAre(27.5 + 1.75 * (13 - 192.5)));
}

// The quadratic form of Katharopoulos et al. 2020, eq. 8-9.
TEST(LinearReference, NormalisedIsAWeightedMean) {
  for (const bool causal : {true, false}) {
    LinearProblem p = problem();
    p.map = FeatureMap::kEluPlusOne;
    p.normalise = true;
    p.causal = causal;
    const LinearForward f = linear_attention_forward(p);
    const auto map = [](double x) { return x > 0 ? x + 1 : std::exp(x); };
    for (int64_t bh = 0; bh < 4; ++bh) {
      for (int64_t i = 0; i < 5; ++i) {
        double total = 0, sum = 0;
        for (int64_t j = 0; j <= (causal ? i : 4); ++j) {
          double dot = 0;
          for (int64_t d = 0; d < 3; ++d) {
            dot += map(p.q[(bh * 5 + i) * 3 + d]) * map(p.k[(bh * 5 + j) * 3 + d]);
          }
          total += dot;
          sum += dot * p.v[(bh * 5 + j) * 2];
        }
        EXPECT_NEAR(f.o[(bh * 5 + i) * 2], sum / total, 1e-14);
        EXPECT_NEAR(f.denominator[bh * 5 + i], total, 1e-13);
      }
    }
  }
}

TEST(LinearReference, GradientsOfEveryMapWithAndWithoutNormaliser) {
  for (const FeatureMap map : {FeatureMap::kIdentity, FeatureMap::kEluPlusOne, FeatureMap::kRelu}) {
    for (const bool normalise : {false, true}) {
      for (const bool causal : {false, true}) {
        LinearProblem p = causal ? problem() : problem(4, 6);
        p.map = map;
        p.causal = causal;
        p.normalise = normalise;
        if (map == FeatureMap::kIdentity) {  // or denominators pass through 0
          p.q = positive(p.q);
          p.k = positive(p.k);
        }
        p.eps = 0.25;
        p.scale = normalise ? 1 : 0.7;
        p.initial_state = positive(numbers(4 * 3 * (normalise ? 3 : 2), 4));
        SCOPED_TRACE(name_of(map));
        expect_gradients(p);
      }
    }
  }
}

TEST(LinearReference, GradientsUnderDecay) {
  for (const bool normalise : {false, true}) {
    for (const int64_t channels : {1, 3}) {
      LinearProblem p = problem();
      p.map = FeatureMap::kEluPlusOne;
      p.normalise = normalise;
      p.decay = negative(numbers(4 * 5 * channels, 5));
      expect_gradients(p);
    }
  }
}

TEST(LinearReference, GradientsOfDeltaWrites) {
  for (const int64_t channels : {0, 1, 3}) {
    LinearProblem p = problem();
    p.beta = positive(numbers(4 * 5, 6));
    p.initial_state = numbers(4 * 3 * 2, 4);
    if (channels > 0) p.decay = negative(numbers(4 * 5 * channels, 5));
    expect_gradients(p);
  }
}

TEST(LinearReference, PackedIsSeparate) {
  LinearProblem packed = problem();
  packed.batch = 1;
  packed.q.resize(30);
  packed.k.resize(30);
  packed.v.resize(20);
  packed.cu_seqlens_q = packed.cu_seqlens_k = {0, 2, 2, 5};  // the second document is empty
  packed.decay = negative(numbers(10, 5));
  const LinearForward f = linear_attention_forward(packed);
  for (const int s : {0, 2}) {
    const int64_t begin = packed.cu_seqlens_q[s], len = packed.cu_seqlens_q[s + 1] - begin;
    LinearProblem alone = packed;
    alone.cu_seqlens_q = alone.cu_seqlens_k = {};
    alone.q_len = alone.kv_len = len;
    const auto cut = [&](const std::vector<double>& x, int64_t dim) {
      std::vector<double> out;
      for (int64_t h = 0; h < 2; ++h) {
        const auto at = x.begin() + (h * 5 + begin) * dim;
        out.insert(out.end(), at, at + len * dim);
      }
      return out;
    };
    alone.q = cut(packed.q, 3);
    alone.k = cut(packed.k, 3);
    alone.v = cut(packed.v, 2);
    alone.decay = cut(packed.decay, 1);
    EXPECT_EQ(linear_attention_forward(alone).o, cut(f.o, 2));
    const std::vector<double> state(f.final_state.begin() + s * 12,
                                    f.final_state.begin() + s * 12 + 12);
    EXPECT_EQ(linear_attention_forward(alone).final_state, state);
  }
}

TEST(LinearReference, AStateCarriesOn) {
  LinearProblem whole = problem();
  whole.batch = 1;
  whole.heads = 1;
  whole.normalise = true;
  whole.map = FeatureMap::kEluPlusOne;
  whole.q.resize(15);
  whole.k.resize(15);
  whole.v.resize(10);
  LinearProblem first = whole, second = whole;
  first.q_len = first.kv_len = 2;
  second.q_len = second.kv_len = 3;
  first.q.resize(6);
  first.k.resize(6);
  first.v.resize(4);
  second.q.erase(second.q.begin(), second.q.begin() + 6);
  second.k.erase(second.k.begin(), second.k.begin() + 6);
  second.v.erase(second.v.begin(), second.v.begin() + 4);
  second.initial_state = linear_attention_forward(first).final_state;
  const LinearForward f = linear_attention_forward(whole), end = linear_attention_forward(second);
  EXPECT_EQ(end.final_state, f.final_state);
  EXPECT_EQ(end.o, std::vector<double>(f.o.begin() + 4, f.o.end()));
}

TEST(LinearReference, WhatDoesNotFitIsNamed) {
  LinearProblem p = problem();
  p.causal = false;
  p.decay = negative(numbers(20, 5));
  try {
    linear_attention_forward(p);
    FAIL();
  } catch (const InputError& error) {
    EXPECT_THAT(error.what(), HasSubstr("no decay and no delta writes unless causal"));
  }
}

}  // namespace
}  // namespace fovea::reference
