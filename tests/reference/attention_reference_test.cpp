// The oracle: a case computed by hand, and every gradient against central differences of the
// forward.
#include "fovea/reference/attention_reference.h"

#include <cmath>
#include <functional>
#include <limits>

#include <gmock/gmock.h>

#include "fovea/core/philox.h"
#include "fovea/core/status.h"

namespace fovea::reference {
namespace {

using ::testing::DoubleNear;
using ::testing::Each;
using ::testing::HasSubstr;

constexpr double kInfinity = std::numeric_limits<double>::infinity();

/// Numbers in [-1, 1) that depend on the stream only.
std::vector<double> numbers(int64_t count, uint32_t stream) {
  std::vector<double> x;
  for (int64_t i = 0; i < count; ++i) {
    x.push_back(philox4x32({static_cast<uint32_t>(i), stream, 0, 0}, {1, 2})[0] / 2147483648.0 - 1);
  }
  return x;
}

Problem problem(const std::string& pattern, int64_t q_len = 5, int64_t kv_len = 5) {
  Problem p;
  p.batch = 2;
  p.heads = 4;
  p.kv_heads = 2;
  p.q_len = q_len;
  p.kv_len = kv_len;
  p.head_dim = 3;
  p.value_dim = 2;
  p.q = numbers(p.batch * p.heads * q_len * p.head_dim, 1);
  p.k = numbers(p.batch * p.kv_heads * kv_len * p.head_dim, 2);
  p.v = numbers(p.batch * p.kv_heads * kv_len * p.value_dim, 3);
  p.pattern = Pattern::parse(pattern);
  p.score_mod.scale = 1.5f;
  return p;
}

/// The loss whose gradient attention_backward returns for (d_o, d_lse).
double loss(const Problem& p, const std::vector<double>& d_o, const std::vector<double>& d_lse) {
  const Forward f = attention_forward(p);
  double sum = 0;
  for (size_t n = 0; n < d_o.size(); ++n) sum += d_o[n] * f.o[n];
  for (size_t n = 0; n < d_lse.size(); ++n) {
    if (f.lse[n] != -kInfinity) sum += d_lse[n] * f.lse[n];
  }
  return sum;
}

/// Central differences with a step h have an error of h² |f'''| / 6 + eps |f| / h.
template <typename T>
void expect_gradient(const std::string& name, T* x, const std::vector<double>& gradient,
                     double step, double tolerance, const std::function<double()>& f) {
  for (size_t n = 0; n < gradient.size(); ++n) {
    const T before = x[n];
    x[n] = static_cast<T>(before + step);
    const double above = f(), x_above = x[n];
    x[n] = static_cast<T>(before - step);
    const double below = f(), x_below = x[n];
    x[n] = before;
    EXPECT_NEAR((above - below) / (x_above - x_below), gradient[n], tolerance)
        << name << "[" << n << "]";
  }
}

void expect_gradients(Problem& p, bool with_lse = true) {
  const auto d_o = numbers(p.batch * p.heads * p.q_len * p.value_dim, 11);
  const auto d_lse = with_lse ? numbers(p.batch * p.heads * p.q_len, 12) : std::vector<double>{};
  const Backward g = attention_backward(p, d_o, d_lse);
  const auto f = [&] { return loss(p, d_o, d_lse); };
  expect_gradient("d_q", p.q.data(), g.d_q, 1e-5, 1e-8, f);
  expect_gradient("d_k", p.k.data(), g.d_k, 1e-5, 1e-8, f);
  expect_gradient("d_v", p.v.data(), g.d_v, 1e-5, 1e-8, f);
  // scale and sinks are floats: a larger step keeps the difference exact, its error is h²-sized
  expect_gradient("d_scale", &p.score_mod.scale, {g.d_scale}, 1.0 / 1024, 2e-4, f);
}

TEST(AttentionReference, TwoKeysByHand) {
  // q·k = (0, ln 3) with scale 1: weights 1/4 and 3/4, denominator 4.
  Problem p;
  p.kv_len = 2;
  p.head_dim = p.value_dim = 1;
  p.q = {1};
  p.k = {0, std::log(3.0)};
  p.v = {8, 4};
  p.score_mod.scale = 1;
  const Forward f = attention_forward(p);
  EXPECT_NEAR(f.o[0], 5, 1e-15);
  EXPECT_NEAR(f.lse[0], std::log(4.0), 1e-15);
  const Backward b = attention_backward(p, {1}, {});
  EXPECT_NEAR(b.d_v[0], 0.25, 1e-15);
  EXPECT_NEAR(b.d_v[1], 0.75, 1e-15);
  EXPECT_NEAR(b.d_k[0], 0.25 * (8 - 5), 1e-15);  // w (v - o) q
  EXPECT_NEAR(b.d_k[1], 0.75 * (4 - 5), 1e-15);
  EXPECT_NEAR(b.d_q[0], -0.75 * std::log(3.0), 1e-15);
  EXPECT_NEAR(b.d_scale, -0.75 * std::log(3.0), 1e-15);
}

TEST(AttentionReference, ModificationsByHand) {
  Problem p;
  p.kv_len = 2;
  p.head_dim = p.value_dim = 1;
  p.q = {1};
  p.k = {0, 0};
  p.v = {8, 4};
  p.score_mod.scale = 1;
  // A bias of ln 3 on the second key.
  std::vector<double> bias = {0, std::log(3.0)};
  p.score_mod.bias = contiguous_view(bias.data(), DType::kF64, 1, 1, 1, 2);
  EXPECT_NEAR(attention_forward(p).o[0], 5, 1e-15);
  // A sink of ln 4 doubles the denominator: o = 5 / 2, lse = ln 8.
  const double sink = std::log(4.0);
  p.score_mod.sinks = &sink;
  EXPECT_NEAR(attention_forward(p).o[0], 2.5, 1e-15);
  EXPECT_NEAR(attention_forward(p).lse[0], std::log(8.0), 1e-15);
  // ALiBi: the query stands at key 1; key 0 is 1 away and loses ln 3.
  p.score_mod = {};
  const double slope = std::log(3.0);
  p.score_mod.alibi_slopes = &slope;
  EXPECT_NEAR(attention_forward(p).o[0], 5, 1e-6);
  // Top-left, the query stands at key 0.
  p.alignment = Alignment::kTopLeft;
  EXPECT_NEAR(attention_forward(p).o[0], 7, 1e-6);
  // Cosine: the lengths of q and k do not matter, cos = (1, -1), scale ln(3)/2 gives 3:1.
  p = {};
  p.kv_len = 2;
  p.head_dim = p.value_dim = 1;
  p.q = {7};
  p.k = {0.5, -100};
  p.v = {8, 4};
  p.score_mod.cosine = true;
  p.score_mod.scale = std::log(3.0f) / 2;
  EXPECT_NEAR(attention_forward(p).o[0], 7, 1e-6);
  // Soft-cap: 1 · tanh(x / 1) of ±atanh(ln(3) / 2) is ±ln(3) / 2.
  p.score_mod = {};
  p.score_mod.scale = 1;
  p.score_mod.softcap = 1;
  p.q = {1};
  p.k = {std::atanh(std::log(3.0) / 2), -std::atanh(std::log(3.0) / 2)};
  EXPECT_NEAR(attention_forward(p).o[0], 7, 1e-14);
}

TEST(AttentionReference, DefaultScaleIsInverseRootOfHeadDim) {
  Problem p = problem("full");
  p.score_mod.scale = 0;
  const Forward f = attention_forward(p);
  p.score_mod.scale = static_cast<float>(1 / std::sqrt(3.0));
  const Forward g = attention_forward(p);
  for (size_t n = 0; n < f.o.size(); ++n) EXPECT_NEAR(f.o[n], g.o[n], 1e-6);
}

TEST(AttentionReference, GroupedHeadsReadTheirKeyHead) {
  Problem grouped = problem("causal");
  Problem repeated = grouped;
  repeated.kv_heads = 4;
  repeated.k.clear();
  repeated.v.clear();
  for (int64_t b = 0; b < 2; ++b) {
    for (int64_t h : {0, 0, 1, 1}) {
      const int64_t row = (b * 2 + h) * grouped.kv_len;
      repeated.k.insert(repeated.k.end(), grouped.k.begin() + row * 3,
                        grouped.k.begin() + (row + grouped.kv_len) * 3);
      repeated.v.insert(repeated.v.end(), grouped.v.begin() + row * 2,
                        grouped.v.begin() + (row + grouped.kv_len) * 2);
    }
  }
  EXPECT_EQ(attention_forward(grouped).o, attention_forward(repeated).o);
}

TEST(AttentionReference, GradientsOfPatterns) {
  for (const char* pattern : {"full", "causal", "window(1,0)", "global(1)|window(0)", "chunked(2)",
                              "per_head(causal,window(1))"}) {
    SCOPED_TRACE(pattern);
    Problem p = problem(pattern);
    expect_gradients(p);
    expect_gradients(p, /*with_lse=*/false);
  }
}

TEST(AttentionReference, GradientsOfUnequalLengths) {
  for (Alignment alignment : {Alignment::kBottomRight, Alignment::kTopLeft}) {
    Problem p = problem("causal", 6, 3);
    p.alignment = alignment;
    expect_gradients(p);
    p = problem("window(1,0)", 3, 6);
    p.alignment = alignment;
    expect_gradients(p);
  }
}

TEST(AttentionReference, GradientsOfScoreModifications) {
  Problem p = problem("causal|global(1)");
  p.score_mod.cosine = true;
  expect_gradients(p);
  p.score_mod.softcap = 0.75f;
  expect_gradients(p);
  const double slopes[] = {0.5, 0.25, 0.125, 1.0};
  p.score_mod.alibi_slopes = slopes;
  expect_gradients(p);
}

TEST(AttentionReference, LeakyReluByHandAndItsGradients) {
  Problem p;
  p.kv_len = 2;
  p.head_dim = p.value_dim = 1;
  p.score_mod.scale = 1;
  p.score_mod.negative_slope = 0.25;
  p.q = {1};
  p.k = {std::log(3.0) / 2, -2 * std::log(3.0)};  // scores ±ln(3) / 2
  p.v = {8, 4};
  EXPECT_NEAR(attention_forward(p).o[0], 7, 1e-14);
  p = problem("causal|global(1)");
  p.score_mod.negative_slope = 0.2;
  expect_gradients(p);
  p.score_mod.softcap = 0.75;
  expect_gradients(p);
}

TEST(AttentionReference, AdditiveScoresByHandAndTheirGradients) {
  Problem p;
  p.kv_len = 2;
  p.head_dim = 2;
  p.value_dim = 1;
  double weights[] = {std::log(3.0), 5};
  p.score_mod.additive = contiguous_view(weights, DType::kF64, 1, 1, 1, 2);
  p.q = {1, 0.5};
  p.k = {100, -0.5, -1, -0.5};  // tanh 1 and 0; 0 and 0
  p.v = {8, 4};
  EXPECT_NEAR(attention_forward(p).o[0], 7, 1e-14);
  p = problem("window(2,1)");
  auto w = numbers(4 * 3, 9);
  p.score_mod.additive = contiguous_view(w.data(), DType::kF64, 1, 4, 1, 3);
  expect_gradients(p);
  const auto d_o = numbers(2 * 4 * 5 * 2, 11), d_lse = numbers(2 * 4 * 5, 12);
  expect_gradient("d_additive", w.data(), attention_backward(p, d_o, d_lse).d_additive, 1e-5, 1e-8,
                  [&] { return loss(p, d_o, d_lse); });
}

TEST(AttentionReference, GradientOfBias) {
  Problem p = problem("window(2,1)");
  auto bias = numbers(2 * 4 * 5 * 5, 4);
  p.score_mod.bias = contiguous_view(bias.data(), DType::kF64, 2, 4, 5, 5);
  p.score_mod.softcap = 0.75f;  // the bias is added after it
  expect_gradients(p);
  const auto d_o = numbers(2 * 4 * 5 * 2, 11), d_lse = numbers(2 * 4 * 5, 12);
  expect_gradient("d_bias", bias.data(), attention_backward(p, d_o, d_lse).d_bias, 1e-5, 1e-8,
                  [&] { return loss(p, d_o, d_lse); });
}

TEST(AttentionReference, BroadcastBiasIsTheExpandedOne) {
  Problem p = problem("full");
  auto small = numbers(4 * 5, 4);  // [1, H, 1, Sk]
  p.score_mod.bias = contiguous_view(small.data(), DType::kF64, 1, 4, 1, 5);
  const auto o = attention_forward(p).o;
  std::vector<double> large;
  for (int b = 0; b < 2; ++b) {
    for (int h = 0; h < 4; ++h) {
      for (int i = 0; i < 5; ++i) {
        large.insert(large.end(), small.begin() + h * 5, small.begin() + h * 5 + 5);
      }
    }
  }
  p.score_mod.bias = contiguous_view(large.data(), DType::kF64, 2, 4, 5, 5);
  EXPECT_EQ(o, attention_forward(p).o);
}

TEST(AttentionReference, GradientOfSinks) {
  Problem p = problem("causal");
  double sinks[] = {0.5, -0.25, 1.0, 0.0};
  p.score_mod.sinks = sinks;
  expect_gradients(p);
  const auto d_o = numbers(2 * 4 * 5 * 2, 11), d_lse = numbers(2 * 4 * 5, 12);
  expect_gradient("d_sinks", sinks, attention_backward(p, d_o, d_lse).d_sinks, 1e-5, 1e-8,
                  [&] { return loss(p, d_o, d_lse); });
}

TEST(AttentionReference, GradientOfDistanceBias) {
  Problem p = problem("window(4,2)");
  auto table = numbers(4 * 5, 4);  // distances beyond 2 share the table's ends
  p.score_mod.distance_bias = contiguous_view(table.data(), DType::kF64, 1, 4, 1, 5);
  expect_gradients(p);
  const auto d_o = numbers(2 * 4 * 5 * 2, 11), d_lse = numbers(2 * 4 * 5, 12);
  expect_gradient("d_distance_bias", table.data(),
                  attention_backward(p, d_o, d_lse).d_distance_bias, 1e-5, 1e-8,
                  [&] { return loss(p, d_o, d_lse); });
}

TEST(AttentionReference, DistanceBiasIsTheDenseBiasOfItsDistances) {
  Problem p = problem("full", 3, 5);
  auto table = numbers(4 * 5, 4);
  p.score_mod.distance_bias = contiguous_view(table.data(), DType::kF64, 1, 4, 1, 5);
  const auto o = attention_forward(p).o;
  std::vector<double> dense;
  for (int h = 0; h < 4; ++h) {
    for (int i = 0; i < 3; ++i) {
      for (int j = 0; j < 5; ++j) {
        dense.push_back(table[h * 5 + 2 + std::clamp(j - (i + 2), -2, 2)]);
      }
    }
  }
  p.score_mod = {};
  p.score_mod.scale = 1.5f;
  p.score_mod.bias = contiguous_view(dense.data(), DType::kF64, 1, 4, 3, 5);
  EXPECT_EQ(o, attention_forward(p).o);
}

TEST(AttentionReference, GradientOfScales) {
  for (const bool cosine : {false, true}) {
    Problem p = problem("causal");
    double scales[] = {0.5, -0.25, 1.0, 3.0};
    p.score_mod.scales = scales;
    p.score_mod.scale = 0;
    p.score_mod.cosine = cosine;
    const auto d_o = numbers(2 * 4 * 5 * 2, 11), d_lse = numbers(2 * 4 * 5, 12);
    const Backward g = attention_backward(p, d_o, d_lse);
    const auto f = [&] { return loss(p, d_o, d_lse); };
    expect_gradient("d_scales", scales, g.d_scales, 1e-5, 1e-8, f);
    expect_gradient("d_q", p.q.data(), g.d_q, 1e-5, 1e-8, f);
    expect_gradient("d_k", p.k.data(), g.d_k, 1e-5, 1e-8, f);
  }
}

TEST(AttentionReference, GradientsUnderDropout) {
  Problem p = problem("full");
  p.dropout_p = 0.3;
  p.dropout_seed = 0x123456789ABCDEFull;
  expect_gradients(p);
}

TEST(AttentionReference, DropoutKeepsWhatTheGeneratorKeeps) {
  Problem p = problem("full");
  p.value_dim = p.kv_len;  // v = identity: o is the matrix of dropped weights
  p.v.assign(p.batch * p.kv_heads * p.kv_len * p.kv_len, 0.0);
  for (int64_t n = 0; n < p.batch * p.kv_heads * p.kv_len; ++n) {
    p.v[n * p.kv_len + n % p.kv_len] = 1;
  }
  const Forward whole = attention_forward(p);
  p.dropout_p = 0.4;
  p.dropout_seed = 99;
  const Forward dropped = attention_forward(p);
  EXPECT_EQ(whole.lse, dropped.lse);
  int64_t n = 0, kept = 0;
  for (uint32_t b = 0; b < 2; ++b) {
    for (uint32_t h = 0; h < 4; ++h) {
      for (uint32_t i = 0; i < 5; ++i) {
        for (uint32_t j = 0; j < 5; ++j, ++n) {
          const bool keeps = dropout_keeps(99, b, h, i, j, 0.4);
          kept += keeps;
          EXPECT_NEAR(dropped.o[n], keeps ? whole.o[n] / 0.6 : 0, 1e-15);
        }
      }
    }
  }
  EXPECT_GT(kept, 0);
  EXPECT_LT(kept, n);
}

TEST(AttentionReference, PackedIsSeparate) {
  // Two documents of 2 and 3 tokens packed into one row, and alone.
  const int32_t cu[] = {0, 2, 5};
  const double slopes[] = {0.5, 0.25, 0.125, 1.0};
  Problem packed = problem("window(1,0)|global(1)");
  packed.pattern = packed.pattern.within_segments();
  packed.inputs.cu_seqlens_q = cu;
  packed.inputs.cu_seqlens_k = cu;
  packed.score_mod.alibi_slopes = slopes;
  const Forward f = attention_forward(packed);
  for (int s = 0; s < 2; ++s) {
    const int64_t begin = cu[s], len = cu[s + 1] - cu[s];
    Problem alone = problem("window(1,0)|global(1)", len, len);
    alone.score_mod.alibi_slopes = slopes;
    const auto cut = [&](const std::vector<double>& x, int64_t rows, int64_t dim) {
      std::vector<double> out;
      for (int64_t r = 0; r < rows; ++r) {
        const auto at = x.begin() + (r * 5 + begin) * dim;
        out.insert(out.end(), at, at + len * dim);
      }
      return out;
    };
    alone.q = cut(packed.q, 8, 3);
    alone.k = cut(packed.k, 4, 3);
    alone.v = cut(packed.v, 4, 2);
    EXPECT_EQ(attention_forward(alone).o, cut(f.o, 8, 2));
    EXPECT_EQ(attention_forward(alone).lse, cut(f.lse, 8, 1));
  }
}

TEST(AttentionReference, EmptyRowsAreZeroAndWithoutGradient) {
  // Bottom-right, queries 0 … 2 of 6 stand before the first of 3 keys. A sink changes nothing.
  Problem p = problem("causal", 6, 3);
  const double sinks[] = {1, 1, 1, 1};
  p.score_mod.sinks = sinks;
  const Forward f = attention_forward(p);
  const auto d_o = numbers(2 * 4 * 6 * 2, 11), d_lse = numbers(2 * 4 * 6, 12);
  const Backward g = attention_backward(p, d_o, d_lse);
  for (int64_t row = 0; row < 2 * 4 * 6; ++row) {
    if (row % 6 >= 3) continue;
    EXPECT_EQ(f.lse[row], -kInfinity);
    for (int d = 0; d < 2; ++d) EXPECT_EQ(f.o[row * 2 + d], 0);
    for (int d = 0; d < 3; ++d) EXPECT_EQ(g.d_q[row * 3 + d], 0);
  }
  p.pattern = Pattern::parse("window(0,0)&global(0)");  // nobody sees anything
  const Backward none = attention_backward(p, d_o, d_lse);
  EXPECT_THAT(none.d_v, Each(0.0));
  EXPECT_THAT(none.d_sinks, Each(0.0));
}

TEST(AttentionReference, MinusInfinityBiasHidesKeysLikeAPattern) {
  Problem masked = problem("full"), causal = problem("causal");
  std::vector<double> bias(25, 0.0);
  for (int i = 0; i < 5; ++i) {
    for (int j = i + 1; j < 5; ++j) bias[i * 5 + j] = -kInfinity;
  }
  masked.score_mod.bias = contiguous_view(bias.data(), DType::kF64, 1, 1, 5, 5);
  EXPECT_EQ(attention_forward(masked).o, attention_forward(causal).o);
  const auto d_o = numbers(2 * 4 * 5 * 2, 11);
  EXPECT_EQ(attention_backward(masked, d_o, {}).d_k, attention_backward(causal, d_o, {}).d_k);
  std::fill(bias.begin(), bias.begin() + 5, -kInfinity);  // now query 0 sees nothing
  const Forward f = attention_forward(masked);
  EXPECT_EQ(f.lse[0], -kInfinity);
  EXPECT_EQ(f.o[0], 0);
  EXPECT_EQ(attention_backward(masked, d_o, {}).d_q[0], 0);
}

TEST(AttentionReference, UnseenKeysMayBeNan) {
  Problem p = problem("window(0,0)", 3, 5);
  const Forward clean = attention_forward(p);
  for (int64_t row : {0, 1}) {  // bottom-right: queries stand at keys 2, 3, 4
    for (int64_t bh = 0; bh < 4; ++bh) {
      for (int d = 0; d < 3; ++d) p.k[(bh * 5 + row) * 3 + d] = std::nan("");
      for (int d = 0; d < 2; ++d) p.v[(bh * 5 + row) * 2 + d] = std::nan("");
    }
  }
  EXPECT_EQ(attention_forward(p).o, clean.o);
  const auto d_o = numbers(2 * 4 * 3 * 2, 11);
  for (double x : attention_backward(p, d_o, {}).d_q) EXPECT_FALSE(std::isnan(x));
  // A key that a row sees follows IEEE.
  p.k[4 * 3] = std::nan("");
  EXPECT_TRUE(std::isnan(attention_forward(p).o[2 * 2]));
}

TEST(AttentionReference, WrongSizesAreNamed) {
  Problem p = problem("full");
  p.k.pop_back();
  try {
    attention_forward(p);
    FAIL();
  } catch (const InputError& error) {
    EXPECT_THAT(error.what(), HasSubstr("expected 60 numbers in k, got 59"));
  }
}

}  // namespace
}  // namespace fovea::reference
