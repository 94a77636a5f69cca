#pragma once

#include <torch/nn/cloneable.h>
#include <torch/nn/pimpl.h>

#include "fovea/models/encoder_parts.h"
#include "fovea/models/text_classifier/config.h"
#include "fovea/nn/pooling.h"
#include "fovea/nn/summary_tokens.h"

namespace fovea::models {

/// Encoder with a pooling head and a linear classifier over packed documents; with summary tokens
/// (nn/summary_tokens.h) before each of them inside the encoder, where the config has some.
///
/// Parameters have the names and shapes of TextClassifierConfig::tensor_specs(). The constructor
/// draws them from torch's default CPU generator, in that order: torch::manual_seed(s) before it
/// makes a model reproducible. All of them are float32.
class TextClassifierImpl : public torch::nn::Module {
 public:
  /// Throws InputError where the config is not valid.
  explicit TextClassifierImpl(TextClassifierConfig config);

  /// Returns logits [N, C], float32 (or autocast's type). Documents do not influence one another.
  /// In training, dropout seeds are drawn from torch's default CPU generator, so restoring that
  /// generator's state repeats a step to the bit for the same number of threads. (For another
  /// number, torch's sums for the gradients of norms' weights differ in rounding; all else is
  /// equal.) Throws c10::Error for shapes, types, ids outside the vocabulary, empty documents or
  /// documents longer than max_length.
  torch::Tensor forward(const PackedBatch& batch);

  /// Keeps only each encoder layer's input for the backward and computes the layer again there:
  /// memory per layer falls to one [T, model_dim] tensor for about a third more time. Same bits.
  void set_gradient_checkpointing(bool on);

  const TextClassifierConfig& config() const { return config_; }

 private:
  TextClassifierConfig config_;
  nn::Embedding embeddings_{nullptr};
  nn::Encoder encoder_{nullptr};
  nn::SummaryTokens summary_{nullptr};
  nn::Pooling pooling_{nullptr};
  torch::nn::Linear classifier_{nullptr};
};
TORCH_MODULE(TextClassifier);

}  // namespace fovea::models
