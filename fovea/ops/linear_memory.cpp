// Memories outside a window: entries, autograd and autocast; kernels: linear_memory_kernels.cpp.
#include "fovea/ops/linear_memory.h"

#include <algorithm>
#include <limits>

#include <ATen/autocast_mode.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <torch/library.h>

#include "fovea/ops/attention_saved.h"
#include "fovea/ops/linear_memory_call.h"
#include "fovea/ops/once.h"

namespace fovea::ops {
namespace {

using at::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

MemoryCall call_of(const LinearMemoryArguments& a) {
  return {a.left, a.right, std::string(name_of(a.map))};
}

void save_memory(AutogradContext* ctx, const MemoryCall& call) {
  ctx->saved_data["left"] = call.left;
  ctx->saved_data["right"] = call.right;
  ctx->saved_data["map"] = call.map;
}

MemoryCall saved_memory_call(AutogradContext* ctx) {
  auto& data = ctx->saved_data;
  return {data["left"].toInt(), data["right"].toInt(), data["map"].toStringRef()};
}

/// [H, T] as a factor of [T, H, Dv].
Tensor as_factor(const Tensor& x) { return x.transpose(0, 1).unsqueeze(-1); }

struct MemoryFunction : torch::autograd::Function<MemoryFunction> {
  static variable_list forward(AutogradContext* ctx, const Tensor& q, const Tensor& k,
                               const Tensor& v, const Tensor& o, const Tensor& lse,
                               const Tensor& gain, const Tensor& cu_seqlens,
                               const MemoryCall& call) {
    at::AutoDispatchBelowADInplaceOrView below;
    auto [joined, joined_lse] = call_linear_memory(q, k, v, o, lse, gain, cu_seqlens, call);
    const bool window = o.requires_grad() || lse.requires_grad();
    ctx->save_for_backward({q, k, v, joined, joined_lse, gain, cu_seqlens, window ? o : Tensor(),
                            window ? lse : Tensor()});
    save_memory(ctx, call);
    ctx->set_materialize_grads(false);
    return {joined, joined_lse};
  }
  static variable_list backward(AutogradContext* ctx, const variable_list& d) {
    const auto s = ctx->get_saved_variables();
    const Tensor d_o = or_zeros(d[0], s[3]);
    auto [d_q, d_k, d_v, d_gain] = call_linear_memory_backward(
        d_o, maybe(d[1]), s[0], s[1], s[2], s[3], s[4], s[5], s[6], saved_memory_call(ctx));
    Tensor d_window, d_window_lse;
    if (s[7].defined()) {
      // The window's share of the weights; a row that it has not seen has none.
      const double none = -std::numeric_limits<double>::infinity();
      const Tensor share = s[8].sub(s[4]).masked_fill(s[8].eq(none), none).exp();
      d_window = d_o.mul(as_factor(share)).to(s[7].scalar_type());
      Tensor d_log = d_o.mul(s[7].sub(s[3])).sum(-1).transpose(0, 1);
      if (d[1].defined()) d_log = d_log.add(d[1]);
      d_window_lse = share.mul(d_log).to(s[8].scalar_type());
    }
    return {d_q, d_k, d_v, d_window, d_window_lse, d_gain, Tensor(), Tensor()};
  }
};

Pair linear_memory_autograd(const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& o,
                            const Tensor& lse, const Tensor& gain, const Tensor& cu_seqlens,
                            int64_t left, int64_t right, std::string_view map) {
  const MemoryCall call = {left, right, std::string(map)};
  refuse_tangents({&q, &k, &v, &o, &lse, &gain});
  if (!recorded({q, k, v, o, lse, gain}).empty()) {
    const auto results = MemoryFunction::apply(q, k, v, o, lse, gain, cu_seqlens, call);
    return {results[0], results[1]};
  }
  at::AutoDispatchBelowADInplaceOrView below;
  return call_linear_memory(q, k, v, o, lse, gain, cu_seqlens, call);
}

MemoryGradients linear_memory_backward_autograd(const Tensor& d_o, const MaybeTensor& d_lse,
                                                const Tensor& q, const Tensor& k, const Tensor& v,
                                                const Tensor& o, const Tensor& lse,
                                                const Tensor& gain, const Tensor& cu_seqlens,
                                                int64_t left, int64_t right, std::string_view map) {
  MemoryGradients result;
  {
    at::AutoDispatchBelowADInplaceOrView below;
    result = call_linear_memory_backward(d_o, d_lse, q, k, v, o, lse, gain, cu_seqlens,
                                         {left, right, std::string(map)});
  }
  const auto list = std::apply([](const auto&... x) { return variable_list{x...}; }, result);
  const auto marked =
      mark_once("linear_memory", {d_o, d_lse.value_or(Tensor()), q, k, v, o, lse, gain}, list);
  return {marked[0], marked[1], marked[2], marked[3]};
}

Tensor lower(const Tensor& x) {
  return at::autocast::cached_cast(at::autocast::get_autocast_dtype(at::kCPU), x, at::kCPU);
}

Pair linear_memory_autocast(const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& o,
                            const Tensor& lse, const Tensor& gain, const Tensor& cu_seqlens,
                            int64_t left, int64_t right, std::string_view map) {
  c10::impl::ExcludeDispatchKeyGuard no_autocast(c10::DispatchKey::AutocastCPU);
  return call_linear_memory(lower(q), lower(k), lower(v), lower(o), lse, gain, cu_seqlens,
                            {left, right, std::string(map)});
}

/// Queries, keys and values of [T, H + 2 Hkv, D].
std::array<Tensor, 3> parts_of(const Tensor& qkv, int64_t heads) {
  const int64_t kv_heads = (qkv.size(1) - heads) / 2;
  return {qkv.narrow(1, 0, heads), qkv.narrow(1, heads, kv_heads),
          qkv.narrow(1, heads + kv_heads, kv_heads)};
}

/// The window's result and what the memory joins to it.
Pair with_memory(const Tensor& qkv, int64_t heads, const Tensor& cu_seqlens, const Tensor& gain,
                 const MaybeTensor& memory_q, const MaybeTensor& memory_k,
                 const AttentionCall& call, const MemoryCall& memory) {
  const auto [q, k, v] = parts_of(qkv, heads);
  const auto [o, lse] = call_attention_qkv(qkv, heads, cu_seqlens, call);
  return call_linear_memory(memory_q.value_or(q), memory_k.value_or(k), v, o, lse, gain, cu_seqlens,
                            memory);
}

Pair call_with_memory(const Tensor& qkv, int64_t heads, const Tensor& cu_seqlens,
                      const Tensor& gain, const MaybeTensor& memory_q, const MaybeTensor& memory_k,
                      const AttentionCall& call, const MemoryCall& memory) {
  static const auto op =
      c10::Dispatcher::singleton()
          .findSchemaOrThrow("fovea::attention_qkv_memory", "")
          .typed<Pair(const Tensor&, int64_t, const Tensor&, const Tensor&, const MaybeTensor&,
                      const MaybeTensor&, int64_t, int64_t, std::string_view, FOVEA_CALL_TYPES)>();
  return op.call(qkv, heads, cu_seqlens, gain, memory_q, memory_k, memory.left, memory.right,
                 memory.map, FOVEA_CALL_FIELDS);
}

struct WithMemoryFunction : torch::autograd::Function<WithMemoryFunction> {
  static variable_list forward(AutogradContext* ctx, const Tensor& qkv, const MaybeTensor& memory_q,
                               const MaybeTensor& memory_k, const Tensor& gain,
                               const MaybeTensor& /*bias*/, const MaybeTensor& /*distance_bias*/,
                               const MaybeTensor& /*sinks*/, const MaybeTensor& /*scales*/,
                               const MaybeTensor& /*additive*/, int64_t heads,
                               const Tensor& cu_seqlens, const AttentionCall& call,
                               const MemoryCall& memory) {
    at::AutoDispatchBelowADInplaceOrView below;
    const auto [q, k, v] = parts_of(qkv, heads);
    const auto [window, window_lse] = call_attention_qkv(qkv, heads, cu_seqlens, call);
    auto [o, lse] = call_linear_memory(memory_q.value_or(q), memory_k.value_or(k), v, window,
                                       window_lse, gain, cu_seqlens, memory);
    save(ctx,
         {qkv, o, lse, cu_seqlens, gain, memory_q.value_or(Tensor()), memory_k.value_or(Tensor())},
         call);
    save_memory(ctx, memory);
    ctx->saved_data["heads"] = heads;
    return {o, lse};
  }
  static variable_list backward(AutogradContext* ctx, const variable_list& d) {
    const auto s = ctx->get_saved_variables();
    const AttentionCall call = saved_call(ctx, s);
    const int64_t heads = ctx->saved_data["heads"].toInt();
    const Tensor d_o = or_zeros(d[0], s[1]);
    // A share of the weights is e^(score - lse) with the lse of all of them, a row's own term
    // d_o · o with their o: the window's backward needs no other change.
    auto [d_qkv, d_bias, d_distance_bias, d_sinks, d_scales, d_additive] =
        call_attention_qkv_backward(d_o, maybe(d[1]), s[0], s[1], s[2], heads, s[3], call);
    const auto [q, k, v] = parts_of(s[0], heads);
    const bool own = !s[5].defined();
    auto [d_memory_q, d_memory_k, d_memory_v, d_gain] =
        call_linear_memory_backward(d_o, maybe(d[1]), own ? q : s[5], own ? k : s[6], v, s[1], s[2],
                                    s[4], s[3], saved_memory_call(ctx));
    const auto [d_q, d_k, d_v] = parts_of(d_qkv, heads);
    d_v.add_(d_memory_v);
    if (own) {
      d_q.add_(d_memory_q);
      d_k.add_(d_memory_k);
    }
    return {d_qkv,
            own ? Tensor() : d_memory_q,
            own ? Tensor() : d_memory_k,
            d_gain,
            given(d_bias, call.bias, call.bias_gradient),
            given(d_distance_bias, call.distance_bias),
            given(d_sinks, call.sinks),
            given(d_scales, call.scales),
            given(d_additive, call.additive),
            Tensor(),
            Tensor(),
            Tensor(),
            Tensor()};
  }
};

#define FOVEA_WITH_MEMORY_PARAMETERS                                                         \
  const Tensor &qkv, int64_t heads, const Tensor &cu_seqlens, const Tensor &gain,            \
      const MaybeTensor &memory_q, const MaybeTensor &memory_k, int64_t left, int64_t right, \
      std::string_view map, FOVEA_CALL_PARAMETERS

Pair attention_qkv_memory_op(FOVEA_WITH_MEMORY_PARAMETERS) {
  return with_memory(qkv, heads, cu_seqlens, gain, memory_q, memory_k, FOVEA_CALL_VALUE,
                     {left, right, std::string(map)});
}

Pair attention_qkv_memory_autograd(FOVEA_WITH_MEMORY_PARAMETERS) {
  const AttentionCall call = FOVEA_CALL_VALUE;
  const auto or_none = [](const MaybeTensor& x) { return x.value_or(Tensor()); };
  refuse_tangents({&qkv, &gain});
  if (!recorded({qkv, gain, or_none(memory_q), or_none(memory_k), or_none(bias),
                 or_none(distance_bias), or_none(sinks), or_none(scales), or_none(additive)})
           .empty()) {
    const auto results = WithMemoryFunction::apply(
        qkv, memory_q, memory_k, gain, bias, distance_bias, sinks, scales, additive, heads,
        cu_seqlens, call, MemoryCall{left, right, std::string(map)});
    return {results[0], results[1]};
  }
  at::AutoDispatchBelowADInplaceOrView below;
  return with_memory(qkv, heads, cu_seqlens, gain, memory_q, memory_k, call,
                     {left, right, std::string(map)});
}

Pair attention_qkv_memory_autocast(FOVEA_WITH_MEMORY_PARAMETERS) {
  c10::impl::ExcludeDispatchKeyGuard no_autocast(c10::DispatchKey::AutocastCPU);
  const auto low = [](const MaybeTensor& x) { return x ? MaybeTensor(lower(*x)) : std::nullopt; };
  return call_with_memory(lower(qkv), heads, cu_seqlens, gain, low(memory_q), low(memory_k),
                          FOVEA_CALL_VALUE, {left, right, std::string(map)});
}

}  // namespace

Pair call_linear_memory(const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& o,
                        const Tensor& lse, const Tensor& gain, const Tensor& cu_seqlens,
                        const MemoryCall& call) {
  static const auto op =
      c10::Dispatcher::singleton()
          .findSchemaOrThrow("fovea::linear_memory", "")
          .typed<Pair(const Tensor&, const Tensor&, const Tensor&, const Tensor&, const Tensor&,
                      const Tensor&, const Tensor&, int64_t, int64_t, std::string_view)>();
  return op.call(q, k, v, o, lse, gain, cu_seqlens, call.left, call.right, call.map);
}

MemoryGradients call_linear_memory_backward(const Tensor& d_o, const MaybeTensor& d_lse,
                                            const Tensor& q, const Tensor& k, const Tensor& v,
                                            const Tensor& o, const Tensor& lse, const Tensor& gain,
                                            const Tensor& cu_seqlens, const MemoryCall& call) {
  static const auto op =
      c10::Dispatcher::singleton()
          .findSchemaOrThrow("fovea::linear_memory_backward", "")
          .typed<MemoryGradients(const Tensor&, const MaybeTensor&, const Tensor&, const Tensor&,
                                 const Tensor&, const Tensor&, const Tensor&, const Tensor&,
                                 const Tensor&, int64_t, int64_t, std::string_view)>();
  return op.call(d_o, d_lse, q, k, v, o, lse, gain, cu_seqlens, call.left, call.right, call.map);
}

std::tuple<Tensor, Tensor> linear_memory(const Tensor& q, const Tensor& k, const Tensor& v,
                                         const Tensor& o, const Tensor& lse, const Tensor& gain,
                                         const Tensor& cu_seqlens,
                                         const LinearMemoryArguments& memory) {
  return call_linear_memory(q, k, v, o, lse, gain, cu_seqlens, call_of(memory));
}

std::tuple<Tensor, Tensor> attention_qkv_memory(const Tensor& qkv, int64_t heads,
                                                const Tensor& cu_seqlens, std::string_view pattern,
                                                const AttentionArguments& arguments,
                                                const Tensor& memory_q, const Tensor& memory_k,
                                                const Tensor& gain,
                                                const LinearMemoryArguments& memory) {
  const auto features = [&](const Tensor& x) {
    return x.defined() ? MaybeTensor(x.to(qkv.scalar_type())) : std::nullopt;
  };
  return call_with_memory(qkv, heads, cu_seqlens, gain, features(memory_q), features(memory_k),
                          call_of(pattern, arguments), call_of(memory));
}

TORCH_LIBRARY_IMPL(fovea, Autograd, m) {
  m.impl("linear_memory", linear_memory_autograd);
  m.impl("linear_memory_backward", linear_memory_backward_autograd);
  m.impl("attention_qkv_memory", attention_qkv_memory_autograd);
}

TORCH_LIBRARY_IMPL(fovea, AutocastCPU, m) {
  m.impl("linear_memory", linear_memory_autocast);
  m.impl("attention_qkv_memory", attention_qkv_memory_autocast);
}

TORCH_LIBRARY_IMPL(fovea, CompositeExplicitAutograd, m) {
  m.impl("attention_qkv_memory", attention_qkv_memory_op);
}

}  // namespace fovea::ops
