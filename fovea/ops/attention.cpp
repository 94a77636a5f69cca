#include "fovea/ops/attention.h"

#include <ATen/core/dispatch/Dispatcher.h>

#include "fovea/ops/attention_call.h"

namespace fovea::ops {
namespace {

template <typename Signature>
c10::TypedOperatorHandle<Signature> find(const char* name) {
  return c10::Dispatcher::singleton().findSchemaOrThrow(name, "").typed<Signature>();
}

}  // namespace

using at::Tensor;

AttentionCall call_of(std::string_view pattern, const AttentionArguments& a) {
  const auto maybe = [](const at::Tensor& x) {
    return x.defined() ? MaybeTensor(x) : std::nullopt;
  };
  return {std::string(pattern),
          a.scale,
          a.dropout_p,
          a.dropout_seed,
          a.top_left,
          maybe(a.key_lengths),
          maybe(a.intervals),
          maybe(a.block_mask),
          maybe(a.global_tokens),
          a.softcap,
          maybe(a.bias),
          maybe(a.distance_bias),
          maybe(a.alibi_slopes),
          maybe(a.sinks),
          maybe(a.scales),
          a.cosine,
          maybe(a.additive),
          a.negative_slope};
}

bool AttentionArguments::plain() const {
  if (scale || dropout_p != 0 || softcap != 0 || cosine || negative_slope != 1) return false;
  for (const Tensor* x : {&key_lengths, &intervals, &block_mask, &global_tokens, &bias,
                          &distance_bias, &alibi_slopes, &sinks, &scales, &additive}) {
    if (x->defined()) return false;
  }
  return true;
}

Pair call_attention(const Tensor& q, const Tensor& k, const Tensor& v, const AttentionCall& call) {
  static const auto op =
      find<Pair(const Tensor&, const Tensor&, const Tensor&, FOVEA_CALL_TYPES)>("fovea::attention");
  return op.call(q, k, v, FOVEA_CALL_FIELDS);
}

Gradients call_attention_backward(const Tensor& d_o, const MaybeTensor& d_lse, const Tensor& q,
                                  const Tensor& k, const Tensor& v, const Tensor& o,
                                  const Tensor& lse, const AttentionCall& call) {
  static const auto op =
      find<Gradients(const Tensor&, const MaybeTensor&, const Tensor&, const Tensor&, const Tensor&,
                     const Tensor&, const Tensor&, FOVEA_BACKWARD_TYPES)>(
          "fovea::attention_backward");
  return op.call(d_o, d_lse, q, k, v, o, lse, FOVEA_CALL_FIELDS, call.bias_gradient);
}

Pair call_attention_statistics(const Tensor& q, const Tensor& k, const Tensor& lse,
                               const AttentionCall& call) {
  static const auto op = find<Pair(const Tensor&, const Tensor&, const Tensor&, FOVEA_CALL_TYPES)>(
      "fovea::attention_statistics");
  return op.call(q, k, lse, FOVEA_CALL_FIELDS);
}

Pair call_attention_varlen(const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& cu_q,
                           const Tensor& cu_k, const AttentionCall& call) {
  static const auto op = find<Pair(const Tensor&, const Tensor&, const Tensor&, const Tensor&,
                                   const Tensor&, FOVEA_CALL_TYPES)>("fovea::attention_varlen");
  return op.call(q, k, v, cu_q, cu_k, FOVEA_CALL_FIELDS);
}

Gradients call_attention_varlen_backward(const Tensor& d_o, const MaybeTensor& d_lse,
                                         const Tensor& q, const Tensor& k, const Tensor& v,
                                         const Tensor& o, const Tensor& lse, const Tensor& cu_q,
                                         const Tensor& cu_k, const AttentionCall& call) {
  static const auto op =
      find<Gradients(const Tensor&, const MaybeTensor&, const Tensor&, const Tensor&, const Tensor&,
                     const Tensor&, const Tensor&, const Tensor&, const Tensor&,
                     FOVEA_BACKWARD_TYPES)>("fovea::attention_varlen_backward");
  return op.call(d_o, d_lse, q, k, v, o, lse, cu_q, cu_k, FOVEA_CALL_FIELDS, call.bias_gradient);
}

Pair call_attention_qkv(const Tensor& qkv, int64_t heads, const Tensor& cu_seqlens,
                        const AttentionCall& call) {
  static const auto op =
      find<Pair(const Tensor&, int64_t, const Tensor&, FOVEA_CALL_TYPES)>("fovea::attention_qkv");
  return op.call(qkv, heads, cu_seqlens, FOVEA_CALL_FIELDS);
}

QkvGradients call_attention_qkv_backward(const Tensor& d_o, const MaybeTensor& d_lse,
                                         const Tensor& qkv, const Tensor& o, const Tensor& lse,
                                         int64_t heads, const Tensor& cu_seqlens,
                                         const AttentionCall& call) {
  static const auto op =
      find<QkvGradients(const Tensor&, const MaybeTensor&, const Tensor&, const Tensor&,
                        const Tensor&, int64_t, const Tensor&, FOVEA_BACKWARD_TYPES)>(
          "fovea::attention_qkv_backward");
  return op.call(d_o, d_lse, qkv, o, lse, heads, cu_seqlens, FOVEA_CALL_FIELDS, call.bias_gradient);
}

Pair attention(const Tensor& q, const Tensor& k, const Tensor& v, std::string_view pattern,
               const AttentionArguments& arguments) {
  return call_attention(q, k, v, call_of(pattern, arguments));
}

Pair attention_statistics(const Tensor& q, const Tensor& k, const Tensor& lse,
                          std::string_view pattern, const AttentionArguments& arguments) {
  return call_attention_statistics(q, k, lse, call_of(pattern, arguments));
}

Pair attention_varlen(const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& cu_seqlens_q,
                      const Tensor& cu_seqlens_k, std::string_view pattern,
                      const AttentionArguments& arguments) {
  return call_attention_varlen(q, k, v, cu_seqlens_q, cu_seqlens_k, call_of(pattern, arguments));
}

Pair attention_qkv(const Tensor& qkv, int64_t heads, const Tensor& cu_seqlens,
                   std::string_view pattern, const AttentionArguments& arguments) {
  return call_attention_qkv(qkv, heads, cu_seqlens, call_of(pattern, arguments));
}

}  // namespace fovea::ops
