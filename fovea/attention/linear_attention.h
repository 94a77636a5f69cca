#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "fovea/core/status.h"
#include "fovea/core/tensor_view.h"
#include "fovea/pattern/feature_map.h"

namespace fovea {

/// Linear attention for one call: softmax's weights are replaced by f(q)·f(k), so that keys and
/// values are summed up in a state of fixed size. For each sequence and head, with f = `map`:
///
///     S_t = exp(decay_t) S_{t-1} + f(k_t) v_tᵀ       z_t = exp(decay_t) z_{t-1} + f(k_t)
///     o_t = scale · S_tᵀ f(q_t)     or, normalised,  S_tᵀ f(q_t) / (z_t·f(q_t) + eps)
///
/// decay_t is a number, or one for each row of S and element of z (Diag(exp(decay_t)) S_{t-1}).
/// With beta (delta writes: what the state says about the key is replaced, not added to)
///
///     S_t = S' + beta_t f(k_t) (v_t - S'ᵀ f(k_t))ᵀ,   S' = exp(decay_t) S_{t-1}
///
/// which stays bounded where beta_t |f(k_t)|² <= 2: keys are usually normalised. Not causal: every
/// query reads the state after the last key, and there are no decay and no delta writes.
///
/// Shapes: q [B, H, Sq, D], k [B, H, Sk, D], v [B, H, Sk, Dv], Sq = Sk when causal; any strides
/// with a contiguous last dimension; D and Dv multiples of 8 up to 256, may differ. One dtype for
/// q, k, v: f32, bf16, f16 or f64. A sequence is a batch element, or, with cu_seqlens (B = 1), rows
/// [cu_seqlens[n], cu_seqlens[n + 1]). decay [B, H, S], natural logarithms <= 0, strides of 0
/// allowed (one decay a head), or [B, H, S, D]. beta [B, H, S], likewise; not with the normaliser.
/// States [N, H, D, Dv + normalise] for N sequences, contiguous, z last in a row. decay, beta and
/// states: f32 (f64 for f64 problems). Empty views: no decay, additive writes, a state of zeros.
struct LinearAttentionProblem {
  TensorView q, k, v;
  TensorView decay, beta;
  TensorView initial_state;
  std::span<const int32_t> cu_seqlens_q, cu_seqlens_k;  ///< [N + 1] each, or empty
  FeatureMap map = FeatureMap::kEluPlusOne;
  bool causal = false;
  bool normalise = true;
  double scale = 1;   ///< must be 1 when normalised
  double eps = 1e-6;  ///< added to the denominator, >= 0
};

/// o [B, H, Sq, Dv] in the problem's dtype. denominator [B, H, Sq] (last extent 1), z·f(q) + eps,
/// of the states' type; only when normalised. final_state: as initial_state, may be the same
/// memory; empty: not wanted (the backward never reads it).
struct LinearAttentionOutputs {
  TensorView o, denominator, final_state;
};

/// d_o: as o. d_final_state: as the state, or empty. d_q, d_k, d_v: as q, k, v; d_decay as decay,
/// wanted if and only if there is a decay, not with strides of 0; d_beta likewise; d_initial_state:
/// as the state, or empty. All overwritten.
struct LinearAttentionGradients {
  TensorView d_o, d_final_state;
  TensorView d_q, d_k, d_v, d_decay, d_beta, d_initial_state;
};

/// Every unmet condition of a call, each as "linear_attention: expected …, got …".
std::vector<std::string> unmet_conditions(const LinearAttentionProblem& problem,
                                          const LinearAttentionOutputs& outputs);

/// Computes o, denominator and the final state. Errors: kInvalidInput with all unmet conditions.
/// Numerics: f32 arithmetic and states for f32, bf16 and f16 storage, f64 for f64; one rounding at
/// the end. Of bf16 storage engines with a bf16 unit (avx512_bf16, scalar) round the operands of
/// products to bf16, features, states, weights and gradients, unless writes are delta: at most 3 in
/// a product of the forward, 4 of the backward, each by 2^-8 at most; sums and kept states are f32.
/// Decays are added up as logarithms, so nothing overflows at any length; bits do not depend on the
/// thread count. A NaN or infinity reaches its chunk of 16 steps (32 on avx512_bf16) and what
/// follows.
/// Cost: 4·D·Dv multiply-adds a step and head and some for the chunks, linear in the length; memory
/// beyond the results does not grow with it. Source: Katharopoulos et al. 2020; with a constant
/// decay a head Sun et al. 2023 (RetNet), with one a step Dao and Gu 2024 (Mamba-2), with one
/// a step and channel Yang et al. 2024 (GLA); delta
/// writes Yang et al. 2024 (DeltaNet), with a decay Yang et al. 2025 (Gated DeltaNet).
Status linear_attention_forward(const LinearAttentionProblem& problem,
                                const LinearAttentionOutputs& outputs);

/// One step of generation, in constant memory: a causal problem of one row a sequence, with both
/// states, which may be the same memory. Agrees with the forward to rounding, for every write and
/// decay. Cost: one pass over the states. Same conditions, numerics, threads.
Status linear_attention_step(const LinearAttentionProblem& problem,
                             const LinearAttentionOutputs& outputs);

/// Computes the gradients from the forward's o and denominator. Same conditions, numerics, threads;
/// states are recomputed. About 3 times the forward's cost. The backward of delta writes keeps a
/// state every 256 steps of a head, D·Dv/256 numbers a step.
Status linear_attention_backward(const LinearAttentionProblem& problem,
                                 const LinearAttentionOutputs& outputs,
                                 const LinearAttentionGradients& gradients);

}  // namespace fovea
