#pragma once

#include <cstdint>
#include <vector>

#include "fovea/pattern/feature_map.h"

namespace fovea::reference {

/// Linear attention in double precision, contiguous: q [B, H, Sq, D], k [B, H, Sk, D],
/// v [B, H, Sk, Dv]. With f the feature map and one state S [D, Dv], z [D] for each sequence and
/// head:
///
///     S' = exp(g_t) S_{t-1}               g_t = decay: one number a step, or one a row of S
///     S_t = S' + f(k_t) v_tᵀ                              additive write
///     S_t = S' + β_t f(k_t) (v_t - S'ᵀ f(k_t))ᵀ           delta write
///     z_t = exp(g_t) z_{t-1} + f(k_t)
///     o_t = scale · S_tᵀ f(q_t),   or  S_tᵀ f(q_t) / (z_t·f(q_t) + eps)  when `normalise`
///
/// Not causal: every query reads the last state; no decay, additive writes only.
struct LinearProblem {
  int64_t batch = 1, heads = 1, q_len = 1, kv_len = 1, head_dim = 8, value_dim = 8;
  std::vector<double> q, k, v;
  std::vector<double> decay;  ///< empty, [B, H, S] or [B, H, S, D]: natural logarithms, <= 0
  std::vector<double> beta;   ///< [B, H, S]: delta writes; empty: additive writes
  FeatureMap map = FeatureMap::kIdentity;
  bool causal = true, normalise = false;
  double scale = 1, eps = 0;
  /// Packed documents of a batch of 1, [N + 1] each; empty: every batch element is a sequence.
  std::vector<int64_t> cu_seqlens_q, cu_seqlens_k;
  std::vector<double> initial_state;  ///< [N, H, D, Dv + normalise], last column z; empty: zeros
};

struct LinearForward {
  std::vector<double> o;            ///< [B, H, Sq, Dv]
  std::vector<double> denominator;  ///< [B, H, Sq] z·f(q) + eps; empty unless normalised
  std::vector<double> final_state;  ///< as initial_state
};

struct LinearBackward {
  std::vector<double> d_q, d_k, d_v, d_decay, d_beta, d_initial_state;  ///< shapes as given
};

/// The recurrence, step by step. O(B·H·S·D·Dv).
LinearForward linear_attention_forward(const LinearProblem& problem);

/// Its chain rule, with every state in memory. d_final_state: as final_state, or empty.
LinearBackward linear_attention_backward(const LinearProblem& problem,
                                         const std::vector<double>& d_o,
                                         const std::vector<double>& d_final_state);

}  // namespace fovea::reference
