#include "fovea/models/text_classifier/model.h"

#include "fovea/nn/linear.h"
#include "fovea/nn/random.h"

namespace fovea::models {

TextClassifierImpl::TextClassifierImpl(TextClassifierConfig config) : config_(std::move(config)) {
  config_.validate("TextClassifier");
  embeddings_ = register_module("embeddings", nn::Embedding(embedding_options(config_)));
  nn::EncoderOptions encoder = encoder_options(config_);
  for (LayerAttention& layer : encoder.attention()) {
    layer = nn::with_summary(layer, config_.summary_tokens);
  }
  encoder_ = register_module("encoder", nn::Encoder(encoder));
  if (config_.summary_tokens > 0) {
    summary_ =
        register_module("summary", nn::SummaryTokens(config_.summary_tokens, config_.model_dim));
  }
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
  at::Tensor x = embeddings_(batch.tokens, packing);
  if (summary_) {
    x = summary_->strip(encoder_(summary_->insert(x, packing), summary_->around(packing)), packing);
  } else {
    x = encoder_(x, packing);
  }
  return classifier_(pooling_(x, packing));
}

void TextClassifierImpl::set_gradient_checkpointing(bool on) {
  encoder_->set_gradient_checkpointing(on);
}

}  // namespace fovea::models
