// Generation token by token beside the whole text at once.
#include "fovea/models/language_model/generation.h"

#include <limits>
#include <string>
#include <vector>

#include "tests/models/causal_shapes.h"
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/torch.h>

#include "fovea/core/status.h"

namespace fovea::models {
namespace {

torch::Tensor whole(LanguageModel& model, const torch::Tensor& tokens) {
  return model(PackedBatch{tokens, torch::tensor({0, static_cast<int>(tokens.size(0))}, at::kInt)});
}

// Sums of up to E = 64 terms in another order, in each of the projections of two layers and again
// in the output; norms keep every feature near 1, and a logit is a sum of 64 features times a
// weight of 0.02. Recurrent layers divide what a chunk sums up by norms of its own size.
double tolerance(const torch::Tensor& logits, double epsilon) {
  constexpr double kProjections = 2 * 6 + 1, kTerms = 64;
  return kProjections * kTerms * epsilon * logits.abs().max().item<double>();
}

class EveryMechanism : public ::testing::TestWithParam<Shape> {};

TEST_P(EveryMechanism, StepsAreTheWhole) {
  const torch::NoGradGuard no_grad;
  for (const auto type : {at::kDouble, at::kFloat}) {
    LanguageModel model = model_of(GetParam());
    model->to(type);
    ASSERT_TRUE(model->incremental());
    const auto tokens = torch::randint(50, {150}, torch::kLong);
    const auto expected = whole(model, tokens);
    const double epsilon = type == at::kDouble ? std::numeric_limits<double>::epsilon()
                                               : std::numeric_limits<float>::epsilon();
    for (const int64_t prompt : {1, 40, 130}) {
      LanguageModelState state;
      for (int64_t at = 0; at < 150;) {
        const int64_t count = at == 0 ? prompt : 1;
        const auto logits = model->step(tokens.slice(0, at, at + count), state);
        at += count;
        ASSERT_EQ(state.tokens, at);
        ASSERT_LE((logits - expected[at - 1]).abs().max().item<double>(),
                  tolerance(expected, epsilon))
            << "after " << at << " tokens, " << prompt << " of them at once, " << type;
      }
    }
  }
}

TEST_P(EveryMechanism, GreedyTextIsThatOfTheWholePrefix) {
  LanguageModel model = model_of(GetParam());
  // Sharper logits: none of them are equal but for rounding.
  {
    const torch::NoGradGuard no_grad;
    model->named_parameters()["embeddings.tokens.weight"].mul_(20);
  }
  GenerationOptions options;
  options.max_tokens = 40;
  const std::vector<int32_t> prompt = {7, 3, 11, 3};
  const Continuation stepped = continue_greedily(model, prompt, options);
  options.recompute = true;
  EXPECT_EQ(stepped.tokens, continue_greedily(model, prompt, options).tokens);
  EXPECT_EQ(stepped.tokens.size(), 40u);
}

INSTANTIATE_TEST_SUITE_P(Layers, EveryMechanism, ::testing::ValuesIn(causal_shapes()));

// What a token sees changes with the length: only the whole text, again and again, is right.
TEST(Generation, LayersThatDependOnTheLengthAreRecomputed) {
  const torch::NoGradGuard no_grad;
  LanguageModel model = model_of({"causal & neighbourhood(9)"});
  EXPECT_FALSE(model->incremental());
  const auto tokens = torch::randint(50, {30}, torch::kLong);
  LanguageModelState state;
  for (int64_t at = 0; at < 30; ++at) {
    const auto logits = model->step(tokens.slice(0, at, at + 1), state);
    const auto expected = whole(model, tokens.slice(0, 0, at + 1))[at];
    EXPECT_LE((logits - expected).abs().max().item<double>(),
              tolerance(expected, std::numeric_limits<float>::epsilon()))
        << at;
  }
}

TEST(Generation, WindowsAndStatesKeepAConstantAmount) {
  const torch::NoGradGuard no_grad;
  for (const Shape& shape : {Shape{"window(20,0)"}, Shape{"window(20,0)", "rotary", 4, "softcap"},
                             Shape{"linear(causal)"}, Shape{"mamba2"}, Shape{"gated_deltanet"},
                             Shape{"window(20,0)+linear(causal)", "rotary", 2},
                             Shape{"gate(window(20,0)+performer(causal))"},
                             Shape{"window(20,0)+based(causal)", "rotary", 4, "sinks"}}) {
    LanguageModel model = model_of(shape);
    LanguageModelState state;
    model->step(torch::zeros({21}, torch::kLong), state);
    model->step(torch::zeros({1}, torch::kLong), state);
    const int64_t before = state.bytes();
    EXPECT_GT(before, 0);
    for (int i = 0; i < 100; ++i) model->step(torch::zeros({1}, torch::kLong), state);
    EXPECT_EQ(state.bytes(), before) << shape.attention << " " << shape.scores;
  }
}

TEST(Generation, EndsForOneOfThreeReasons) {
  LanguageModel model = model_of({"causal"});
  const std::vector<int32_t> prompt = {5, 6};
  GenerationOptions options;
  options.max_tokens = 3;
  const Continuation three = continue_greedily(model, prompt, options);
  EXPECT_EQ(three.tokens.size(), 3u);
  EXPECT_EQ(three.finish, Finish::kMaxTokens);
  options.end = three.tokens[0];
  const Continuation none = continue_greedily(model, prompt, options);
  EXPECT_TRUE(none.tokens.empty());
  EXPECT_EQ(none.finish, Finish::kEnd);
  options.end.reset();
  options.max_tokens = 1000;
  const Continuation all = continue_greedily(model, prompt, options);
  EXPECT_EQ(all.tokens.size(), 198u);
  EXPECT_EQ(all.finish, Finish::kMaxLength);
}

TEST(Generation, RefusesWhatDoesNotFit) {
  LanguageModel model = model_of({"causal"});
  const std::vector<int32_t> fits = {1}, long_one(200, 1);
  EXPECT_THROW(continue_greedily(model, {}, {}), InputError);
  EXPECT_THROW(continue_greedily(model, long_one, {}), InputError);
  GenerationOptions nothing;
  nothing.max_tokens = 0;
  EXPECT_THROW(continue_greedily(model, fits, nothing), InputError);
  const torch::NoGradGuard no_grad;
  LanguageModelState state;
  model->step(torch::zeros({3}, torch::kLong), state);
  EXPECT_THROW(model->step(torch::zeros({2}, torch::kLong), state), c10::Error) << "one at a time";
}

}  // namespace
}  // namespace fovea::models
