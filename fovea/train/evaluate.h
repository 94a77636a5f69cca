#pragma once

#include <vector>

#include "fovea/io/json.h"
#include "fovea/models/text_classifier/model.h"
#include "fovea/train/examples.h"
#include "fovea/train/metrics.h"

namespace fovea::train {

struct Evaluation {
  ConfusionMatrix confusion;
  double loss = 0;  ///< mean cross-entropy, in nats
  int64_t examples = 0;
  int64_t truncated = 0;  ///< documents

  /// accuracy, macro_f1, micro_f1, mcc, loss, examples, truncated.
  io::Json to_json() const;
};

/// Probabilities [N, C] (float32) of packed documents; no gradients, no dropout.
at::Tensor predict_probabilities(models::TextClassifier& model, const models::PackedBatch& batch,
                                 bool bf16);

/// Loss and confusion of `model` on `examples`, computed `micro_tokens` at a time; the model is in
/// evaluation mode afterwards.
Evaluation evaluate(models::TextClassifier& model, const Examples& examples, int64_t micro_tokens,
                    bool bf16);

/// Per class precision, recall, F1, and the confusion matrix, as text for people.
std::string report(const ConfusionMatrix& confusion, const std::vector<std::string>& labels);

}  // namespace fovea::train
