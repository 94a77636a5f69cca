#include "fovea/train/classifier_objective.h"

#include <cstdio>

#include <ATen/ops/cross_entropy_loss.h>

#include "fovea/train/evaluate.h"
#include "fovea/train/precision.h"
#include "fovea/train/weights.h"

namespace fovea::train {

NamedTensors ClassifierObjective::parameters() { return named_parameters(*model_); }

at::Tensor ClassifierObjective::loss(std::span<const int64_t> examples) {
  model_->train();
  at::Tensor logits;
  {
    const AutocastScope autocast(bf16_);
    logits = model_->forward(train_.pack(examples));
  }
  return at::cross_entropy_loss(logits.to(at::kFloat), train_.targets(examples), {},
                                at::Reduction::Sum, -100, label_smoothing_);
}

io::Json ClassifierObjective::evaluate(int64_t micro_tokens) {
  return train::evaluate(model_, valid_, micro_tokens, bf16_).to_json();
}

std::string ClassifierObjective::describe(const io::Json& m) const {
  char text[200];
  std::snprintf(text, sizeof text, "loss %.4f, accuracy %.4f, macro F1 %.4f, MCC %.4f",
                m.value("loss", 0.0), m.value("accuracy", 0.0), m.value("macro_f1", 0.0),
                m.value("mcc", 0.0));
  return text;
}

}  // namespace fovea::train
