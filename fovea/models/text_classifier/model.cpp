#include "fovea/models/text_classifier/model.h"

#include "fovea/nn/linear.h"
#include "fovea/nn/random.h"

namespace fovea::models {

TextClassifierImpl::TextClassifierImpl(TextClassifierConfig config) : config_(std::move(config)) {
  config_.validate("TextClassifier");
  embeddings_ = register_module("embeddings", nn::Embedding(embedding_options(config_)));
  encoder_ = register_module("encoder", nn::Encoder(encoder_options(config_)));
  pooling_ = register_module(
      "pooling", nn::Pooling(nn::parse_pooling(config_.pooling), config_.model_dim, config_.heads));
  classifier_ = register_module(
      "classifier",
      nn::make_linear(config_.model_dim, static_cast<int64_t>(config_.labels.size())));
  // Features leave the last norm with size 1; a Xavier weight would make logits as large and the
  // first loss far worse than that of a guess.
  nn::init_truncated_normal_(classifier_->weight, 0.02);
}

torch::Tensor TextClassifierImpl::forward(const PackedBatch& batch) {
  const nn::Packing packing(batch.cu_seqlens);
  TORCH_CHECK(packing.max_length <= config_.max_length,
              "TextClassifier: expected documents of at most ", config_.max_length,
              " tokens, got one of ", packing.max_length);
  const at::Tensor x = encoder_(embeddings_(batch.tokens, packing), packing);
  return classifier_(pooling_(x, packing));
}

void TextClassifierImpl::set_gradient_checkpointing(bool on) {
  encoder_->set_gradient_checkpointing(on);
}

}  // namespace fovea::models
