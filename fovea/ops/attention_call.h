#pragma once

// Internal to ops: the arguments that all attention operators share, as the dispatcher passes them
// and as one struct. The macros keep the eight signatures in step with kCommon in schema.cpp.

#include <optional>
#include <string>
#include <string_view>
#include <tuple>

#include <ATen/core/Tensor.h>

#include "fovea/ops/attention.h"

#define FOVEA_CALL_PARAMETERS                                                                \
  std::string_view pattern, std::optional<double> scale, double dropout_p,                   \
      c10::SymInt dropout_seed, bool top_left, const std::optional<at::Tensor>&key_lengths,  \
      const std::optional<at::Tensor>&intervals, const std::optional<at::Tensor>&block_mask, \
      const std::optional<at::Tensor>&global_tokens, double softcap,                         \
      const std::optional<at::Tensor>&bias, const std::optional<at::Tensor>&distance_bias,   \
      const std::optional<at::Tensor>&alibi_slopes, const std::optional<at::Tensor>&sinks,   \
      const std::optional<at::Tensor>&scales, bool cosine,                                   \
      const std::optional<at::Tensor>&additive, double negative_slope
#define FOVEA_CALL_TYPES                                                          \
  std::string_view, std::optional<double>, double, c10::SymInt, bool,             \
      const std::optional<at::Tensor>&, const std::optional<at::Tensor>&,         \
      const std::optional<at::Tensor>&, const std::optional<at::Tensor>&, double, \
      const std::optional<at::Tensor>&, const std::optional<at::Tensor>&,         \
      const std::optional<at::Tensor>&, const std::optional<at::Tensor>&,         \
      const std::optional<at::Tensor>&, bool, const std::optional<at::Tensor>&, double
#define FOVEA_CALL_NAMES                                                                       \
  scale, dropout_p, dropout_seed, top_left, key_lengths, intervals, block_mask, global_tokens, \
      softcap, bias, distance_bias, alibi_slopes, sinks, scales, cosine, additive, negative_slope
#define FOVEA_CALL_VALUE \
  AttentionCall { std::string(pattern), FOVEA_CALL_NAMES }

// A call's members, as the dispatcher takes them.
#define FOVEA_CALL_FIELDS                                                                         \
  call.pattern, call.scale, call.dropout_p, call.dropout_seed, call.top_left, call.key_lengths,   \
      call.intervals, call.block_mask, call.global_tokens, call.softcap, call.bias,               \
      call.distance_bias, call.alibi_slopes, call.sinks, call.scales, call.cosine, call.additive, \
      call.negative_slope

// The backwards take one more.
#define FOVEA_BACKWARD_PARAMETERS FOVEA_CALL_PARAMETERS, bool bias_gradient
#define FOVEA_BACKWARD_TYPES FOVEA_CALL_TYPES, bool
#define FOVEA_BACKWARD_VALUE \
  AttentionCall { std::string(pattern), FOVEA_CALL_NAMES, bias_gradient }

namespace fovea::ops {

/// The shared arguments, owned.
struct AttentionCall {
  std::string pattern;
  std::optional<double> scale;
  double dropout_p;
  c10::SymInt dropout_seed;
  bool top_left;
  std::optional<at::Tensor> key_lengths, intervals, block_mask, global_tokens;
  double softcap;
  std::optional<at::Tensor> bias, distance_bias, alibi_slopes, sinks, scales;
  bool cosine;
  std::optional<at::Tensor> additive;
  double negative_slope;
  bool bias_gradient = false;
};

using Pair = std::tuple<at::Tensor, at::Tensor>;
/// d_q, d_k, d_v, and d_bias, d_distance_bias, d_sinks, d_scales, d_additive (empty where there is
/// none).
using Gradients = std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor, at::Tensor, at::Tensor,
                             at::Tensor, at::Tensor>;
/// d_qkv, and the same five.
using QkvGradients =
    std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor, at::Tensor, at::Tensor>;
using MaybeTensor = std::optional<at::Tensor>;

/// What a caller gave, in one piece.
AttentionCall call_of(std::string_view pattern, const AttentionArguments& arguments);

// The dispatcher's entries: every internal call goes through them.
Pair call_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                    const AttentionCall& call);
Gradients call_attention_backward(const at::Tensor& d_o, const MaybeTensor& d_lse,
                                  const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                                  const at::Tensor& o, const at::Tensor& lse,
                                  const AttentionCall& call);
Pair call_attention_statistics(const at::Tensor& q, const at::Tensor& k, const at::Tensor& lse,
                               const AttentionCall& call);
Pair call_attention_varlen(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                           const at::Tensor& cu_seqlens_q, const at::Tensor& cu_seqlens_k,
                           const AttentionCall& call);
Gradients call_attention_varlen_backward(const at::Tensor& d_o, const MaybeTensor& d_lse,
                                         const at::Tensor& q, const at::Tensor& k,
                                         const at::Tensor& v, const at::Tensor& o,
                                         const at::Tensor& lse, const at::Tensor& cu_seqlens_q,
                                         const at::Tensor& cu_seqlens_k, const AttentionCall& call);
Pair call_attention_qkv(const at::Tensor& qkv, int64_t heads, const at::Tensor& cu_seqlens,
                        const AttentionCall& call);
QkvGradients call_attention_qkv_backward(const at::Tensor& d_o, const MaybeTensor& d_lse,
                                         const at::Tensor& qkv, const at::Tensor& o,
                                         const at::Tensor& lse, int64_t heads,
                                         const at::Tensor& cu_seqlens, const AttentionCall& call);

}  // namespace fovea::ops
