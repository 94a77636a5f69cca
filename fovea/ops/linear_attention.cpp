// Linear attention's entries, autograd and autocast; kernels: linear_attention_kernels.cpp.
#include "fovea/ops/linear_attention.h"

#include <algorithm>

#include <ATen/autocast_mode.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/ops/zeros_like.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

#include "fovea/ops/linear_attention_call.h"
#include "fovea/ops/once.h"

namespace fovea::ops {
namespace {

using at::Tensor;
using MaybeTensor = std::optional<Tensor>;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

MaybeTensor maybe(const Tensor& x) { return x.defined() ? MaybeTensor(x) : std::nullopt; }

struct LinearFunction : torch::autograd::Function<LinearFunction> {
  /// decay, beta and initial_state are those of `call`: autograd must see them as arguments.
  static variable_list forward(AutogradContext* ctx, const Tensor& q, const Tensor& k,
                               const Tensor& v, const MaybeTensor& /*decay*/,
                               const MaybeTensor& /*beta*/, const MaybeTensor& /*initial_state*/,
                               const LinearCall& call) {
    at::AutoDispatchBelowADInplaceOrView below;
    auto [o, denominator, final_state] = call_linear_attention(q, k, v, call);
    const auto or_none = [](const MaybeTensor& x) { return x.value_or(Tensor()); };
    ctx->save_for_backward({q, k, v, o, denominator, or_none(call.decay),
                            or_none(call.initial_state), or_none(call.cu_seqlens_q),
                            or_none(call.cu_seqlens_k), or_none(call.beta)});
    ctx->saved_data["map"] = call.map;
    ctx->saved_data["causal"] = call.causal;
    ctx->saved_data["normalise"] = call.normalise;
    ctx->saved_data["scale"] = call.scale;
    ctx->saved_data["eps"] = call.eps;
    ctx->set_materialize_grads(false);
    ctx->mark_non_differentiable({denominator});
    return {o, denominator, final_state};
  }
  static variable_list backward(AutogradContext* ctx, const variable_list& d) {
    const auto s = ctx->get_saved_variables();
    auto& data = ctx->saved_data;
    const LinearCall call = {maybe(s[5]),
                             maybe(s[9]),
                             maybe(s[6]),
                             maybe(s[7]),
                             maybe(s[8]),
                             data["map"].toStringRef(),
                             data["causal"].toBool(),
                             data["normalise"].toBool(),
                             data["scale"].toDouble(),
                             data["eps"].toDouble()};
    auto [d_q, d_k, d_v, d_decay, d_beta, d_initial] =
        call_linear_attention_backward(d[0].defined() ? d[0] : at::zeros_like(s[3]), maybe(d[2]),
                                       s[0], s[1], s[2], s[3], s[4], call);
    return {d_q,
            d_k,
            d_v,
            call.decay ? d_decay : Tensor(),
            call.beta ? d_beta : Tensor(),
            call.initial_state ? d_initial : Tensor(),
            Tensor()};
  }
};

LinearOutputs linear_attention_autograd(const Tensor& q, const Tensor& k, const Tensor& v,
                                        FOVEA_LINEAR_PARAMETERS) {
  const LinearCall call = FOVEA_LINEAR_VALUE;
  refuse_tangents({&q, &k, &v});
  const auto needs = [](const MaybeTensor& x) { return x && x->requires_grad(); };
  if (at::GradMode::is_enabled() && (q.requires_grad() || k.requires_grad() || v.requires_grad() ||
                                     needs(decay) || needs(beta) || needs(initial_state))) {
    const auto results = LinearFunction::apply(q, k, v, decay, beta, initial_state, call);
    return {results[0], results[1], results[2]};
  }
  at::AutoDispatchBelowADInplaceOrView below;
  return call_linear_attention(q, k, v, call);
}

std::tuple<Tensor, Tensor> call_step(FOVEA_STEP_PARAMETERS) {
  static const auto op =
      c10::Dispatcher::singleton()
          .findSchemaOrThrow("fovea::linear_attention_step", "")
          .typed<std::tuple<Tensor, Tensor>(const Tensor&, const Tensor&, const Tensor&,
                                            const Tensor&, const MaybeTensor&, const MaybeTensor&,
                                            std::string_view, bool, double, double)>();
  return op.call(q, k, v, state, decay, beta, map, normalise, scale, eps);
}

/// Where a graph is recorded, a step is a sequence of length 1: the same to rounding, with the
/// gradients of linear_attention.
std::tuple<Tensor, Tensor> linear_attention_step_autograd(FOVEA_STEP_PARAMETERS) {
  refuse_tangents({&q, &k, &v, &state});
  const auto or_none = [](const MaybeTensor& x) { return x.value_or(Tensor()); };
  if (!recorded({q, k, v, state, or_none(decay), or_none(beta)}).empty()) {
    const auto results =
        call_linear_attention(q.unsqueeze(2), k.unsqueeze(2), v.unsqueeze(2),
                              step_call(q, k, v, state, decay, beta, map, normalise, scale, eps));
    return {std::get<0>(results).squeeze(2), std::get<2>(results)};
  }
  at::AutoDispatchBelowADInplaceOrView below;
  return call_step(q, k, v, state, decay, beta, map, normalise, scale, eps);
}

LinearGradients linear_attention_backward_autograd(
    const Tensor& d_o, const MaybeTensor& d_final_state, const Tensor& q, const Tensor& k,
    const Tensor& v, const Tensor& o, const Tensor& denominator, FOVEA_LINEAR_PARAMETERS) {
  const auto or_none = [](const MaybeTensor& x) { return x.value_or(Tensor()); };
  const variable_list inputs = {d_o,           or_none(d_final_state), q, k, v, or_none(decay),
                                or_none(beta), or_none(initial_state)};
  if (!recorded(inputs).empty()) {
    if (const auto op = in_python<LinearGradients(const Tensor&, const MaybeTensor&, const Tensor&,
                                                  const Tensor&, const Tensor&, const Tensor&,
                                                  const Tensor&, FOVEA_LINEAR_TYPES)>(
            "fovea::linear_attention_backward_recorded")) {
      return op->call(d_o, d_final_state, q, k, v, o, denominator, decay, beta, initial_state,
                      cu_seqlens_q, cu_seqlens_k, map, causal, normalise, scale, eps);
    }
  }
  LinearGradients result;
  {
    at::AutoDispatchBelowADInplaceOrView below;
    result = call_linear_attention_backward(d_o, d_final_state, q, k, v, o, denominator,
                                            FOVEA_LINEAR_VALUE);
  }
  const auto marked =
      mark_once("linear_attention", inputs,
                std::apply([](const auto&... x) { return variable_list{x...}; }, result));
  return {marked[0], marked[1], marked[2], marked[3], marked[4], marked[5]};
}

LinearOutputs linear_attention_autocast(const Tensor& q, const Tensor& k, const Tensor& v,
                                        FOVEA_LINEAR_PARAMETERS) {
  c10::impl::ExcludeDispatchKeyGuard no_autocast(c10::DispatchKey::AutocastCPU);
  const auto lower = [](const Tensor& x) {
    return at::autocast::cached_cast(at::autocast::get_autocast_dtype(at::kCPU), x, at::kCPU);
  };
  return call_linear_attention(lower(q), lower(k), lower(v), FOVEA_LINEAR_VALUE);
}

LinearCall call_of(const LinearAttentionArguments& a) {
  return {maybe(a.decay), maybe(a.beta), maybe(a.initial_state),
          std::nullopt,   std::nullopt,  name_of(a.map),
          a.causal,       a.normalise,   a.scale,
          a.eps};
}

}  // namespace

#define FOVEA_LINEAR_FIELDS                                                                  \
  call.decay, call.beta, call.initial_state, call.cu_seqlens_q, call.cu_seqlens_k, call.map, \
      call.causal, call.normalise, call.scale, call.eps

LinearOutputs call_linear_attention(const Tensor& q, const Tensor& k, const Tensor& v,
                                    const LinearCall& call) {
  static const auto op =
      c10::Dispatcher::singleton()
          .findSchemaOrThrow("fovea::linear_attention", "")
          .typed<LinearOutputs(const Tensor&, const Tensor&, const Tensor&, FOVEA_LINEAR_TYPES)>();
  return op.call(q, k, v, FOVEA_LINEAR_FIELDS);
}

LinearGradients call_linear_attention_backward(const Tensor& d_o, const MaybeTensor& d_final_state,
                                               const Tensor& q, const Tensor& k, const Tensor& v,
                                               const Tensor& o, const Tensor& denominator,
                                               const LinearCall& call) {
  static const auto op =
      c10::Dispatcher::singleton()
          .findSchemaOrThrow("fovea::linear_attention_backward", "")
          .typed<LinearGradients(const Tensor&, const MaybeTensor&, const Tensor&, const Tensor&,
                                 const Tensor&, const Tensor&, const Tensor&,
                                 FOVEA_LINEAR_TYPES)>();
  return op.call(d_o, d_final_state, q, k, v, o, denominator, FOVEA_LINEAR_FIELDS);
}

std::tuple<Tensor, Tensor> linear_attention(const Tensor& q, const Tensor& k, const Tensor& v,
                                            const LinearAttentionArguments& arguments) {
  const auto results = call_linear_attention(q, k, v, call_of(arguments));
  return {std::get<0>(results), std::get<2>(results)};
}

std::tuple<Tensor, Tensor> linear_attention_varlen(const Tensor& q, const Tensor& k,
                                                   const Tensor& v, const Tensor& cu_seqlens_q,
                                                   const Tensor& cu_seqlens_k,
                                                   const LinearAttentionArguments& arguments) {
  LinearCall call = call_of(arguments);
  call.cu_seqlens_q = cu_seqlens_q;
  call.cu_seqlens_k = cu_seqlens_k;
  const auto results = call_linear_attention(q, k, v, call);
  return {std::get<0>(results), std::get<2>(results)};
}

std::tuple<Tensor, Tensor> linear_attention_step(const Tensor& q, const Tensor& k, const Tensor& v,
                                                 const Tensor& state,
                                                 const LinearAttentionArguments& a) {
  return call_step(q, k, v, state, maybe(a.decay), maybe(a.beta), name_of(a.map), a.normalise,
                   a.scale, a.eps);
}

TORCH_LIBRARY_IMPL(fovea, Autograd, m) {
  m.impl("linear_attention", linear_attention_autograd);
  m.impl("linear_attention_backward", linear_attention_backward_autograd);
  m.impl("linear_attention_step", linear_attention_step_autograd);
}

TORCH_LIBRARY_IMPL(fovea, AutocastCPU, m) { m.impl("linear_attention", linear_attention_autocast); }

}  // namespace fovea::ops
