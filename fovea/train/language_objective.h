#pragma once

#include <utility>

#include "fovea/models/language_model/model.h"
#include "fovea/train/language_data.h"
#include "fovea/train/objective.h"

namespace fovea::train {

/// How well a language model predicts texts.
struct LanguageEvaluation {
  double loss_sum = 0;  ///< in nats
  int64_t correct = 0;  ///< targets that were the likeliest token
  int64_t targets = 0, documents = 0, pieces = 0, tokens = 0, bytes = 0;

  /// loss (nats a target), perplexity, accuracy (of targets), bits_per_byte (where each byte is
  /// predicted), targets, documents, pieces, tokens.
  io::Json to_json() const;
};

/// Evaluates `model` on `examples`, `micro_tokens` at a time, without dropout; the model is in
/// evaluation mode afterwards.
LanguageEvaluation evaluate(models::LanguageModel& model, const LanguageExamples& examples,
                            int64_t micro_tokens, bool bf16);

/// Metrics in a line for people.
std::string describe_language_metrics(const io::Json& metrics);

/// Cross-entropy of each target token given those before it in its piece.
class LanguageObjective : public Objective {
 public:
  /// Shares the model. `bf16`: under autocast.
  LanguageObjective(models::LanguageModel model, LanguageExamples train, LanguageExamples valid,
                    bool bf16, double label_smoothing)
      : model_(std::move(model)),
        train_(std::move(train)),
        valid_(std::move(valid)),
        bf16_(bf16),
        label_smoothing_(label_smoothing) {}

  NamedTensors parameters() override;
  std::span<const int32_t> lengths() const override { return train_.pieces.lengths(); }
  int64_t targets(int64_t example) const override { return train_.targets_of(example); }
  at::Tensor loss(std::span<const int64_t> examples) override;
  io::Json evaluate(int64_t micro_tokens) override;
  std::string describe(const io::Json& metrics) const override {
    return describe_language_metrics(metrics);
  }
  void set_gradient_checkpointing(bool on) override { model_->set_gradient_checkpointing(on); }

 private:
  models::LanguageModel model_;
  LanguageExamples train_, valid_;
  bool bf16_;
  double label_smoothing_;
};

}  // namespace fovea::train
