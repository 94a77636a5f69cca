// Autograd and autocast of the attention operators. The backwards call dispatcher operators only,
// so that tracing (torch.compile, export) sees through them.
#include <algorithm>

#include <ATen/autocast_mode.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

#include "fovea/ops/attention_saved.h"
#include "fovea/ops/once.h"

namespace fovea::ops {
namespace {

using at::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

struct AttentionFunction : torch::autograd::Function<AttentionFunction> {
  static variable_list forward(AutogradContext* ctx, const Tensor& q, const Tensor& k,
                               const Tensor& v, const MaybeTensor& /*bias*/,
                               const MaybeTensor& /*distance_bias*/, const MaybeTensor& /*sinks*/,
                               const MaybeTensor& /*scales*/, const MaybeTensor& /*additive*/,
                               const AttentionCall& call) {
    at::AutoDispatchBelowADInplaceOrView below;
    auto [o, lse] = call_attention(q, k, v, call);
    save(ctx, {q, k, v, o, lse}, call);
    return {o, lse};
  }
  static variable_list backward(AutogradContext* ctx, const variable_list& d) {
    const auto s = ctx->get_saved_variables();
    const AttentionCall call = saved_call(ctx, s);
    auto [d_q, d_k, d_v, d_bias, d_distance_bias, d_sinks, d_scales, d_additive] =
        call_attention_backward(or_zeros(d[0], s[3]), maybe(d[1]), s[0], s[1], s[2], s[3], s[4],
                                call);
    return {d_q,
            d_k,
            d_v,
            given(d_bias, call.bias, call.bias_gradient),
            given(d_distance_bias, call.distance_bias),
            given(d_sinks, call.sinks),
            given(d_scales, call.scales),
            given(d_additive, call.additive),
            Tensor()};
  }
};

struct VarlenFunction : torch::autograd::Function<VarlenFunction> {
  static variable_list forward(AutogradContext* ctx, const Tensor& q, const Tensor& k,
                               const Tensor& v, const Tensor& cu_q, const Tensor& cu_k,
                               const MaybeTensor& /*bias*/, const MaybeTensor& /*distance_bias*/,
                               const MaybeTensor& /*sinks*/, const MaybeTensor& /*scales*/,
                               const MaybeTensor& /*additive*/, const AttentionCall& call) {
    at::AutoDispatchBelowADInplaceOrView below;
    auto [o, lse] = call_attention_varlen(q, k, v, cu_q, cu_k, call);
    save(ctx, {q, k, v, o, lse, cu_q, cu_k}, call);
    return {o, lse};
  }
  static variable_list backward(AutogradContext* ctx, const variable_list& d) {
    const auto s = ctx->get_saved_variables();
    const AttentionCall call = saved_call(ctx, s);
    auto [d_q, d_k, d_v, d_bias, d_distance_bias, d_sinks, d_scales, d_additive] =
        call_attention_varlen_backward(or_zeros(d[0], s[3]), maybe(d[1]), s[0], s[1], s[2], s[3],
                                       s[4], s[5], s[6], call);
    return {d_q,
            d_k,
            d_v,
            Tensor(),
            Tensor(),
            given(d_bias, call.bias, call.bias_gradient),
            given(d_distance_bias, call.distance_bias),
            given(d_sinks, call.sinks),
            given(d_scales, call.scales),
            given(d_additive, call.additive),
            Tensor()};
  }
};

struct QkvFunction : torch::autograd::Function<QkvFunction> {
  static variable_list forward(AutogradContext* ctx, const Tensor& qkv, int64_t heads,
                               const Tensor& cu_seqlens, const MaybeTensor& /*bias*/,
                               const MaybeTensor& /*distance_bias*/, const MaybeTensor& /*sinks*/,
                               const MaybeTensor& /*scales*/, const MaybeTensor& /*additive*/,
                               const AttentionCall& call) {
    at::AutoDispatchBelowADInplaceOrView below;
    auto [o, lse] = call_attention_qkv(qkv, heads, cu_seqlens, call);
    save(ctx, {qkv, o, lse, cu_seqlens}, call);
    ctx->saved_data["heads"] = heads;
    return {o, lse};
  }
  static variable_list backward(AutogradContext* ctx, const variable_list& d) {
    const auto s = ctx->get_saved_variables();
    const AttentionCall call = saved_call(ctx, s);
    auto [d_qkv, d_bias, d_distance_bias, d_sinks, d_scales, d_additive] =
        call_attention_qkv_backward(or_zeros(d[0], s[1]), maybe(d[1]), s[0], s[1], s[2],
                                    ctx->saved_data["heads"].toInt(), s[3], call);
    return {d_qkv,
            Tensor(),
            Tensor(),
            given(d_bias, call.bias, call.bias_gradient),
            given(d_distance_bias, call.distance_bias),
            given(d_sinks, call.sinks),
            given(d_scales, call.scales),
            given(d_additive, call.additive),
            Tensor()};
  }
};

/// Whether a graph is recorded for these operands or the call's differentiable tensors.
bool records(std::initializer_list<const Tensor*> tensors, const AttentionCall& call) {
  TORCH_CHECK_NOT_IMPLEMENTED(
      !at::GradMode::is_enabled() || !call.alibi_slopes || !call.alibi_slopes->requires_grad(),
      "fovea: alibi_slopes have no gradient; a distance_bias has");
  refuse_tangents(tensors);
  const auto needs = [](const MaybeTensor& x) { return x && x->requires_grad(); };
  return at::GradMode::is_enabled() &&
         (std::any_of(tensors.begin(), tensors.end(),
                      [](auto* x) { return x->defined() && x->requires_grad(); }) ||
          needs(call.bias) || needs(call.distance_bias) || needs(call.sinks) ||
          needs(call.scales) || needs(call.additive));
}

/// What a gradient is a function of, beside o and lse, which are functions of these.
variable_list variables(const Tensor& d_o, const MaybeTensor& d_lse, const Tensor& q,
                        const Tensor& k, const Tensor& v, const AttentionCall& call) {
  const auto or_none = [](const MaybeTensor& x) { return x.value_or(Tensor()); };
  return {d_o,
          or_none(d_lse),
          q,
          k,
          v,
          or_none(call.bias),
          or_none(call.distance_bias),
          or_none(call.sinks),
          or_none(call.scales),
          or_none(call.additive)};
}

Gradients once(const variable_list& inputs, const Gradients& results) {
  const auto list = std::apply([](const auto&... x) { return variable_list{x...}; }, results);
  const auto marked = mark_once("attention", inputs, list);
  return {marked[0], marked[1], marked[2], marked[3], marked[4], marked[5], marked[6], marked[7]};
}

Pair pair(const variable_list& results) { return {results[0], results[1]}; }

Pair attention_autograd(const Tensor& q, const Tensor& k, const Tensor& v, FOVEA_CALL_PARAMETERS) {
  const AttentionCall call = FOVEA_CALL_VALUE;
  if (records({&q, &k, &v}, call)) {
    return pair(
        AttentionFunction::apply(q, k, v, bias, distance_bias, sinks, scales, additive, call));
  }
  at::AutoDispatchBelowADInplaceOrView below;
  return call_attention(q, k, v, call);
}

/// Not differentiable: its results are facts about a result.
Pair attention_statistics_autograd(const Tensor& q, const Tensor& k, const Tensor& lse,
                                   FOVEA_CALL_PARAMETERS) {
  at::AutoDispatchBelowADInplaceOrView below;
  return call_attention_statistics(q, k, lse, FOVEA_CALL_VALUE);
}

Pair attention_varlen_autograd(const Tensor& q, const Tensor& k, const Tensor& v,
                               const Tensor& cu_q, const Tensor& cu_k, FOVEA_CALL_PARAMETERS) {
  const AttentionCall call = FOVEA_CALL_VALUE;
  if (records({&q, &k, &v}, call)) {
    return pair(VarlenFunction::apply(q, k, v, cu_q, cu_k, bias, distance_bias, sinks, scales,
                                      additive, call));
  }
  at::AutoDispatchBelowADInplaceOrView below;
  return call_attention_varlen(q, k, v, cu_q, cu_k, call);
}

Pair attention_qkv_autograd(const Tensor& qkv, int64_t heads, const Tensor& cu_seqlens,
                            FOVEA_CALL_PARAMETERS) {
  const AttentionCall call = FOVEA_CALL_VALUE;
  if (records({&qkv}, call)) {
    return pair(QkvFunction::apply(qkv, heads, cu_seqlens, bias, distance_bias, sinks, scales,
                                   additive, call));
  }
  at::AutoDispatchBelowADInplaceOrView below;
  return call_attention_qkv(qkv, heads, cu_seqlens, call);
}

Gradients attention_backward_autograd(const Tensor& d_o, const MaybeTensor& d_lse, const Tensor& q,
                                      const Tensor& k, const Tensor& v, const Tensor& o,
                                      const Tensor& lse, FOVEA_BACKWARD_PARAMETERS) {
  const AttentionCall call = FOVEA_BACKWARD_VALUE;
  const auto inputs = variables(d_o, d_lse, q, k, v, call);
  if (!recorded(inputs).empty()) {
    if (const auto op =
            in_python<Gradients(const Tensor&, const MaybeTensor&, const Tensor&, const Tensor&,
                                const Tensor&, const Tensor&, const Tensor&, FOVEA_BACKWARD_TYPES)>(
                "fovea::attention_backward_recorded")) {
      return op->call(d_o, d_lse, q, k, v, o, lse, pattern, FOVEA_CALL_NAMES, bias_gradient);
    }
  }
  Gradients result;
  {
    at::AutoDispatchBelowADInplaceOrView below;
    result = call_attention_backward(d_o, d_lse, q, k, v, o, lse, call);
  }
  return once(inputs, result);
}

Gradients attention_varlen_backward_autograd(const Tensor& d_o, const MaybeTensor& d_lse,
                                             const Tensor& q, const Tensor& k, const Tensor& v,
                                             const Tensor& o, const Tensor& lse, const Tensor& cu_q,
                                             const Tensor& cu_k, FOVEA_BACKWARD_PARAMETERS) {
  const AttentionCall call = FOVEA_BACKWARD_VALUE;
  const auto inputs = variables(d_o, d_lse, q, k, v, call);
  if (!recorded(inputs).empty()) {
    if (const auto op = in_python<Gradients(
            const Tensor&, const MaybeTensor&, const Tensor&, const Tensor&, const Tensor&,
            const Tensor&, const Tensor&, const Tensor&, const Tensor&, FOVEA_BACKWARD_TYPES)>(
            "fovea::attention_varlen_backward_recorded")) {
      return op->call(d_o, d_lse, q, k, v, o, lse, cu_q, cu_k, pattern, FOVEA_CALL_NAMES,
                      bias_gradient);
    }
  }
  Gradients result;
  {
    at::AutoDispatchBelowADInplaceOrView below;
    result = call_attention_varlen_backward(d_o, d_lse, q, k, v, o, lse, cu_q, cu_k, call);
  }
  return once(inputs, result);
}

QkvGradients attention_qkv_backward_autograd(const Tensor& d_o, const MaybeTensor& d_lse,
                                             const Tensor& qkv, const Tensor& o, const Tensor& lse,
                                             int64_t heads, const Tensor& cu_seqlens,
                                             FOVEA_BACKWARD_PARAMETERS) {
  const AttentionCall call = FOVEA_BACKWARD_VALUE;
  QkvGradients result;
  {
    at::AutoDispatchBelowADInplaceOrView below;
    result = call_attention_qkv_backward(d_o, d_lse, qkv, o, lse, heads, cu_seqlens, call);
  }
  const auto list = std::apply([](const auto&... x) { return variable_list{x...}; }, result);
  const auto inputs = variables(d_o, d_lse, qkv, Tensor(), Tensor(), call);
  const auto marked = mark_once("attention_qkv", inputs, list);
  return {marked[0], marked[1], marked[2], marked[3], marked[4], marked[5]};
}

// Autocast: the lower precision type, as torch treats scaled_dot_product_attention.

Tensor lower(const Tensor& x) {
  return at::autocast::cached_cast(at::autocast::get_autocast_dtype(at::kCPU), x, at::kCPU);
}

Pair attention_autocast(const Tensor& q, const Tensor& k, const Tensor& v, FOVEA_CALL_PARAMETERS) {
  c10::impl::ExcludeDispatchKeyGuard no_autocast(c10::DispatchKey::AutocastCPU);
  return call_attention(lower(q), lower(k), lower(v), FOVEA_CALL_VALUE);
}

Pair attention_statistics_autocast(const Tensor& q, const Tensor& k, const Tensor& lse,
                                   FOVEA_CALL_PARAMETERS) {
  c10::impl::ExcludeDispatchKeyGuard no_autocast(c10::DispatchKey::AutocastCPU);
  return call_attention_statistics(lower(q), lower(k), lse, FOVEA_CALL_VALUE);
}

Pair attention_varlen_autocast(const Tensor& q, const Tensor& k, const Tensor& v,
                               const Tensor& cu_q, const Tensor& cu_k, FOVEA_CALL_PARAMETERS) {
  c10::impl::ExcludeDispatchKeyGuard no_autocast(c10::DispatchKey::AutocastCPU);
  return call_attention_varlen(lower(q), lower(k), lower(v), cu_q, cu_k, FOVEA_CALL_VALUE);
}

Pair attention_qkv_autocast(const Tensor& qkv, int64_t heads, const Tensor& cu_seqlens,
                            FOVEA_CALL_PARAMETERS) {
  c10::impl::ExcludeDispatchKeyGuard no_autocast(c10::DispatchKey::AutocastCPU);
  return call_attention_qkv(lower(qkv), heads, cu_seqlens, FOVEA_CALL_VALUE);
}

}  // namespace

TORCH_LIBRARY_IMPL(fovea, Autograd, m) {
  m.impl("attention", attention_autograd);
  m.impl("attention_statistics", attention_statistics_autograd);
  m.impl("attention_varlen", attention_varlen_autograd);
  m.impl("attention_qkv", attention_qkv_autograd);
  m.impl("attention_backward", attention_backward_autograd);
  m.impl("attention_varlen_backward", attention_varlen_backward_autograd);
  m.impl("attention_qkv_backward", attention_qkv_backward_autograd);
}

TORCH_LIBRARY_IMPL(fovea, AutocastCPU, m) {
  m.impl("attention", attention_autocast);
  m.impl("attention_statistics", attention_statistics_autocast);
  m.impl("attention_varlen", attention_varlen_autocast);
  m.impl("attention_qkv", attention_qkv_autocast);
}

}  // namespace fovea::ops
