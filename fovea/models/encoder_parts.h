#pragma once

#include "fovea/models/encoder_config.h"
#include "fovea/nn/embedding.h"
#include "fovea/nn/encoder.h"

namespace fovea::models {

/// Documents packed one after another: no padding. Document n is
/// tokens[cu_seqlens[n] : cu_seqlens[n + 1]).
struct PackedBatch {
  torch::Tensor tokens;      ///< int64 [T], ids below vocab_size
  torch::Tensor cu_seqlens;  ///< int32 [N + 1], ascending from 0 to T; no document is empty
};

/// What `config` says of the embeddings and of the encoder.
nn::EmbeddingOptions embedding_options(const EncoderConfig& config);
nn::EncoderOptions encoder_options(const EncoderConfig& config);

}  // namespace fovea::models
