#pragma once

#include <string>

#include <torch/nn/cloneable.h>
#include <torch/nn/modules/embedding.h>
#include <torch/nn/pimpl.h>

#include "fovea/nn/norm.h"
#include "fovea/nn/packing.h"

namespace fovea::nn {

/// What tells a model where a token stands; positions restart in every document.
enum class Positions {
  kNone,
  kLearned,     ///< a trained vector for each position
  kSinusoidal,  ///< Vaswani et al. 2017, §3.5, scaled to the tokens' size at initialisation
  kRotary,      ///< in the attention layers (AttentionOptions::rotary)
};

/// rotary, learned, sinusoidal, none; throws InputError that lists them.
Positions parse_positions(const std::string& name);

struct EmbeddingOptions {
  TORCH_ARG(int64_t, vocab_size) = 0;
  TORCH_ARG(int64_t, model_dim) = 0;
  TORCH_ARG(Positions, positions) = Positions::kNone;
  TORCH_ARG(int64_t, max_length) = 0;  ///< rows of the learned position table
  TORCH_ARG(NormType, norm_type) = NormType::kLayer;
  TORCH_ARG(double, dropout) = 0;        ///< of elements, after the norm
  TORCH_ARG(double, token_dropout) = 0;  ///< of whole tokens' vectors, before positions are added
};

/// norm(tokens[id] + position): [T] ids to [T, E]. Parameters: tokens.weight [V, E],
/// positions.weight [max_length, E] where learned, norm.weight (and .bias). Tables start as normal
/// of deviation 0.02: the norm makes their scale immaterial to the layers above.
class EmbeddingImpl : public torch::nn::Module {
 public:
  explicit EmbeddingImpl(const EmbeddingOptions& options);
  /// ids: int64 [T]. Throws c10::Error for ids outside the vocabulary and documents that are longer
  /// than a learned table.
  at::Tensor forward(const at::Tensor& ids, const Packing& packing);

  /// tokens.weight, for an output projection that shares it.
  const at::Tensor& table() const { return tokens_->weight; }

  EmbeddingOptions options;

 private:
  torch::nn::Embedding tokens_{nullptr};
  torch::nn::Embedding positions_{nullptr};
  Norm norm_{nullptr};
};
TORCH_MODULE(Embedding);

}  // namespace fovea::nn
