#include <string>
#include <vector>

#include "tests/models/causal_shapes.h"
#include <gtest/gtest.h>
#include <torch/torch.h>

#include "fovea/core/status.h"
#include "fovea/models/language_model/model.h"

namespace fovea::models {
namespace {

LanguageModelConfig example() {
  LanguageModelConfig config;
  config.vocab_size = 50;
  config.layers = 2;
  config.model_dim = 32;
  config.heads = 4;
  config.kv_heads = 2;
  config.ff_dim = 48;
  config.max_length = 200;
  return config;
}

PackedBatch batch_of(const std::vector<int64_t>& lengths) {
  std::vector<int32_t> offsets = {0};
  for (const int64_t n : lengths) offsets.push_back(offsets.back() + static_cast<int32_t>(n));
  return {torch::randint(50, {offsets.back()}, torch::kLong), torch::tensor(offsets, torch::kInt)};
}

TEST(LanguageModelTest, ParametersAreTheSpecs) {
  for (const bool tie : {true, false}) {
    for (const char* norm : {"pre", "post"}) {
      auto config = example();
      config.tie_embeddings = tie;
      config.norm = norm;
      LanguageModel model(config);
      std::vector<TensorSpec> specs;
      for (const auto& p : model->named_parameters()) {
        specs.push_back({p.key(), p.value().sizes().vec()});
      }
      EXPECT_EQ(specs, config.tensor_specs());
    }
  }
}

TEST(LanguageModelTest, ATiedTableLearnsFromBothEnds) {
  LanguageModel model(example());
  const PackedBatch batch = batch_of({7});
  model(batch).sum().backward();
  const auto table = model->named_parameters()["embeddings.tokens.weight"];
  EXPECT_TRUE(model->output_weight().is_same(table));
  // As output, every row has a gradient; as input, only the tokens that occur.
  EXPECT_TRUE(table.grad().abs().sum(1).gt(0).all().item<bool>());
}

TEST(LanguageModelTest, PackedIsSeparate) {
  LanguageModel model(example());
  model->eval();
  const auto batch = batch_of({70, 1, 129});
  const auto logits = model(batch);
  const int32_t* bounds = batch.cu_seqlens.const_data_ptr<int32_t>();
  for (int64_t n = 0; n < 3; ++n) {
    const auto alone =
        model(PackedBatch{batch.tokens.slice(0, bounds[n], bounds[n + 1]),
                          torch::tensor({0, bounds[n + 1] - bounds[n]}, torch::kInt)});
    const auto difference = alone - logits.slice(0, bounds[n], bounds[n + 1]);
    EXPECT_LT(difference.abs().max().item<double>(), 2e-5);
  }
}

class EveryCausalLayer : public ::testing::TestWithParam<Shape> {};

// Whatever stands at j and later: logits before j, and the gradients of a loss before j, have the
// same bits; and no gradient reaches what stands there.
TEST_P(EveryCausalLayer, NothingLaterReachesALogitOrAGradient) {
  LanguageModel model = model_of(GetParam());
  const auto batch = batch_of({150, 40});
  const auto loss = [&](const torch::Tensor& logits, int64_t j) {
    const auto targets = batch.tokens.slice(0, 1, j + 1);
    return torch::cross_entropy_loss(logits.slice(0, 0, j), targets);
  };
  const auto before = model(batch);
  for (const int64_t j : {1, 17, 64, 100, 149}) {
    PackedBatch changed = {batch.tokens.clone(), batch.cu_seqlens};
    changed.tokens.slice(0, j, 150)
        .add_(torch::randint(1, 50, {150 - j}, torch::kLong))
        .remainder_(50);
    const auto after = model(changed);
    EXPECT_TRUE(torch::equal(before.slice(0, 0, j), after.slice(0, 0, j))) << j;
    EXPECT_TRUE(torch::equal(before.slice(0, 150), after.slice(0, 150))) << j;
    EXPECT_FALSE(torch::equal(before.slice(0, j, 150), after.slice(0, j, 150))) << j;
    std::vector<torch::Tensor> parameters;  // without what is drawn, not learned
    for (const auto& p : model->parameters()) {
      if (p.requires_grad()) parameters.push_back(p);
    }
    const auto a = torch::autograd::grad({loss(before, j)}, parameters, {}, /*retain_graph=*/true);
    const auto b = torch::autograd::grad({loss(after, j)}, parameters);
    for (size_t i = 0; i < a.size(); ++i) EXPECT_TRUE(torch::equal(a[i], b[i])) << j << " " << i;
  }
}

INSTANTIATE_TEST_SUITE_P(Layers, EveryCausalLayer, ::testing::ValuesIn(causal_shapes()));

TEST(LanguageModelTest, StepRepeatsFromTheGeneratorsState) {
  auto config = example();
  config.dropout = config.attention_dropout = config.embedding_dropout = 0.2;
  LanguageModel model(config);
  const auto batch = batch_of({90, 40});
  const auto step = [&](bool checkpointing) {
    model->set_gradient_checkpointing(checkpointing);
    torch::manual_seed(5);
    return torch::autograd::grad({model(batch).square().sum()}, model->parameters());
  };
  const auto once = step(false), twice = step(true);
  for (size_t i = 0; i < once.size(); ++i) EXPECT_TRUE(torch::equal(once[i], twice[i])) << i;
}

TEST(LanguageModelTest, RefusesWhatDoesNotFit) {
  LanguageModel model(example());
  EXPECT_THROW(model(batch_of({201})), c10::Error);
  auto config = example();
  config.attention = "full";
  EXPECT_THROW(LanguageModel{config}, InputError);
}

}  // namespace
}  // namespace fovea::models
