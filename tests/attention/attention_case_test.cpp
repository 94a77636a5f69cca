#include "fovea/attention/attention_case.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "fovea/core/status.h"

namespace fovea {
namespace {

TEST(AttentionCase, ParsesEveryField) {
  const AttentionCase c =
      AttentionCase::parse("b2_h12_kv4_q2048_k1024_d64_v32_bf16_window256_bwd_drop10_topleft_bshd");
  EXPECT_EQ(c.batch, 2);
  EXPECT_EQ(c.heads, 12);
  EXPECT_EQ(c.kv_heads, 4);
  EXPECT_EQ(c.q_len, 2048);
  EXPECT_EQ(c.kv_len, 1024);
  EXPECT_EQ(c.head_dim, 64);
  EXPECT_EQ(c.value_dim, 32);
  EXPECT_EQ(c.dtype, DType::kBF16);
  EXPECT_EQ(Pattern::parse(c.pattern), Pattern::parse("window(256)"));
  EXPECT_TRUE(c.backward);
  EXPECT_EQ(c.dropout_percent, 10);
  EXPECT_EQ(c.alignment, Alignment::kTopLeft);
  EXPECT_TRUE(c.bshd);
}

TEST(AttentionCase, FillsInKeyHeadsAndValueDim) {
  const AttentionCase c = AttentionCase::parse("b1_h3_q5_k7_d16_f32_full_fwd");
  EXPECT_EQ(c.kv_heads, 3);
  EXPECT_EQ(c.value_dim, 16);
  EXPECT_FALSE(c.backward);
}

TEST(AttentionCase, WritesPatternsWithoutQuoting) {
  const struct {
    const char *form, *pattern;
  } rows[] = {{"full", "full"},
              {"causal", "causal"},
              {"causal256", "window(255,0)"},
              {"window256", "window(256,256)"},
              {"window128-0", "window(128,0)"},
              {"window64+global4", "window(64) | global(4)"},
              {"causal.segments", "causal & segments"},
              {"block_neighbours64-1-1", "block_neighbours(64,1,1)"},
              {"key_lengths", "key_lengths"},
              {"window8.segments+global1", "window(8) & segments | global(1)"}};
  for (const auto& row : rows) {
    const AttentionCase c =
        AttentionCase::parse(std::string("b1_h1_q9_k9_d8_f32_") + row.form + "_fwd");
    EXPECT_EQ(Pattern::parse(c.pattern), Pattern::parse(row.pattern)) << row.form;
  }
}

TEST(AttentionCase, PrintsWhatItParses) {
  for (const char* id :
       {"b2_h12_kv4_q2048_k2048_d64_v64_bf16_window256_fwd",
        "b1_h1_kv1_q1_k1_d8_v16_f64_causal256_bwd",
        "b1_h1_kv1_q9_k9_d8_v8_f32_window64+global4_bwd_drop50_bshd",
        "b1_h1_kv1_q9_k9_d8_v8_f32_full_bwd_high",
        "b1_h1_kv1_q9_k9_d8_v8_f32_full_fwd_medium_cosine",
        "b1_h1_kv1_q9_k9_d8_v8_f32_window3-7.segments_fwd_topleft",
        "b1_h1_kv1_q9_k9_d8_v8_f32_block_mask32_fwd",
        "b1_h1_kv1_q9_k9_d8_v8_f32_causal.segments_fwd_docs2-1-6",
        "b1_h1_kv1_q9_k9_d8_v8_f32_full_fwd_cosine_scales_softcap30_alibi_sinks_dist8_biashq",
        "b1_h1_kv1_q9_k9_d8_v8_f32_full_fwd_additive_leaky20_softcap3",
        "b1_h1_kv1_q9_k9_d8_v8_f32_full_fwd_bias"}) {
    EXPECT_EQ(AttentionCase::parse(id).to_string(), id);
  }
}

TEST(AttentionCase, PacksTheDocumentsItNames) {
  const AttentionCase c = AttentionCase::parse("b1_h1_q9_k9_d8_f32_causal.segments_fwd_docs2-1-6");
  const CaseInputs inputs(c);
  EXPECT_THAT(inputs.view().cu_seqlens_q, ::testing::ElementsAre(0, 2, 3, 9));
  EXPECT_THAT(inputs.view().cu_seqlens_k, ::testing::ElementsAre(0, 2, 3, 9));
  EXPECT_EQ(inputs.plans(c).pairs(1, 1), 2 * 3 / 2 + 1 + 6 * 7 / 2);
}

TEST(AttentionCase, SaysWhatIsWrong) {
  const struct {
    const char *id, *message;
  } rows[] = {{"h1_q9", "expected bN as field 1, got \"h1\""},
              {"b1_h1_q9_k9_d8_int8_full_fwd",
               "expected a storage type f32, bf16, f16 or f64, got \"int8\""},
              {"b1_h1_q9_k9_d8_f32_full", "expected fwd or bwd after the pattern"},
              {"b1_h1_q9_k9_d8_f32_full_fwd_x",
               "expected an option dropN (N < 100), topleft, bshd, high, medium"},
              {"b1_h1_q9_k9_d8_f32_full_fwd_biasqh", "sinks, distN, docsA-B-"},
              {"b1_h1_q9_k9_d8_f32_segments_fwd_docs4-6", "adding up to the queries"},
              {"b1_h1_q9_k9_d8_f32_segments_fwd_docs9-0", "adding up to the queries"},
              {"b1_h1_q9_k9_d8_f32_causal0_fwd", "expected causalN with N >= 1"},
              {"b1_h1_q9_k9_d8_f32_wnidow5_fwd", "wnidow"}};
  for (const auto& row : rows) {
    try {
      AttentionCase::parse(row.id);
      ADD_FAILURE() << row.id;
    } catch (const InputError& error) {
      EXPECT_THAT(error.what(), ::testing::HasSubstr(row.message));
    }
  }
}

}  // namespace
}  // namespace fovea
