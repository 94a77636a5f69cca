#pragma once

// Internal to ops: the arguments that the linear attention operators share, as the dispatcher
// passes them and as one struct, in the order of kLinear in schema.cpp.

#include <optional>
#include <string>
#include <string_view>
#include <tuple>

#include <ATen/core/Tensor.h>

#define FOVEA_LINEAR_TYPES                                                \
  const std::optional<at::Tensor>&, const std::optional<at::Tensor>&,     \
      const std::optional<at::Tensor>&, const std::optional<at::Tensor>&, \
      const std::optional<at::Tensor>&, std::string_view, bool, bool, double, double
#define FOVEA_LINEAR_PARAMETERS                                                                    \
  const std::optional<at::Tensor>&decay, const std::optional<at::Tensor>&beta,                     \
      const std::optional<at::Tensor>&initial_state, const std::optional<at::Tensor>&cu_seqlens_q, \
      const std::optional<at::Tensor>&cu_seqlens_k, std::string_view map, bool causal,             \
      bool normalise, double scale, double eps
#define FOVEA_LINEAR_VALUE                                                                       \
  LinearCall {                                                                                   \
    decay, beta, initial_state, cu_seqlens_q, cu_seqlens_k, std::string(map), causal, normalise, \
        scale, eps                                                                               \
  }

#define FOVEA_STEP_PARAMETERS                                                             \
  const at::Tensor &q, const at::Tensor &k, const at::Tensor &v, const at::Tensor &state, \
      const std::optional<at::Tensor>&decay, const std::optional<at::Tensor>&beta,        \
      std::string_view map, bool normalise, double scale, double eps

namespace fovea::ops {

/// The shared arguments, owned.
struct LinearCall {
  std::optional<at::Tensor> decay, beta, initial_state, cu_seqlens_q, cu_seqlens_k;
  std::string map;
  bool causal, normalise;
  double scale, eps;
};

/// o, denominator, final_state.
using LinearOutputs = std::tuple<at::Tensor, at::Tensor, at::Tensor>;
/// d_q, d_k, d_v, d_decay, d_beta, d_initial_state.
using LinearGradients =
    std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor, at::Tensor, at::Tensor>;

// The dispatcher's entries: every internal call goes through them.
LinearOutputs call_linear_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                                    const LinearCall& call);
LinearGradients call_linear_attention_backward(const at::Tensor& d_o,
                                               const std::optional<at::Tensor>& d_final_state,
                                               const at::Tensor& q, const at::Tensor& k,
                                               const at::Tensor& v, const at::Tensor& o,
                                               const at::Tensor& denominator,
                                               const LinearCall& call);

/// One step as a call over a sequence of length 1: q, k, v and the rest with a dimension more.
/// Checks their dimensions.
LinearCall step_call(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                     const at::Tensor& state, const std::optional<at::Tensor>& decay,
                     const std::optional<at::Tensor>& beta, std::string_view map, bool normalise,
                     double scale, double eps);

}  // namespace fovea::ops
