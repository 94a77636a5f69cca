// FOVEA_VERBOSE=1: one line a call.

#include "tests/support/attention_problem.h"
#include "tests/support/engines.h"
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "fovea/attention/decode.h"

namespace fovea::testing {
namespace {

using ::testing::MatchesRegex;

template <typename Call>
std::string said(const Call& call) {
  setenv("FOVEA_VERBOSE", "1", 1);
  ::testing::internal::CaptureStderr();
  const Status status = call();
  unsetenv("FOVEA_VERBOSE");
  std::string text = ::testing::internal::GetCapturedStderr();
  EXPECT_TRUE(status.ok()) << status.message();
  return text;
}

TEST(CallReport, SaysCaseEngineTilesAndTime) {
  const ForcedIsa forced(Isa::kScalar);
  const CaseTensors t(AttentionCase::parse("b1_h2_kv1_q70_k70_d8_f32_causal_bwd_high"));
  const std::string sizes = "attention b1_h2_kv1_q70_k70_d8_v8_f32_";
  const std::string rest =
      "_high plans 1 tiles full 1 banded 2 interval 0 bitmap 0 empty 1 engine scalar threads "
      "[0-9]+ ms [0-9.]+\n";
  EXPECT_THAT(said([&] { return attention_forward(t.problem(), t.outputs()); }),
              MatchesRegex(sizes + "fwd" + rest));
  EXPECT_THAT(said([&] { return attention_backward(t.problem(), t.outputs(), t.gradients()); }),
              MatchesRegex(sizes + "bwd" + rest));
}

TEST(CallReport, SpeaksOfDecoding) {
  const ForcedIsa forced(Isa::kScalar);
  const CaseTensors t(AttentionCase::parse("b1_h2_kv1_q1_k150_d8_f32_full_fwd"));
  DecodeProblem p;
  const int32_t length = 150;
  p.q = t.q.view();
  p.cache.k = t.k.view();
  p.cache.v = t.v.view();
  p.lengths = &length;
  p.window = 70;
  EXPECT_THAT(said([&] { return attention_decode(p, t.o.view(), t.lse.view()); }),
              MatchesRegex("attention b1_h2_kv1_q1_k150_d8_v8_f32_decode_causal70 tiles 2 engine "
                           "scalar threads [0-9]+ ms [0-9.]+\n"));
}

TEST(CallReport, KeepsQuietUnasked) {
  const CaseTensors t(AttentionCase::parse("b1_h1_q1_k1_d8_f32_full_fwd"));
  ::testing::internal::CaptureStderr();
  EXPECT_TRUE(attention_forward(t.problem(), t.outputs()).ok());
  EXPECT_EQ(::testing::internal::GetCapturedStderr(), "");
}

}  // namespace
}  // namespace fovea::testing
