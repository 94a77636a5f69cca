#pragma once

#include <cstdint>

#include <ATen/core/Tensor.h>

#include "fovea/nn/packing.h"
#include "fovea/ops/attention.h"

namespace fovea::nn {

/// Attention as a hierarchical matrix (Zhu and Soricut 2021, arXiv 2107.11906, H-Transformer-1D,
/// §5-6), of q [T, Hq, D], k, v [T, Hkv, D] of packed documents, to [T, Hq, D]:
///
///     o_i = Σ_j w_ij v_j / Σ_j w_ij,   w_ij = exp(q_i^l · k_j^l / sqrt(D)),   l = level(i, j)
///
/// where x_i^l is the mean over the 2^l tokens of i's pool, fewer at a document's end, and level(i,
/// j) the first at which i and j stand in the same or adjacent blocks of `block` pools: exact near
/// the diagonal, coarser the farther away. All levels share one softmax: each is a call of the
/// exact engine over pools (pattern block_ring), where a key weighs as many as its pool holds, and
/// they are merged by their lse.
///
/// Causal, where we differ: the published form pools queries, whose means hold later tokens; here
/// queries are not pooled, only keys and values. Every pool that a query then sees lies before it.
///
/// block: even. `arguments`: dropout only, of pools. Cost: T · 4.5 block pairs; causal T · 0.75
/// block log2(T / block).
at::Tensor hmatrix(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                   const Packing& packing, int64_t block, bool causal,
                   ops::AttentionArguments arguments = {});

}  // namespace fovea::nn
