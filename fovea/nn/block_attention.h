#pragma once

#include <cstdint>
#include <span>

#include <ATen/core/Tensor.h>

#include "fovea/nn/packing.h"
#include "fovea/ops/attention.h"
#include "fovea/pattern/layer_attention.h"

namespace fovea::nn {

/// Softmax over blocks of packed documents, of q [T, Hq, D], k, v [T, Hkv, D], to [T, Hq, D]. Every
/// part is a call of the exact engine; parts of one softmax are merged by their lse. `arguments`:
/// dropout only. Blocks count from the start of each document, its last one may be shorter.
///
/// Mixture of block attention (Lu et al. 2025, arXiv 2502.13189, eq. 3-6 and Alg. 1): one softmax
/// over the own block (causal: up to the own position) and the blocks - 1 others (causal: of those
/// before) whose mean keys have the highest product with the query, for each query and head. The
/// choice has no gradient. In an encoder, which the paper has not, every other block may be chosen.
/// Cost: T · block · blocks pairs, and T · T / block products for the choice.
at::Tensor moba(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                const Packing& packing, int64_t block, int64_t blocks, bool causal,
                ops::AttentionArguments arguments = {});

/// Native sparse attention (Yuan et al. 2025, arXiv 2502.11089, eq. 5-12): the sum of three softmax
/// attentions, each times its gate of [T, Hq, 3] in [0, 1]:
///
///     compressed   over the mean keys and values of blocks; causal: of those that end at or before
///                  the query; nothing before the first of them
///     selected     over the tokens of `blocks` blocks: the own one, its neighbours (causal: the
///                  one before), the document's first, and those with the highest weights in the
///                  compressed softmax, summed over the query heads that share a key head
///     window       over `window` tokens: causal the last ones with the own, else half to each side
///
/// Gradients reach the summaries through the compressed branch and the gates; the choice has none.
/// Where we differ: blocks are compressed by their mean, as the flash-linear-attention library
/// does, without the paper's learned map and without overlap, and the branches share keys and
/// values. Cost: T (T / block + block · blocks + window) pairs.
at::Tensor nsa(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
               const at::Tensor& gates, const Packing& packing, int64_t block, int64_t blocks,
               int64_t window, bool causal, ops::AttentionArguments arguments = {});

/// Tokens within segments of `size`, segments within the document (after Wu et al. 2021,
/// Hi-Transformer, §3, and Chalkidis et al. 2022, whose layers alternate): attention of each token
/// within its segment, plus gate [T, Hq, 1] times what the mean query of its segment gets from the
/// mean keys and values of all segments. Causal: within the segment up to the own position, and the
/// token's own query over the segments that end at or before it, since a mean of queries would hold
/// later ones. Cost: T · size + (T / size)² pairs, causal T (size + T / size) / 2.
at::Tensor segment_encoder(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                           const at::Tensor& gate, const Packing& packing, int64_t size,
                           bool causal, ops::AttentionArguments arguments = {});

}  // namespace fovea::nn
