#pragma once

#include <ATen/core/Tensor.h>

#include "fovea/nn/attention_state.h"

namespace fovea::nn {

/// Adds a document's next keys and values [n, Hkv, D] to its state: all of them, and the means of
/// the blocks of `block` rows that have ended, in float32 (float64 for float64).
void append_blocks(const at::Tensor& k, const at::Tensor& v, int64_t block, AttentionState* state);

/// The same with the means of 2, 4, 8, … rows, each made from the ones below.
void append_pools(const at::Tensor& k, const at::Tensor& v, AttentionState* state);

/// What moba(), nsa(), segment_encoder() (nn/block_attention.h) and hmatrix() (nn/hmatrix.h), all
/// causal, give a document's newest token, q [1, Hq, D], whose key and value one of the above has
/// added: [1, Hq, D], to rounding. Where blocks have one score but for rounding, the choice may be
/// another. No gradients. Cost: the pairs that the token sees and, for a choice, its products with
/// the means of all blocks.
at::Tensor moba_step(const at::Tensor& q, const AttentionState& state, int64_t block,
                     int64_t blocks);
at::Tensor nsa_step(const at::Tensor& q, const at::Tensor& gates, const AttentionState& state,
                    int64_t block, int64_t blocks, int64_t window);
at::Tensor segment_encoder_step(const at::Tensor& q, const at::Tensor& gate,
                                const AttentionState& state, int64_t size);
at::Tensor hmatrix_step(const at::Tensor& q, const AttentionState& state, int64_t block);

}  // namespace fovea::nn
