#pragma once

#include <cstdint>
#include <span>

#include "fovea/attention/linear_attention.h"

namespace fovea {

/// Linear attention's weights for keys that another attention has left out, joined to its result
/// under one denominator: the memory of what lies outside a window. For query i of a sequence, with
/// f = `map` and (o'_i, lse'_i) softmax attention over its window, 0 and -inf where that is empty:
///
///     w_ij = e^gain_i f(q_i)·f(k_j)         for keys j <= i - left, and for keys j >= i + right
///     lse_i = log(e^lse'_i + Σ_j w_ij)      o_i = (e^lse'_i o'_i + Σ_j w_ij v_j) / e^lse_i
///
/// `left` and `right` are at least 1, or 0 where that side is not remembered. f(q)·f(k) must be
/// >= 0. Zhang et al. 2024 (LoLCATs), eq. 6-7, has left = w + 1 and no right side.
///
/// Shapes: q [B, H, S, D], k [B, Hkv, S, D], v [B, Hkv, S, Dv], H a multiple of Hkv, of any strides
/// with a contiguous last dimension; D and Dv multiples of 8 up to 256; one dtype, f32, bf16, f16
/// or f64. gain [B, H, S], of linear attention's state type, strides of 0 allowed. cu_seqlens: as
/// linear attention's.
struct LinearMemoryProblem {
  TensorView q, k, v, gain;
  std::span<const int32_t> cu_seqlens;
  FeatureMap map = FeatureMap::kEluPlusOne;
  int64_t left = 0, right = 0;
};

/// o [B, H, S, Dv] and lse [B, H, S]: o' and lse' before, the joined ones after. lse of the states'
/// type. The backward reads the joined ones.
struct LinearMemoryResult {
  TensorView o, lse;
};

/// d_o as o, d_lse as lse or empty; d_q, d_k, d_v as q, k, v: what the memory's weights give, to
/// be added to what softmax's backward gives for the joined o and lse. d_gain [B, H, S], not with
/// strides of 0. All four are overwritten.
struct LinearMemoryGradients {
  TensorView d_o, d_lse;
  TensorView d_q, d_k, d_v, d_gain;
};

/// Joins the memory to `result`. Errors: kInvalidInput with all unmet conditions. Numerics: as
/// linear attention's; lse in the log domain, so that weights neither overflow nor vanish together;
/// o is rounded to its type once for each side. A query without a key on a side keeps its bits.
/// Bits do not depend on the thread count. Cost: that of causal linear attention for each side,
/// over n - left or n - right rows; no copies.
Status linear_memory_forward(const LinearMemoryProblem& problem, const LinearMemoryResult& result);

/// The gradients, from the joined result. Same conditions, numerics, cost as linear attention's
/// backward for each side.
Status linear_memory_backward(const LinearMemoryProblem& problem, const LinearMemoryResult& result,
                              const LinearMemoryGradients& gradients);

}  // namespace fovea
