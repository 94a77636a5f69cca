#pragma once

#include <vector>

#include <torch/nn/module.h>
#include <torch/nn/modules/linear.h>
#include <torch/nn/pimpl.h>

#include "fovea/models/encoder_parts.h"
#include "fovea/models/language_model/config.h"

namespace fovea::models {

/// What a LanguageModel keeps of a text that it continues.
struct LanguageModelState {
  int64_t tokens = 0;                      ///< of the text so far
  std::vector<nn::AttentionState> layers;  ///< where the model is incremental()
  torch::Tensor text;                      ///< int64 [tokens], where it is not

  /// Of all that is kept.
  int64_t bytes() const;
};

/// Decoder-only language model over packed documents: embeddings, causal encoder layers, and an
/// output projection without bias, the embedding table itself where tied (Press and Wolf 2017).
///
/// Parameters have the names and shapes of LanguageModelConfig::tensor_specs(). The constructor
/// draws them from torch's default CPU generator, in that order. All of them are float32.
class LanguageModelImpl : public torch::nn::Module {
 public:
  /// Throws InputError where the config is not valid.
  explicit LanguageModelImpl(LanguageModelConfig config);

  /// Features [T, E] of the tokens, each a function of its document's tokens up to itself. Dropout
  /// seeds come from torch's default CPU generator, as TextClassifier::forward says. Throws
  /// c10::Error for shapes, types, ids outside the vocabulary, empty documents or documents longer
  /// than max_length.
  torch::Tensor features(const PackedBatch& batch);

  /// Logits [R, V] of the token that follows, from R rows of features(): split off, so that a loss
  /// can do without the rows that it does not want and without all logits at once.
  torch::Tensor logits(const torch::Tensor& features) const;

  /// Logits [T, V] of the token that follows each token.
  torch::Tensor forward(const PackedBatch& batch) { return logits(features(batch)); }

  /// Logits [V] of the token that follows a text, which goes on from `state` (empty: its beginning,
  /// one token or more) with `tokens` (int64 [n]; n = 1 later on). Those of forward() over the
  /// whole text, to rounding. Cost: of the new tokens, attending to what the state holds; where the
  /// model is not incremental(), of the whole text. Throws c10::Error for ids outside the
  /// vocabulary and texts longer than max_length. Meant for evaluation mode, without gradients.
  torch::Tensor step(const torch::Tensor& tokens, LanguageModelState& state);

  /// Whether step() computes the new tokens only: every layer has a cache or a recurrent state and
  /// shows a token the same tokens however the text goes on.
  bool incremental() const { return encoder_->incremental(); }

  /// See TextClassifier::set_gradient_checkpointing.
  void set_gradient_checkpointing(bool on) { encoder_->set_gradient_checkpointing(on); }

  /// What logits() multiplies by: [V, E].
  const torch::Tensor& output_weight() const;

  const LanguageModelConfig& config() const { return config_; }

 private:
  LanguageModelConfig config_;
  nn::Embedding embeddings_{nullptr};
  nn::Encoder encoder_{nullptr};
  torch::nn::Linear output_{nullptr};
};
TORCH_MODULE(LanguageModel);

}  // namespace fovea::models
