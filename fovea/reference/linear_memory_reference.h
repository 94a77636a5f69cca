#pragma once

#include <cstdint>
#include <vector>

#include "fovea/pattern/feature_map.h"

namespace fovea::reference {

/// Keys outside a window, weighed as linear attention weighs them and joined to what softmax
/// attention (o', lse') made of the window, in double precision, contiguous: q, k [B, H, S, D],
/// v, o' [B, H, S, Dv], gain, lse' [B, H, S]. With f the feature map:
///
///     w_ij = exp(gain_i) f(q_i)·f(k_j)     j <= i - left where left > 0, j >= i + right where
///     right
///                                          > 0, i and j of one sequence
///     lse_i = log(exp(lse'_i) + Σ_j w_ij)
///     o_i = exp(lse'_i - lse_i) o'_i + Σ_j exp(-lse_i) w_ij v_j
struct MemoryProblem {
  int64_t batch = 1, heads = 1, len = 1, head_dim = 8, value_dim = 8;
  std::vector<double> q, k, v, gain;
  std::vector<double> o, lse;  ///< o' and lse'
  FeatureMap map = FeatureMap::kIdentity;
  int64_t left = 0, right = 0;
  std::vector<int64_t> cu_seqlens;  ///< packed documents of a batch of 1, [N + 1]; empty: none
};

struct MemoryForward {
  std::vector<double> o, lse;
};

struct MemoryBackward {
  std::vector<double> d_q, d_k, d_v, d_gain;
  std::vector<double> d_o, d_lse;  ///< of o' and lse'
};

/// The definition, pair by pair. O(B·H·S²·D).
MemoryForward linear_memory_forward(const MemoryProblem& problem);

/// Its chain rule. d_lse: [B, H, S] or empty.
MemoryBackward linear_memory_backward(const MemoryProblem& problem, const std::vector<double>& d_o,
                                      const std::vector<double>& d_lse);

}  // namespace fovea::reference
