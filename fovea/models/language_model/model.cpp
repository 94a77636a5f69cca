#include "fovea/models/language_model/model.h"

#include <ATen/ops/cat.h>
#include <ATen/ops/linear.h>

#include "fovea/nn/linear.h"
#include "fovea/nn/random.h"

namespace fovea::models {

LanguageModelImpl::LanguageModelImpl(LanguageModelConfig config) : config_(std::move(config)) {
  config_.validate("LanguageModel");
  embeddings_ = register_module("embeddings", nn::Embedding(embedding_options(config_)));
  encoder_ = register_module("encoder", nn::Encoder(encoder_options(config_)));
  if (!config_.tie_embeddings) {
    output_ =
        register_module("output", nn::make_linear(config_.model_dim, config_.vocab_size, false));
    // As the embedding table starts: logits near 0, the first loss that of a guess.
    nn::init_truncated_normal_(output_->weight, 0.02);
  }
}

const torch::Tensor& LanguageModelImpl::output_weight() const {
  return output_ ? output_->weight : embeddings_->table();
}

torch::Tensor LanguageModelImpl::features(const PackedBatch& batch) {
  const nn::Packing packing(batch.cu_seqlens);
  TORCH_CHECK(packing.max_length <= config_.max_length,
              "LanguageModel: expected documents of at most ", config_.max_length,
              " tokens, got one of ", packing.max_length);
  return encoder_(embeddings_(batch.tokens, packing), packing);
}

torch::Tensor LanguageModelImpl::step(const torch::Tensor& tokens, LanguageModelState& state) {
  TORCH_CHECK(tokens.dim() == 1 && tokens.size(0) > 0, "LanguageModel: expected ids [n], got ",
              tokens.sizes());
  const int64_t length = state.tokens + tokens.size(0);
  TORCH_CHECK(length <= config_.max_length, "LanguageModel: expected texts of at most ",
              config_.max_length, " tokens, got one of ", length);
  torch::Tensor x;
  if (incremental()) {
    const nn::Packing packing = nn::Packing::continued(state.tokens, tokens.size(0));
    x = encoder_(embeddings_(tokens, packing), packing, &state.layers);
  } else {
    state.text = state.text.defined() ? at::cat({state.text, tokens}) : tokens;
    const nn::Packing packing = nn::Packing::dense(1, length);
    x = encoder_(embeddings_(state.text, packing), packing);
  }
  state.tokens = length;
  return logits(x.slice(0, -1)).squeeze(0);
}

int64_t LanguageModelState::bytes() const {
  int64_t sum = text.defined() ? static_cast<int64_t>(text.nbytes()) : 0;
  for (const nn::AttentionState& layer : layers) sum += layer.bytes();
  return sum;
}

torch::Tensor LanguageModelImpl::logits(const torch::Tensor& features) const {
  return at::linear(features, output_weight());
}

}  // namespace fovea::models
