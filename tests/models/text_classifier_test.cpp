#include <limits>
#include <string>
#include <vector>

#include <ATen/autocast_mode.h>
#include <gtest/gtest.h>
#include <torch/torch.h>

#include "fovea/core/status.h"
#include "fovea/models/text_classifier/model.h"

namespace fovea::models {
namespace {

TextClassifierConfig example() {
  TextClassifierConfig config;
  config.vocab_size = 50;
  config.labels = {"a", "b", "c"};
  config.layers = 2;
  config.model_dim = 32;
  config.heads = 4;
  config.kv_heads = 2;
  config.ff_dim = 48;
  config.attention = "window(8)|global(1), full";
  config.max_length = 200;
  return config;
}

PackedBatch batch_of(const std::vector<int64_t>& lengths) {
  std::vector<int32_t> offsets = {0};
  for (const int64_t n : lengths) offsets.push_back(offsets.back() + static_cast<int32_t>(n));
  return {torch::randint(50, {offsets.back()}, torch::kLong), torch::tensor(offsets, torch::kInt)};
}

TEST(TextClassifierTest, ParametersOfEveryMechanismAreTheSpecs) {
  for (const char* attention :
       {"linear", "performer", "based", "hedgehog", "retnet", "gla", "mamba2", "deltanet",
        "gated_deltanet", "window(4), gla", "nsa(4,2,8), segment_encoder(4), moba(4,2)",
        "window(2)+linear, window(2,0)+performer(causal)",
        "gate(window(1)+hedgehog), window(1)+based"}) {
    auto config = example();
    config.attention = attention;
    config.heads = config.kv_heads = 2;
    config.model_dim = 32;
    TextClassifier model(config);
    std::vector<TensorSpec> specs;
    for (const auto& p : model->named_parameters()) {
      specs.push_back({p.key(), p.value().sizes().vec()});
    }
    EXPECT_EQ(specs, config.tensor_specs()) << attention;
    const at::Tensor logits = model->forward(batch_of({3, 9}));
    logits.sum().backward();
    EXPECT_TRUE(logits.isfinite().all().item<bool>()) << attention;
  }
}

TEST(TextClassifierTest, SummaryTokensCarryWhatAWindowDoesNot) {
  auto config = example();
  config.attention = "window(1), chunked(4)|window(1)";
  config.layers = 2;
  config.kv_heads = config.heads;
  config.dropout = 0;
  config.pooling = "first";
  // Two layers of window(1) and of blocks let the first token see a few; with summary tokens all.
  for (const int64_t count : {0, 3}) {
    config.summary_tokens = count;
    torch::manual_seed(2);
    TextClassifier model(config);
    model->eval();
    std::vector<TensorSpec> specs;
    for (const auto& p : model->named_parameters()) {
      specs.push_back({p.key(), p.value().sizes().vec()});
    }
    EXPECT_EQ(specs, config.tensor_specs());
    PackedBatch batch = batch_of({60, 1, 17});
    const at::Tensor before = model->forward(batch);
    batch.tokens = batch.tokens.clone();
    batch.tokens[50] = (batch.tokens[50] + 1) % 50;
    const at::Tensor after = model->forward(batch);
    EXPECT_EQ(torch::equal(before[0], after[0]), count == 0);
    EXPECT_TRUE(torch::equal(before[1], after[1])) << "documents meet";
    const PackedBatch alone = {batch.tokens.slice(0, 61), torch::tensor({0, 17}, torch::kInt)};
    EXPECT_LT((model->forward(alone)[0] - after[2]).abs().max().item<double>(), 1e-5);
    before.sum().backward();
    if (count > 0) {
      const at::Tensor gradient = model->named_parameters()["summary.weight"].grad();
      EXPECT_GT(gradient.abs().amin().item<double>(), 0);
    }
  }
}

TEST(TextClassifierTest, ParametersAreTheSpecs) {
  for (const char* positions : {"rotary", "learned", "sinusoidal", "none"}) {
    for (const char* norm : {"pre", "post"}) {
      for (const char* norm_type : {"layer", "rms"}) {
        for (const char* activation : {"gelu", "swiglu"}) {
          for (const char* pooling : {"mean", "attention"}) {
            auto config = example();
            config.positions = positions;
            config.norm = norm;
            config.norm_type = norm_type;
            config.activation = activation;
            config.pooling = pooling;
            TextClassifier model(config);
            std::vector<TensorSpec> specs;
            for (const auto& p : model->named_parameters()) {
              EXPECT_EQ(p.value().scalar_type(), torch::kFloat);
              specs.push_back({p.key(), p.value().sizes().vec()});
            }
            EXPECT_EQ(specs, config.tensor_specs());
            EXPECT_TRUE(model->named_buffers().is_empty());
          }
        }
      }
    }
  }
}

TEST(TextClassifierTest, ScoreParametersAreTheSpecs) {
  for (const char* bias : {"none", "alibi", "t5"}) {
    for (const bool others : {false, true}) {
      auto config = example();
      config.position_bias = bias;
      config.cosine = config.sinks = others;
      config.softcap = others ? 20 : 0;
      TextClassifier model(config);
      std::vector<TensorSpec> specs;
      for (const auto& p : model->named_parameters()) {
        EXPECT_EQ(p.value().scalar_type(), torch::kFloat);
        specs.push_back({p.key(), p.value().sizes().vec()});
      }
      EXPECT_EQ(specs, config.tensor_specs());
    }
  }
}

TEST(TextClassifierTest, SeedDecidesTheWeights) {
  torch::manual_seed(1);
  TextClassifier a(example());
  torch::manual_seed(1);
  TextClassifier b(example());
  TextClassifier c(example());
  EXPECT_TRUE(torch::equal(a->parameters()[0], b->parameters()[0]));
  EXPECT_FALSE(torch::equal(a->parameters()[0], c->parameters()[0]));
}

TEST(TextClassifierTest, PackedIsSeparate) {
  torch::manual_seed(2);
  for (const char* pooling : {"mean", "max", "first", "last", "attention"}) {
    auto config = example();
    config.pooling = pooling;
    TextClassifier model(config);
    model->eval();
    const auto batch = batch_of({70, 1, 130});
    const auto logits = model(batch);
    ASSERT_EQ(logits.sizes(), (torch::IntArrayRef{3, 3}));
    const int32_t* bounds = batch.cu_seqlens.const_data_ptr<int32_t>();
    for (int64_t n = 0; n < 3; ++n) {
      const auto tokens = batch.tokens.slice(0, bounds[n], bounds[n + 1]);
      const auto alone =
          model(PackedBatch{tokens, torch::tensor({0, bounds[n + 1] - bounds[n]}, torch::kInt)});
      EXPECT_LT((alone[0] - logits[n]).abs().max().item<double>(), 2e-5) << pooling;
    }
  }
}

TEST(TextClassifierTest, StepRepeatsFromTheGeneratorsState) {
  auto config = example();
  config.dropout = config.attention_dropout = config.embedding_dropout = config.token_dropout = 0.2;
  TextClassifier model(config);
  const auto batch = batch_of({90, 40});
  const auto step = [&](int threads, bool checkpointing) {
    at::set_num_threads(threads);
    model->set_gradient_checkpointing(checkpointing);
    torch::manual_seed(5);
    const auto loss = torch::cross_entropy_loss(model(batch), torch::tensor({0, 2}, torch::kLong));
    return torch::autograd::grad({loss}, model->parameters());
  };
  const int threads = at::get_num_threads();
  const auto expected = step(2, false);
  for (const auto& actual : {step(2, false), step(2, true)}) {
    for (size_t i = 0; i < expected.size(); ++i) {
      EXPECT_TRUE(torch::equal(expected[i], actual[i])) << model->named_parameters()[i].key();
    }
  }
  at::set_num_threads(threads);
}

TEST(TextClassifierTest, LearnsToTellFirstTokens) {
  // The label is the first token's class; the head reads the last token, so attention must carry
  // it.
  torch::manual_seed(3);
  auto config = example();
  config.pooling = "last";
  config.attention = "full";
  config.dropout = 0;
  TextClassifier model(config);
  torch::optim::Adam optimizer(model->parameters(), torch::optim::AdamOptions(3e-3));
  double loss_value = 0;
  for (int i = 0; i < 120; ++i) {
    const auto batch = batch_of(std::vector<int64_t>(32, 12));
    const auto labels = batch.tokens.view({32, 12}).select(1, 0) % 3;
    const auto loss = torch::cross_entropy_loss(model(batch), labels);
    optimizer.zero_grad();
    loss.backward();
    optimizer.step();
    loss_value = loss.item<double>();
  }
  EXPECT_LT(loss_value, 0.3);  // chance is log 3 = 1.1
}

TEST(TextClassifierTest, LinearAttentionLearnsToCount) {
  // The label is the commonest class of token, told by the last one: the sum that linear attention
  // keeps.
  torch::manual_seed(4);
  auto config = example();
  config.pooling = "last";
  config.attention = "linear";
  config.dropout = 0;
  TextClassifier model(config);
  torch::optim::Adam optimizer(model->parameters(), torch::optim::AdamOptions(1e-2));
  double loss_value = 0;
  for (int i = 0; i < 60; ++i) {
    const auto batch = batch_of(std::vector<int64_t>(32, 15));
    const auto classes = torch::one_hot(batch.tokens.view({32, 15}) % 3, 3);
    const auto loss = torch::cross_entropy_loss(model(batch), classes.sum(1).argmax(1));
    optimizer.zero_grad();
    loss.backward();
    optimizer.step();
    loss_value = loss.item<double>();
  }
  EXPECT_LT(loss_value, 0.6);  // chance is log 3 = 1.1
}

TEST(TextClassifierTest, RunsUnderAutocast) {
  TextClassifier model(example());
  const auto batch = batch_of({30, 20});
  model->eval();
  const auto expected = model(batch);
  at::autocast::set_autocast_enabled(at::kCPU, true);
  const auto logits = model(batch);
  at::autocast::set_autocast_enabled(at::kCPU, false);
  at::autocast::clear_cache();
  EXPECT_EQ(logits.scalar_type(), torch::kBFloat16);
  EXPECT_LT((logits.to(torch::kFloat) - expected).abs().max().item<double>(),
            0.05 * expected.abs().max().item<double>());
  logits.sum().backward();
  EXPECT_EQ(model->parameters()[0].grad().scalar_type(), torch::kFloat);
}

TEST(TextClassifierTest, RefusesBadBatches) {
  TextClassifier model(example());
  EXPECT_THROW(model(batch_of({201})), c10::Error);
  EXPECT_THROW(model(batch_of({3, 0})), c10::Error);
  auto batch = batch_of({5});
  batch.tokens[2] = 50;
  EXPECT_THROW(model(batch), c10::Error);
  auto config = example();
  config.heads = 5;
  EXPECT_THROW(TextClassifier{config}, InputError);
}

}  // namespace
}  // namespace fovea::models
