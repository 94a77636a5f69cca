// What attention refuses, and how it says so.

#include "tests/support/attention_problem.h"
#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace fovea::testing {
namespace {

using ::testing::Contains;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

TEST(AttentionConditions, NoneOnAGoodProblem) {
  const CaseTensors t(AttentionCase::parse("b1_h4_kv2_q9_k7_d16_v8_bf16_causal_fwd"));
  EXPECT_THAT(unmet_conditions(t.problem(), t.outputs()), IsEmpty());
}

TEST(AttentionConditions, NamesEveryUnmetOneAtOnce) {
  const CaseTensors t(AttentionCase::parse("b1_h4_kv2_q9_k7_d16_f32_causal_fwd"));
  AttentionProblem p = t.problem();
  p.q.shape[3] = 12;
  p.k.shape[1] = 3;
  p.v.dtype = DType::kBF16;
  p.dropout_p = 1;
  p.plans = nullptr;
  AttentionOutputs out = t.outputs();
  out.lse.shape[2] = 8;
  const std::vector<std::string> unmet = unmet_conditions(p, out);
  EXPECT_THAT(unmet, Contains(HasSubstr("last extent of q a multiple of 8 in [8, 256], got 12")));
  EXPECT_THAT(unmet, Contains(HasSubstr("query heads a multiple of key heads, got 4 and 3")));
  EXPECT_THAT(unmet, Contains(HasSubstr("expected v of f32, got bf16")));
  EXPECT_THAT(unmet, Contains(HasSubstr("dropout_p in [0, 1)")));
  EXPECT_THAT(unmet, Contains(HasSubstr("plans of the pattern")));
  EXPECT_THAT(unmet, Contains(HasSubstr("lse [B, Hq, Sq] = [1, 4, 9], got [1, 4, 8]")));

  const Status status = attention_forward(p, out);
  EXPECT_EQ(status.code(), ErrorCode::kInvalidInput);
  for (const std::string& condition : unmet) EXPECT_THAT(status.message(), HasSubstr(condition));
}

TEST(AttentionConditions, RefusesStridedFeaturesAndForeignPlans) {
  const CaseTensors t(AttentionCase::parse("b1_h1_q9_k7_d16_f32_causal_fwd"));
  const CaseTensors other(AttentionCase::parse("b1_h1_q9_k8_d16_f32_causal_fwd"));
  AttentionProblem p = t.problem();
  p.k.strides[3] = 2;
  p.plans = &other.plans;
  const auto unmet = unmet_conditions(p, t.outputs());
  EXPECT_THAT(unmet, Contains(HasSubstr("k with a contiguous last dimension, got stride 2")));
  EXPECT_THAT(unmet, Contains(HasSubstr("plans for q_len 9, kv_len 7, got q_len 9, kv_len 8")));
}

TEST(AttentionConditions, BackwardChecksItsOwnTensors) {
  const CaseTensors t(AttentionCase::parse("b1_h2_q9_k7_d16_f32_causal_bwd"));
  AttentionGradients g = t.gradients();
  g.d_k.shape[2] = 6;
  g.d_q.dtype = DType::kF64;
  const Status status = attention_backward(t.problem(), t.outputs(), g);
  EXPECT_EQ(status.code(), ErrorCode::kInvalidInput);
  EXPECT_THAT(status.message(), HasSubstr("d_k [B, H, S, D] = [1, 2, 7, 16], got [1, 2, 6, 16]"));
  EXPECT_THAT(status.message(), HasSubstr("d_q of f32, got f64"));
}

TEST(AttentionConditions, ScoreModificationsMustFit) {
  const CaseTensors t(AttentionCase::parse("b3_h2_q9_k7_d16_f32_causal_bwd_biasbhq_dist3"));
  AttentionProblem p = t.problem();
  const double slopes[2] = {1, std::numeric_limits<double>::infinity()};
  p.score_mod.alibi_slopes = slopes;
  p.score_mod.softcap = -30;
  p.score_mod.bias.shape[0] = 2;
  p.score_mod.distance_bias.shape[3] = 6;
  p.score_mod.distance_bias.dtype = DType::kF64;
  const auto unmet = unmet_conditions(p, t.outputs());
  EXPECT_THAT(unmet, Contains(HasSubstr("a finite softcap >= 0, got -30")));
  EXPECT_THAT(unmet, Contains(HasSubstr("bias [1 or 3, 1 or 2, 1 or 9, 7], got [2, 2, 9, 7]")));
  EXPECT_THAT(unmet,
              Contains(HasSubstr("odd number of distances in distance_bias, -m … m, got 6")));
  EXPECT_THAT(unmet, Contains(HasSubstr("distance_bias of f32, got f64")));
  EXPECT_THAT(unmet, Contains(HasSubstr("finite alibi_slopes, got inf for head 1")));
}

TEST(AttentionConditions, AdditiveScoresMustFit) {
  const CaseTensors t(AttentionCase::parse("b1_h2_q9_k7_d16_f32_causal_bwd_additive"));
  AttentionProblem p = t.problem();
  p.score_mod.additive.shape[3] = 8;
  p.score_mod.cosine = true;
  p.score_mod.negative_slope = -0.5;
  const auto unmet = unmet_conditions(p, t.outputs());
  EXPECT_THAT(unmet, Contains(HasSubstr("additive [1, 1 or 2, 1, 16], got [1, 2, 1, 8]")));
  EXPECT_THAT(unmet, Contains(HasSubstr("neither scale nor scales nor cosine with additive")));
  EXPECT_THAT(unmet, Contains(HasSubstr("a negative_slope in [0, 1], got -0.5")));
  AttentionGradients g = t.gradients();
  p = t.problem();
  p.score_mod.additive = {};
  EXPECT_THAT(attention_backward(p, t.outputs(), g).message(),
              HasSubstr("no d_additive without the bias"));
}

TEST(AttentionConditions, GradientsOfScoreModificationsMustFit) {
  const CaseTensors t(AttentionCase::parse("b3_h2_q9_k7_d16_f32_causal_bwd_biashq"));
  AttentionGradients g = t.gradients();
  g.d_bias.shape[1] = 1;
  g.d_distance_bias = g.d_bias;
  double sink = 0;
  g.d_sinks = g.d_scales = &sink;
  const Status status = attention_backward(t.problem(), t.outputs(), g);
  EXPECT_EQ(status.code(), ErrorCode::kInvalidInput);
  EXPECT_THAT(status.message(), HasSubstr("d_bias of the bias = [1, 2, 9, 7], got [1, 1, 9, 7]"));
  EXPECT_THAT(status.message(), HasSubstr("no d_distance_bias without the bias"));
  EXPECT_THAT(status.message(), HasSubstr("no d_sinks without sinks"));
  EXPECT_THAT(status.message(), HasSubstr("no d_scales without scales"));
}

TEST(AttentionConditions, EmptyProblemsAreFine) {
  CaseTensors t(AttentionCase::parse("b1_h2_q9_k7_d16_f32_causal_bwd"));
  AttentionProblem p = t.problem();
  AttentionOutputs out = t.outputs();
  for (TensorView* view : {&p.q, &p.k, &p.v, &out.o, &out.lse}) view->shape[0] = 0;
  EXPECT_TRUE(attention_forward(p, out).ok());
}

}  // namespace
}  // namespace fovea::testing
