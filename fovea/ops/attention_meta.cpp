// Shapes and layouts of the attention operators' results, for Meta and fake tensors.
#include <array>

#include <ATen/ops/empty.h>
#include <torch/library.h>

#include "fovea/ops/attention_call.h"

namespace fovea::ops {
namespace {

using at::Tensor;

at::TensorOptions lse_options(const Tensor& q) {
  return q.options().dtype(q.scalar_type() == at::kDouble ? at::kDouble : at::kFloat);
}

void check_dims(const char* name, int64_t dims, std::initializer_list<const Tensor*> tensors) {
  for (const Tensor* x : tensors) {
    TORCH_CHECK(x->dim() == dims, name, ": expected ", dims, "-dimensional tensors, got one of ",
                x->dim());
  }
}

/// [B, H, S, D] whose memory is [B, S, H, D].
Tensor empty_heads(const Tensor& x, const c10::SymInt& dim) {
  return at::empty_symint({x.sym_size(0), x.sym_size(2), x.sym_size(1), dim}, x.options())
      .transpose(1, 2);
}

Tensor empty_dense(const Tensor& x) { return at::empty_symint(x.sym_sizes(), x.options()); }

/// d_bias, d_distance_bias, d_sinks, d_scales, d_additive.
std::array<Tensor, 5> mod_gradients(const Tensor& q, const AttentionCall& call) {
  const auto like = [&](const MaybeTensor& x, bool wanted = true) {
    return x && wanted ? empty_dense(*x) : at::empty({0}, q.options());
  };
  return {like(call.bias, call.bias_gradient), like(call.distance_bias), like(call.sinks),
          like(call.scales), like(call.additive)};
}

Pair attention_meta(const Tensor& q, const Tensor& k, const Tensor& v, FOVEA_CALL_TYPES) {
  check_dims("fovea::attention", 4, {&q, &k, &v});
  return {empty_heads(q, v.sym_size(3)),
          at::empty_symint({q.sym_size(0), q.sym_size(1), q.sym_size(2)}, lse_options(q))};
}

Pair attention_statistics_meta(const Tensor& q, const Tensor& k, const Tensor&, FOVEA_CALL_TYPES) {
  check_dims("fovea::attention_statistics", 4, {&q, &k});
  const auto rows = [&](const c10::SymInt& length) {
    return at::empty_symint({q.sym_size(0), q.sym_size(1), length}, lse_options(q));
  };
  return {rows(q.sym_size(2)), rows(k.sym_size(2))};
}

Gradients attention_backward_meta(const Tensor&, const MaybeTensor&, const Tensor& q,
                                  const Tensor& k, const Tensor& v, const Tensor&, const Tensor&,
                                  FOVEA_BACKWARD_PARAMETERS) {
  auto [d_bias, d_distance_bias, d_sinks, d_scales, d_additive] =
      mod_gradients(q, FOVEA_BACKWARD_VALUE);
  return {empty_heads(q, q.sym_size(3)),
          empty_heads(k, k.sym_size(3)),
          empty_heads(v, v.sym_size(3)),
          d_bias,
          d_distance_bias,
          d_sinks,
          d_scales,
          d_additive};
}

Pair attention_varlen_meta(const Tensor& q, const Tensor& k, const Tensor& v, const Tensor&,
                           const Tensor&, FOVEA_CALL_TYPES) {
  check_dims("fovea::attention_varlen", 3, {&q, &k, &v});
  return {at::empty_symint({q.sym_size(0), q.sym_size(1), v.sym_size(2)}, q.options()),
          at::empty_symint({q.sym_size(1), q.sym_size(0)}, lse_options(q))};
}

Gradients attention_varlen_backward_meta(const Tensor&, const MaybeTensor&, const Tensor& q,
                                         const Tensor& k, const Tensor& v, const Tensor&,
                                         const Tensor&, const Tensor&, const Tensor&,
                                         FOVEA_BACKWARD_PARAMETERS) {
  auto [d_bias, d_distance_bias, d_sinks, d_scales, d_additive] =
      mod_gradients(q, FOVEA_BACKWARD_VALUE);
  return {empty_dense(q),  empty_dense(k), empty_dense(v), d_bias,
          d_distance_bias, d_sinks,        d_scales,       d_additive};
}

Pair attention_qkv_meta(const Tensor& qkv, int64_t heads, const Tensor&, FOVEA_CALL_TYPES) {
  check_dims("fovea::attention_qkv", 3, {&qkv});
  return {at::empty_symint({qkv.sym_size(0), heads, qkv.sym_size(2)}, qkv.options()),
          at::empty_symint({heads, qkv.sym_size(0)}, lse_options(qkv))};
}

QkvGradients attention_qkv_backward_meta(const Tensor&, const MaybeTensor&, const Tensor& qkv,
                                         const Tensor&, const Tensor&, int64_t, const Tensor&,
                                         FOVEA_BACKWARD_PARAMETERS) {
  auto [d_bias, d_distance_bias, d_sinks, d_scales, d_additive] =
      mod_gradients(qkv, FOVEA_BACKWARD_VALUE);
  return {empty_dense(qkv), d_bias, d_distance_bias, d_sinks, d_scales, d_additive};
}

}  // namespace

TORCH_LIBRARY_IMPL(fovea, Meta, m) {
  m.impl("attention", attention_meta);
  m.impl("attention_statistics", attention_statistics_meta);
  m.impl("attention_backward", attention_backward_meta);
  m.impl("attention_varlen", attention_varlen_meta);
  m.impl("attention_varlen_backward", attention_varlen_backward_meta);
  m.impl("attention_qkv", attention_qkv_meta);
  m.impl("attention_qkv_backward", attention_qkv_backward_meta);
}

}  // namespace fovea::ops
