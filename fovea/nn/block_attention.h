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

}  // namespace fovea::nn
