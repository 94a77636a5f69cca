#pragma once

#include <tuple>

#include <ATen/core/Tensor.h>

#include "fovea/pattern/feature_map.h"

namespace fovea::ops {

/// What the linear attention operators take beside their tensors; see attention/linear_attention.h.
struct LinearAttentionArguments {
  /// Natural logarithms <= 0: [B, H, S], packed [T, H], or one a channel, [B, H, S, D], [T, H, D].
  at::Tensor decay;
  at::Tensor beta;           ///< strengths of delta writes, [B, H, S]; additive when absent
  at::Tensor initial_state;  ///< [N, H, D, Dv + normalise]; zeros when absent
  FeatureMap map = FeatureMap::kEluPlusOne;
  bool causal = false;
  bool normalise = true;
  double scale = 1;  ///< of unnormalised outputs
  double eps = 1e-6;
};

/// Linear attention, differentiable in q, k, v, decay, beta and initial_state (Katharopoulos et
/// al. 2020).
///
/// Shapes: q [B, H, Sq, D], k [B, H, Sk, D], v [B, H, Sk, Dv], Sq = Sk when causal, D and Dv
/// multiples of 8 up to 256; float32, bfloat16, float16 or float64.
/// Returns o [B, H, Sq, Dv], whose memory is laid out [B, Sq, H, Dv], and the final state
/// [N, H, D, Dv + normalise] (float32; float64 for float64), N = B. Errors: c10::Error that lists
/// every unmet condition. Numerics, cost: attention/linear_attention.h. Threads:
/// at::get_num_threads(). Autocast: its lower type for q, k, v.
std::tuple<at::Tensor, at::Tensor> linear_attention(const at::Tensor& q, const at::Tensor& k,
                                                    const at::Tensor& v,
                                                    const LinearAttentionArguments& arguments = {});

/// The same over packed documents: q [Tq, H, D], k [Tk, H, D], v [Tk, H, Dv], cu_seqlens int32 or
/// int64 [N + 1] on the CPU. Returns o [Tq, H, Dv] and the N documents' final states.
std::tuple<at::Tensor, at::Tensor> linear_attention_varlen(
    const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const at::Tensor& cu_seqlens_q,
    const at::Tensor& cu_seqlens_k, const LinearAttentionArguments& arguments = {});

/// One step of generation in constant memory: q, k [B, H, D], v [B, H, Dv], state
/// [B, H, D, Dv + normalise]; of the arguments decay [B, H] or [B, H, D] and beta [B, H], and
/// neither `causal` nor `initial_state`. Returns o [B, H, Dv] and the next state. Where a graph
/// is recorded it is linear_attention() of one token, with its gradients.
std::tuple<at::Tensor, at::Tensor> linear_attention_step(
    const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const at::Tensor& state,
    const LinearAttentionArguments& arguments = {});

}  // namespace fovea::ops
