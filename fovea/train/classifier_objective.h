#pragma once

#include <utility>

#include "fovea/models/text_classifier/model.h"
#include "fovea/train/examples.h"
#include "fovea/train/objective.h"

namespace fovea::train {

/// Cross-entropy of each document's label; one target a document.
class ClassifierObjective : public Objective {
 public:
  /// Shares the model. `bf16`: under autocast.
  ClassifierObjective(models::TextClassifier model, Examples train, Examples valid, bool bf16,
                      double label_smoothing)
      : model_(std::move(model)),
        train_(std::move(train)),
        valid_(std::move(valid)),
        bf16_(bf16),
        label_smoothing_(label_smoothing) {}

  NamedTensors parameters() override;
  std::span<const int32_t> lengths() const override { return train_.lengths(); }
  int64_t targets(int64_t) const override { return 1; }
  at::Tensor loss(std::span<const int64_t> examples) override;
  io::Json evaluate(int64_t micro_tokens) override;
  std::string describe(const io::Json& metrics) const override;
  void set_gradient_checkpointing(bool on) override { model_->set_gradient_checkpointing(on); }

 private:
  models::TextClassifier model_;
  Examples train_, valid_;
  bool bf16_;
  double label_smoothing_;
};

}  // namespace fovea::train
