#include "fovea/models/text_classifier/model.h"

#include "fovea/nn/linear.h"
#include "fovea/nn/random.h"

namespace fovea::models {
namespace {

nn::EmbeddingOptions embedding_options(const TextClassifierConfig& c) {
  return nn::EmbeddingOptions()
      .vocab_size(c.vocab_size)
      .model_dim(c.model_dim)
      .positions(nn::parse_positions(c.positions))
      .max_length(c.max_length)
      .norm_type(nn::parse_norm_type(c.norm_type))
      .dropout(c.embedding_dropout)
      .token_dropout(c.token_dropout);
}

nn::EncoderOptions encoder_options(const TextClassifierConfig& c) {
  const auto attention = nn::AttentionOptions()
                             .model_dim(c.model_dim)
                             .heads(c.heads)
                             .kv_heads(c.kv_heads)
                             .rotary(c.positions == "rotary")
                             .rope_theta(c.rope_theta)
                             .dropout(c.attention_dropout);
  const auto layer = nn::EncoderLayerOptions()
                         .attention(attention)
                         .ff_dim(c.ff_dim)
                         .activation(nn::parse_activation(c.activation))
                         .pre_norm(c.norm == "pre")
                         .norm_type(nn::parse_norm_type(c.norm_type))
                         .dropout(c.dropout);
  return nn::EncoderOptions().layer(layer).attention(parse_layers(c.attention, c.layers));
}

}  // namespace

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
