#pragma once

// Small language models trained on sequences that are drawn as they are needed.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <functional>
#include <numbers>
#include <string>
#include <vector>

#include <torch/torch.h>

#include "fovea/data/sequences.h"
#include "fovea/models/language_model/model.h"
#include "fovea/train/optimizer.h"

namespace fovea {

struct Task {
  int64_t vocab = 0;
  std::function<data::MarkedSequence(data::Random&)> draw;
};

struct Learner {
  std::string attention;  ///< of the layers, one of each
  int64_t layers = 2;
  int64_t heads = 1;  ///< of 64 features together
  int64_t steps = 800;
  std::string positions = "rotary";
};

/// Sequences packed into a batch, the rows whose next token is marked, and those tokens.
struct MarkedBatch {
  models::PackedBatch packed;
  torch::Tensor rows, targets;
};

inline MarkedBatch draw_batch(const Task& task, int64_t sequences, data::Random& random) {
  std::vector<int64_t> tokens, rows, targets;
  std::vector<int32_t> offsets = {0};
  for (int64_t n = 0; n < sequences; ++n) {
    const data::MarkedSequence sequence = task.draw(random);
    for (size_t t = 0; t < sequence.tokens.size(); ++t) {
      if (sequence.marked[t]) {
        rows.push_back(static_cast<int64_t>(tokens.size()) - 1);
        targets.push_back(sequence.tokens[t]);
      }
      tokens.push_back(sequence.tokens[t]);
    }
    offsets.push_back(static_cast<int32_t>(tokens.size()));
  }
  return {{torch::tensor(tokens), torch::tensor(offsets, torch::kInt)},
          torch::tensor(rows),
          torch::tensor(targets)};
}

inline models::LanguageModel small_model(const Task& task, const Learner& learner) {
  models::LanguageModelConfig config;
  config.vocab_size = task.vocab;
  config.layers = learner.layers;
  config.model_dim = 64;
  config.heads = config.kv_heads = learner.heads;
  config.ff_dim = 128;
  config.max_length = 256;
  config.dropout = 0;
  config.positions = learner.positions;
  config.attention = learner.attention;
  torch::manual_seed(1);
  return models::LanguageModel(config);
}

inline torch::Tensor logits_of(models::LanguageModel& model, const MarkedBatch& batch) {
  return model->logits(model->features(batch.packed).index_select(0, batch.rows));
}

/// A model of 64 features after `steps` batches of 64 sequences, or ten in a row without a mistake.
inline models::LanguageModel trained(const Task& task, const Learner& learner) {
  constexpr int64_t kBatch = 64, kPatience = 10;
  constexpr double kRate = 3e-3, kWarmUp = 50;
  models::LanguageModel model = small_model(task, learner);
  train::NamedTensors parameters;
  for (auto& p : model->named_parameters()) parameters.emplace_back(p.key(), p.value());
  train::AdamW optimizer(parameters, {});
  data::Random random(1);
  int64_t faultless = 0;
  for (int64_t step = 0; step < learner.steps && faultless < kPatience; ++step) {
    const MarkedBatch batch = draw_batch(task, kBatch, random);
    const torch::Tensor logits = logits_of(model, batch);
    torch::cross_entropy_loss(logits, batch.targets).backward();
    train::clip_gradients(parameters, 1);
    const auto at = static_cast<double>(step);
    const double decay = 1 + std::cos(std::numbers::pi * at / static_cast<double>(learner.steps));
    optimizer.step(kRate * std::min(1.0, (at + 1) / kWarmUp) * decay / 2);
    faultless = logits.argmax(1).equal(batch.targets) ? faultless + 1 : 0;
  }
  model->eval();
  return model;
}

/// Share of the marked tokens of 256 new sequences that are the likeliest to the model.
inline double accuracy(models::LanguageModel& model, const Task& task) {
  const torch::NoGradGuard no_grad;
  data::Random random(1, 1);
  const MarkedBatch batch = draw_batch(task, 256, random);
  return logits_of(model, batch)
      .argmax(1)
      .eq(batch.targets)
      .to(torch::kDouble)
      .mean()
      .item<double>();
}

inline double accuracy_after_training(const Task& task, const Learner& learner) {
  models::LanguageModel model = trained(task, learner);
  return accuracy(model, task);
}

}  // namespace fovea
