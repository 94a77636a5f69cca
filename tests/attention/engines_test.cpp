// Every engine of the machine against the oracle, on one list of cases.

#include "tests/support/engines.h"

#include <algorithm>

#include "tests/support/oracle_check.h"
#include <gtest/gtest.h>

namespace fovea::testing {
namespace {

class Engines : public ::testing::TestWithParam<const char*> {};

TEST_P(Engines, MatchOracle) {
  const std::string id = GetParam();
  const size_t at = id.find("_T_");  // every storage type
  for (const char* type : {"f32", "bf16", "f16", "f64"}) {
    const CaseTensors t(
        AttentionCase::parse(id.substr(0, at) + "_" + type + "_" + id.substr(at + 3)));
    check_on_every_engine(t);
    if (HasFatalFailure()) return;
  }
}

class EnginesInFloat32 : public ::testing::TestWithParam<const char*> {};

TEST_P(EnginesInFloat32, MatchOracle) {
  for (const Float32Precision precision : {Float32Precision::kHigh, Float32Precision::kMedium}) {
    AttentionCase c = AttentionCase::parse(GetParam());
    c.precision = precision;
    check_on_every_engine(CaseTensors(c));
    if (HasFatalFailure()) return;
  }
}

// One query tile, several, ragged ends, every tile kind; D and Dv 8…256.
INSTANTIATE_TEST_SUITE_P(
    Lengths, Engines,
    ::testing::Values("b1_h1_q1_k1_d8_T_full_bwd", "b1_h2_q63_k63_d16_T_full_bwd",
                      "b1_h1_q64_k64_d64_T_full_bwd", "b1_h1_q65_k65_d64_T_causal_bwd",
                      "b2_h1_q127_k127_d24_T_causal_bwd", "b1_h1_q1_k257_d64_T_causal_bwd",
                      "b1_h1_q311_k311_d32_T_full_bwd", "b1_h1_q17_k131_d64_T_full_bwd",
                      "b1_h1_q131_k17_d64_T_causal_bwd", "b1_h1_q131_k70_d16_T_causal_bwd_topleft",
                      "b1_h1_q70_k131_d16_T_causal_bwd_topleft"));
INSTANTIATE_TEST_SUITE_P(
    HeadDims, Engines,
    ::testing::Values("b1_h1_q70_k70_d8_T_full_bwd", "b1_h1_q70_k70_d40_T_full_bwd",
                      "b1_h1_q70_k70_d80_T_causal_bwd", "b1_h1_q70_k70_d96_T_full_bwd",
                      "b1_h1_q70_k70_d128_T_causal_bwd", "b1_h1_q70_k70_d256_T_full_bwd",
                      "b1_h1_q70_k70_d64_v128_T_full_bwd", "b1_h1_q70_k70_d128_v8_T_causal_bwd",
                      "b1_h1_q70_k70_d8_v256_T_full_bwd", "b1_h1_q70_k70_d72_v56_T_full_bwd",
                      "b1_h1_q5_k70_d248_v104_T_full_bwd"));
INSTANTIATE_TEST_SUITE_P(
    Patterns, Engines,
    ::testing::Values(
        "b1_h1_q300_k300_d16_T_window20_bwd", "b1_h1_q300_k300_d16_T_window0_bwd",
        "b1_h1_q300_k300_d16_T_window64_bwd", "b1_h1_q300_k300_d16_T_causal100_bwd",
        "b1_h1_q200_k300_d16_T_window10-70_bwd", "b1_h1_q200_k200_d16_T_dilated8-8-3_bwd",
        "b1_h1_q200_k200_d16_T_chunked48_bwd", "b1_h1_q200_k200_d16_T_block_neighbours32_bwd",
        "b1_h1_q200_k200_d16_T_neighbourhood31_bwd", "b1_h1_q300_k300_d16_T_window16+global3_bwd",
        "b1_h1_q200_k200_d16_T_window16+global_tokens5-100_bwd",
        "b1_h1_q256_k256_d16_T_window40+global2+random_blocks64-1-7_bwd",
        "b1_h1_q200_k200_d16_T_block_mask32_bwd", "b1_h1_q200_k200_d16_T_intervals_bwd",
        "b1_h1_q300_k300_d16_T_segments_bwd", "b1_h1_q300_k300_d16_T_causal.segments_bwd",
        "b1_h2_q300_k300_d16_T_window20.segments_bwd", "b1_h1_q150_k300_d16_T_segments_bwd",
        "b3_h2_q150_k150_d16_T_key_lengths_bwd", "b3_h1_q150_k150_d16_T_causal.key_lengths_bwd",
        "b1_h1_q130_k130_d16_T_window5.chunked7_bwd"));
INSTANTIATE_TEST_SUITE_P(Heads, Engines,
                         ::testing::Values("b2_h6_kv2_q70_k70_d16_T_causal_bwd",
                                           "b1_h4_kv1_q70_k140_d16_T_window30_bwd",
                                           "b2_h3_q70_k70_d16_T_full_bwd_bshd",
                                           "b2_h4_kv2_q70_k70_d24_T_causal_bwd_bshd"));
INSTANTIATE_TEST_SUITE_P(Dropout, Engines,
                         ::testing::Values("b2_h2_q70_k70_d16_T_full_bwd_drop10",
                                           "b1_h2_q70_k150_d16_T_causal_bwd_drop50",
                                           "b1_h4_kv2_q150_k150_d32_T_window7_bwd_drop30",
                                           "b1_h1_q150_k150_d16_T_intervals_bwd_drop90"));

INSTANTIATE_TEST_SUITE_P(
    SoftCap, Engines,
    ::testing::Values("b2_h2_q70_k70_d16_T_full_bwd_softcap2",
                      "b1_h1_q131_k70_d16_T_causal_bwd_softcap1",
                      "b1_h4_kv2_q150_k150_d32_T_window7_bwd_drop30_softcap30"));
INSTANTIATE_TEST_SUITE_P(
    LeakyRelu, Engines,
    ::testing::Values("b2_h2_q70_k70_d8_T_full_bwd_leaky20",
                      "b1_h4_kv2_q140_k131_d24_T_causal_bwd_leaky1_softcap2",
                      "b1_h2_q300_k300_d16_T_window20+global1_bwd_leaky0_drop20_alibi",
                      "b1_h4_q150_k150_d16_T_segments_bwd_cosine_scales_leaky50_sinks"));
INSTANTIATE_TEST_SUITE_P(
    Additive, Engines,
    ::testing::Values("b1_h1_q70_k70_d8_T_full_bwd_additive",
                      "b2_h4_kv2_q150_k131_d16_T_causal_bwd_additive",
                      "b1_h2_q300_k300_d24_v8_T_window20+global1_bwd_additive_drop20",
                      "b1_h2_q300_k300_d16_T_causal.segments_bwd_additive_dist9",
                      "b3_h2_q150_k150_d16_T_key_lengths_bwd_additive_softcap5_sinks_alibi_biashq",
                      "b1_h2_q131_k70_d40_T_dilated8-8-3_bwd_bshd_additive_leaky10",
                      "b1_h2_q200_k200_d16_T_block_mask32_bwd_additive",
                      "b4_h8_kv4_q577_k577_d8_T_window100_bwd_additive"));
INSTANTIATE_TEST_SUITE_P(Alibi, Engines,
                         ::testing::Values("b2_h4_kv2_q150_k150_d16_T_full_bwd_alibi",
                                           "b1_h2_q70_k200_d16_T_causal_bwd_alibi",
                                           "b1_h2_q70_k200_d16_T_causal_bwd_topleft_alibi",
                                           "b1_h2_q300_k300_d16_T_causal.segments_bwd_alibi",
                                           "b1_h2_q150_k300_d16_T_segments_bwd_alibi",
                                           "b3_h2_q150_k150_d16_T_key_lengths_bwd_alibi_softcap4"));
INSTANTIATE_TEST_SUITE_P(
    Sinks, Engines,
    ::testing::Values("b2_h4_kv2_q150_k150_d16_T_causal_bwd_sinks",
                      "b1_h2_q131_k17_d16_T_causal_bwd_sinks",
                      "b3_h2_q150_k150_d16_T_window9.key_lengths_bwd_sinks_drop20",
                      "b1_h2_q300_k300_d16_T_segments_bwd_sinks_softcap5_alibi"));
INSTANTIATE_TEST_SUITE_P(
    Bias, Engines,
    ::testing::Values(
        "b2_h2_q70_k70_d16_T_full_bwd_biasbhq", "b2_h4_kv2_q150_k131_d16_T_full_bwd_biashq",
        "b2_h4_kv2_q131_k200_d16_T_causal_bwd_biasbq",
        "b2_h4_kv2_q300_k300_d8_T_window20+global1_bwd_biasq",
        "b2_h2_q150_k150_d16_T_full_bwd_biasb", "b2_h2_q150_k150_d16_T_causal_bwd_bias",
        "b3_h2_q150_k150_d16_T_key_lengths_bwd_biashq_sinks_softcap3_alibi_drop10",
        "b1_h2_q300_k300_d16_T_segments_bwd_biashq", "b1_h2_q200_k200_d16_T_intervals_bwd_biasbhq",
        "b1_h2_q200_k200_d16_T_dilated8-8-3_bwd_biashq", "b1_h2_q1_k130_d16_T_causal_bwd_biashq",
        "b2_h3_q60_k70_d16_T_causal_bwd_bshd_biash"));
INSTANTIATE_TEST_SUITE_P(
    DistanceBias, Engines,
    ::testing::Values("b2_h4_kv2_q150_k150_d16_T_full_bwd_dist20",
                      "b1_h2_q131_k70_d16_T_full_bwd_dist200",
                      "b1_h2_q70_k200_d16_T_causal_bwd_topleft_dist40",
                      "b1_h2_q300_k300_d16_T_causal.segments_bwd_dist16",
                      "b1_h2_q150_k300_d16_T_segments_bwd_dist7_alibi_biashq",
                      "b2_h2_q300_k300_d8_T_window20+global1_bwd_dist0_softcap3_drop40"));

INSTANTIATE_TEST_SUITE_P(
    Cosine, Engines,
    ::testing::Values(
        "b2_h4_kv2_q70_k131_d16_T_full_bwd_cosine",
        "b1_h8_kv2_q131_k70_d24_T_causal_bwd_cosine_scales",
        "b2_h4_kv2_q150_k150_d32_T_window9_bwd_bshd_scales_drop20",
        "b3_h4_q150_k150_d16_T_key_lengths_bwd_cosine_scales_softcap2_alibi_sinks_biashq",
        "b1_h4_q300_k300_d16_T_causal.segments_bwd_cosine_scales_dist9"));

// f32 in bf16 products, where an engine gains by it.
INSTANTIATE_TEST_SUITE_P(
    Precision, EnginesInFloat32,
    ::testing::Values("b1_h2_kv1_q131_k131_d64_f32_causal_bwd",
                      "b1_h1_q70_k200_d40_v24_f32_full_bwd",
                      "b1_h1_q65_k65_d8_v128_f32_full_bwd_bshd",
                      "b1_h2_q200_k200_d16_f32_window20+global1_bwd_drop20",
                      "b3_h2_q100_k100_d16_f32_key_lengths_bwd_cosine_scales_sinks_biashq_dist9",
                      "b1_h1_q150_k150_d32_f32_segments_bwd_softcap3_alibi"));

// Groups of several key tiles add to one query tile's gradient; GQA, window and causal.
INSTANTIATE_TEST_SUITE_P(Long, Engines,
                         ::testing::Values("b2_h16_q600_k600_d8_T_causal_bwd",
                                           "b4_h8_kv4_q577_k577_d8_T_window100_bwd",
                                           "b4_h8_q260_k260_d8_T_causal_bwd_biasbhq_dist30"));

TEST(Attention, ReadsStridedAndMisalignedRows) {
  for (const DType dtype : {DType::kF32, DType::kBF16, DType::kF16, DType::kF64}) {
    AttentionCase c = AttentionCase::parse("b2_h4_kv2_q70_k90_d40_v24_f32_causal_bwd");
    c.dtype = dtype;
    for (const int64_t pad : {1, 3, 24}) {
      SCOPED_TRACE("pad " + std::to_string(pad));
      const CaseTensors t(c, 2, pad, 5);
      check_on_every_engine(t);
      if (HasFatalFailure()) return;
    }
  }
}

TEST(Attention, TakesScaleAndNoLseGradient) {
  const AttentionCase c = AttentionCase::parse("b1_h2_q70_k70_d16_f32_causal_bwd");
  for (const float scale : {0.5f, -0.3f}) {
    CaseTensors t(c);
    t.scale = scale;
    t.with_d_lse = false;
    check_on_every_engine(t);
  }
}

// Scores in the hundreds: maxima grow over the tiles, weights underflow.
TEST(Attention, KeepsLargeScoresApart) {
  const AttentionCase c = AttentionCase::parse("b1_h1_q100_k400_d64_f32_full_bwd");
  CaseTensors t(c);
  t.k.fill(7, 12.0);
  check_on_every_engine(t);
}

// Two keys with scores 0 and -x, values (1, 0) and (0, 1): o holds the weights, whose ratio is
// e^-x.
TEST(Attention, ExponentialIsAccurate) {
  for (const Isa isa : runnable_isas()) {
    const ForcedIsa forced(isa);
    CaseTensors t(AttentionCase::parse("b1_h1_q1000_k2_d8_f32_full_fwd"));
    t.scale = 1;
    for (Tensor* tensor : {&t.k, &t.v}) {
      for (int64_t s = 0; s < 2; ++s) tensor->fill_row(0, 0, s, 0);
    }
    t.k.put(0, 0, 1, 0, 1);
    t.v.put(0, 0, 0, 0, 1);
    t.v.put(0, 0, 1, 1, 1);
    for (int64_t s = 0; s < 1000; ++s) {
      t.q.fill_row(0, 0, s, 0);
      t.q.put(0, 0, s, 0, -0.02 * static_cast<double>(s));
    }
    ASSERT_TRUE(attention_forward(t.problem(), t.outputs()).ok());
    for (int64_t s = 0; s < 1000; ++s) {
      const double x = t.q.get(0, 0, s, 0);
      const double ratio = t.o.get(0, 0, s, 1) / t.o.get(0, 0, s, 0);
      ASSERT_NEAR(ratio / std::exp(x), 1, (4 + 2 * std::fabs(x)) * eps(DType::kF32))
          << "x = " << x << " on " << name_of(isa);
    }
  }
}

// A row that sees nothing: o = 0, lse = -inf, no gradient, whatever it holds.
TEST(Attention, EmptyRowsGiveZero) {
  const AttentionCase c = AttentionCase::parse("b1_h2_q131_k17_d16_f32_causal_bwd");
  const Expected expected{CaseTensors(c)};
  for (const Isa isa : runnable_isas()) {
    const ForcedIsa forced(isa);
    SCOPED_TRACE(name_of(isa));
    const CaseTensors t(c);
    check(t, expected, isa);
    for (int64_t s = 0; s < 131 - 17; ++s) {
      ASSERT_EQ(t.o.get(0, 1, s, 3), 0);
      ASSERT_EQ(t.lse.get(0, 1, s, 0), -std::numeric_limits<double>::infinity());
      ASSERT_EQ(t.d_q.get(0, 1, s, 3), 0);
    }
  }
}

/// Puts `poison` into every query and key row that no pair of the problem uses, in the engine's
/// tensors only, and expects the oracle's clean results.
void check_unused_rows(const std::string& id, double poison) {
  const AttentionCase c = AttentionCase::parse(id);
  const Pattern pattern = Pattern::parse(c.pattern);
  const CaseTensors clean(c);
  const Expected expected(clean);
  CaseTensors dirty(c);
  int poisoned = 0;
  const auto poison_row = [&](int64_t b, int64_t row, std::initializer_list<Tensor*> tensors) {
    ++poisoned;
    for (Tensor* t : tensors) {
      for (int64_t h = 0; h < t->view().shape[1]; ++h) t->fill_row(b, h, row, poison);
    }
  };
  for (int64_t b = 0; b < c.batch; ++b) {
    const PatternScope scope{c.q_len, c.kv_len, c.alignment, b, 0, &clean.inputs.view()};
    for (int64_t q = 0; q < c.q_len; ++q) {
      bool used = false;
      for (int64_t k = 0; k < c.kv_len; ++k) used |= pattern.allows(scope, q, k);
      if (!used) poison_row(b, q, {&dirty.q, &dirty.d_o, &dirty.d_lse});
    }
    for (int64_t k = 0; k < c.kv_len; ++k) {
      bool used = false;
      for (int64_t q = 0; q < c.q_len; ++q) used |= pattern.allows(scope, q, k);
      if (!used) poison_row(b, k, {&dirty.k, &dirty.v});
    }
  }
  ASSERT_GT(poisoned, 0) << "the case must have unused rows";
  for (const Isa isa : runnable_isas()) {
    if (!has_own_engine(isa, c.dtype, c.precision)) continue;
    const ForcedIsa forced(isa);
    SCOPED_TRACE(id + " on " + name_of(isa));
    check(dirty, expected, isa);
    if (::testing::Test::HasFatalFailure()) return;
  }
}

TEST(Attention, UnusedRowsNeverLeak) {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const double inf = std::numeric_limits<double>::infinity();
  for (const std::string type : {"f32", "f32_high", "f32_medium", "bf16", "f16", "f64"}) {
    const std::string precision = type.substr(std::min(type.find('_'), type.size()));
    for (const double poison : {nan, inf}) {
      for (const std::string pattern :
           {"q131_k17_d16_T_causal", "q150_k150_d16_T_key_lengths", "q90_k300_d16_T_window5",
            "q150_k200_d16_T_intervals", "q60_k130_d16_T_dilated4-4-2",
            "q20_k190_d16_T_chunked10"}) {
        std::string id = "b2_h2_" + pattern + "_bwd" + precision;
        id.replace(id.find("_T_"), 3, "_" + type.substr(0, type.find('_')) + "_");
        check_unused_rows(id, poison);
        if (HasFatalFailure()) return;
        if (!precision.empty()) continue;
        check_unused_rows(id + "_cosine_scales_softcap5_alibi_sinks_dist9_biashq", poison);
        if (HasFatalFailure()) return;
        check_unused_rows(id + "_additive_leaky10_sinks", poison);
        if (HasFatalFailure()) return;
      }
    }
  }
}

// Packed documents: what one document holds never reaches another, even within a tile.
TEST(Attention, DocumentsNeverLeak) {
  const AttentionCase c = AttentionCase::parse("b1_h2_q300_k300_d16_f32_segments_bwd");
  for (const Isa isa : runnable_isas()) {
    const ForcedIsa forced(isa);
    SCOPED_TRACE(name_of(isa));
    CaseTensors clean(c), dirty(c);
    const auto bounds = clean.inputs.view().cu_seqlens_k;
    ASSERT_GE(bounds.size(), 4u);
    ASSERT_NE(bounds[2] % kTile, 0) << "documents must share a tile";
    for (int64_t s = bounds[1]; s < bounds[2]; ++s) {
      for (int64_t h = 0; h < c.heads; ++h) {
        for (Tensor* t : {&dirty.q, &dirty.k, &dirty.v, &dirty.d_o}) {
          t->fill_row(0, h, s, std::numeric_limits<double>::quiet_NaN());
        }
      }
    }
    for (CaseTensors* t : {&clean, &dirty}) {
      ASSERT_TRUE(attention_forward(t->problem(), t->outputs()).ok());
      ASSERT_TRUE(attention_backward(t->problem(), t->outputs(), t->gradients()).ok());
    }
    for (const auto member :
         {&CaseTensors::o, &CaseTensors::d_q, &CaseTensors::d_k, &CaseTensors::d_v}) {
      for (int64_t h = 0; h < c.heads; ++h) {
        for (int64_t s = 0; s < c.q_len; ++s) {
          for (int64_t d = 0; d < 16; ++d) {
            const double value = (dirty.*member).get(0, h, s, d);
            if (s >= bounds[1] && s < bounds[2]) {
              ASSERT_TRUE(std::isnan(value)) << "a NaN that is seen follows IEEE, row " << s;
            } else {
              ASSERT_NEAR(value, (clean.*member).get(0, h, s, d), 1e-5) << "row " << s;
            }
          }
        }
      }
    }
  }
}

TEST(Attention, BitsDoNotDependOnThreads) {
  for (const char* id :
       {"b1_h1_q900_k900_d32_f32_causal_bwd", "b1_h3_kv1_q700_k700_d32_f32_window90+global2_bwd",
        "b2_h2_q500_k500_d64_bf16_full_bwd_drop10", "b2_h2_q200_k200_d64_f16_full_bwd",
        "b1_h2_q300_k300_d16_f64_causal_bwd"}) {
    for (const Isa isa : runnable_isas()) {
      const ForcedIsa forced(isa);
      const AttentionCase c = AttentionCase::parse(id);
      CaseTensors one(c);
      {
        const ForcedThreads threads(1);
        ASSERT_TRUE(attention_forward(one.problem(), one.outputs()).ok());
        ASSERT_TRUE(attention_backward(one.problem(), one.outputs(), one.gradients()).ok());
      }
      for (const int count : {2, 5}) {
        const ForcedThreads threads(count);
        CaseTensors many(c);
        ASSERT_TRUE(attention_forward(many.problem(), many.outputs()).ok());
        ASSERT_TRUE(attention_backward(many.problem(), many.outputs(), many.gradients()).ok());
        for (const auto member : {&CaseTensors::o, &CaseTensors::lse, &CaseTensors::d_q,
                                  &CaseTensors::d_k, &CaseTensors::d_v}) {
          ASSERT_EQ((one.*member).bytes(), (many.*member).bytes())
              << id << " on " << name_of(isa) << " with " << count << " threads";
        }
      }
    }
  }
}

// A row's bits do not depend on the rows that share its tile.
TEST(Attention, CausalPrefixEqualsTruncatedRun) {
  for (const Isa isa : runnable_isas()) {
    const ForcedIsa forced(isa);
    for (const std::string type : {"f32", "bf16", "f16"}) {
      SCOPED_TRACE(type + " on " + name_of(isa));
      CaseTensors whole(AttentionCase::parse("b1_h1_q200_k200_d32_" + type + "_causal_fwd"));
      CaseTensors prefix(AttentionCase::parse("b1_h1_q91_k91_d32_" + type + "_causal_fwd"));
      for (const auto member : {&CaseTensors::q, &CaseTensors::k, &CaseTensors::v}) {
        for (int64_t s = 0; s < 91; ++s) {
          for (int64_t d = 0; d < 32; ++d) {
            (prefix.*member).put(0, 0, s, d, (whole.*member).get(0, 0, s, d));
          }
        }
      }
      ASSERT_TRUE(attention_forward(whole.problem(), whole.outputs()).ok());
      ASSERT_TRUE(attention_forward(prefix.problem(), prefix.outputs()).ok());
      for (int64_t s = 0; s < 91; ++s) {
        ASSERT_EQ(whole.lse.get(0, 0, s, 0), prefix.lse.get(0, 0, s, 0)) << "row " << s;
        for (int64_t d = 0; d < 32; ++d) {
          ASSERT_EQ(whole.o.get(0, 0, s, d), prefix.o.get(0, 0, s, d)) << "row " << s;
        }
      }
    }
  }
}

// Two halves of the keys, merged by their lse, are the whole.
TEST(Attention, MergedHalvesEqualWhole) {
  CaseTensors whole(AttentionCase::parse("b1_h1_q50_k256_d32_f64_full_fwd"));
  CaseTensors left(AttentionCase::parse("b1_h1_q50_k128_d32_f64_full_fwd"));
  CaseTensors right(AttentionCase::parse("b1_h1_q50_k128_d32_f64_full_fwd"));
  for (int64_t d = 0; d < 32; ++d) {
    for (int64_t s = 0; s < 50; ++s) {
      left.q.put(0, 0, s, d, whole.q.get(0, 0, s, d));
      right.q.put(0, 0, s, d, whole.q.get(0, 0, s, d));
    }
    for (int64_t s = 0; s < 128; ++s) {
      left.k.put(0, 0, s, d, whole.k.get(0, 0, s, d));
      left.v.put(0, 0, s, d, whole.v.get(0, 0, s, d));
      right.k.put(0, 0, s, d, whole.k.get(0, 0, 128 + s, d));
      right.v.put(0, 0, s, d, whole.v.get(0, 0, 128 + s, d));
    }
  }
  for (CaseTensors* t : {&whole, &left, &right}) {
    ASSERT_TRUE(attention_forward(t->problem(), t->outputs()).ok());
  }
  for (int64_t s = 0; s < 50; ++s) {
    const double a = left.lse.get(0, 0, s, 0), b = right.lse.get(0, 0, s, 0);
    const double lse = std::log(std::exp(a) + std::exp(b));
    EXPECT_NEAR(whole.lse.get(0, 0, s, 0), lse, 64 * eps(DType::kF64));
    for (int64_t d = 0; d < 32; ++d) {
      const double merged =
          std::exp(a - lse) * left.o.get(0, 0, s, d) + std::exp(b - lse) * right.o.get(0, 0, s, d);
      EXPECT_NEAR(whole.o.get(0, 0, s, d), merged, 64 * eps(DType::kF64));
    }
  }
}

TEST(Attention, ForcedIsaRuns) {
  for (const Isa isa : runnable_isas()) {
    const ForcedIsa forced(isa);
    EXPECT_EQ(engine_name(DType::kBF16), name_of(isa));
    const bool emulated = isa == Isa::kAmxEmulated;
    EXPECT_EQ(engine_name(DType::kF32),
              name_of(emulated ? Isa::kScalar : std::min(isa, Isa::kAvx512)));
    EXPECT_EQ(engine_name(DType::kF16), engine_name(DType::kF32));
    EXPECT_EQ(engine_name(DType::kF64), "scalar");
  }
}

}  // namespace
}  // namespace fovea::testing
