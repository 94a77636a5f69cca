#include "fovea/models/encoder_parts.h"

namespace fovea::models {

nn::EmbeddingOptions embedding_options(const EncoderConfig& c) {
  return nn::EmbeddingOptions()
      .vocab_size(c.vocab_size)
      .model_dim(c.model_dim)
      .positions(nn::parse_positions(c.positions))
      .max_length(c.max_length)
      .norm_type(nn::parse_norm_type(c.norm_type))
      .dropout(c.embedding_dropout)
      .token_dropout(c.token_dropout);
}

nn::EncoderOptions encoder_options(const EncoderConfig& c) {
  const auto attention = nn::AttentionOptions()
                             .model_dim(c.model_dim)
                             .heads(c.heads)
                             .kv_heads(c.kv_heads)
                             .rotary(c.positions == "rotary")
                             .rope_theta(c.rope_theta)
                             .dropout(c.attention_dropout)
                             .scores(nn::parse_scores(c.scores))
                             .position_bias(nn::parse_position_bias(c.position_bias))
                             .bias_buckets(c.bias_buckets)
                             .bias_max_distance(c.bias_max_distance)
                             .softcap(c.softcap)
                             .cosine(c.cosine)
                             .sinks(c.sinks);
  const auto layer = nn::EncoderLayerOptions()
                         .attention(attention)
                         .ff_dim(c.ff_dim)
                         .activation(nn::parse_activation(c.activation))
                         .pre_norm(c.norm == "pre")
                         .norm_type(nn::parse_norm_type(c.norm_type))
                         .dropout(c.dropout);
  return nn::EncoderOptions().layer(layer).attention(parse_layers(c.attention, c.layers));
}

}  // namespace fovea::models
