#pragma once

// Internal to ops: an attention call kept for its backward.

#include <ATen/ops/zeros_like.h>
#include <torch/csrc/autograd/custom_function.h>

#include "fovea/ops/attention_call.h"

namespace fovea::ops {

/// The tensors of a call, in the order in which they are saved.
inline constexpr size_t kCallTensors = 10;

inline void save(torch::autograd::AutogradContext* ctx, torch::autograd::variable_list tensors,
                 const AttentionCall& call) {
  for (const MaybeTensor* x :
       {&call.key_lengths, &call.intervals, &call.block_mask, &call.global_tokens, &call.bias,
        &call.distance_bias, &call.alibi_slopes, &call.sinks, &call.scales, &call.additive}) {
    tensors.push_back(x->value_or(at::Tensor()));
  }
  ctx->save_for_backward(std::move(tensors));
  ctx->saved_data["pattern"] = call.pattern;
  ctx->saved_data["scale"] = call.scale;
  ctx->saved_data["dropout_p"] = call.dropout_p;
  ctx->saved_data["dropout_seed"] = call.dropout_seed;
  ctx->saved_data["top_left"] = call.top_left;
  ctx->saved_data["softcap"] = call.softcap;
  ctx->saved_data["cosine"] = call.cosine;
  ctx->saved_data["negative_slope"] = call.negative_slope;
  ctx->saved_data["bias_gradient"] = call.bias && call.bias->requires_grad();
  ctx->set_materialize_grads(false);
}

/// The call that save() kept; its tensors are the last of `saved`.
inline AttentionCall saved_call(torch::autograd::AutogradContext* ctx,
                                const torch::autograd::variable_list& saved) {
  const auto tensor = [&](size_t i) {
    const at::Tensor& x = saved[saved.size() - kCallTensors + i];
    return x.defined() ? MaybeTensor(x) : std::nullopt;
  };
  auto& data = ctx->saved_data;
  return {data["pattern"].toStringRef(),
          data["scale"].toOptional<double>(),
          data["dropout_p"].toDouble(),
          data["dropout_seed"].toSymInt(),
          data["top_left"].toBool(),
          tensor(0),
          tensor(1),
          tensor(2),
          tensor(3),
          data["softcap"].toDouble(),
          tensor(4),
          tensor(5),
          tensor(6),
          tensor(7),
          tensor(8),
          data["cosine"].toBool(),
          tensor(9),
          data["negative_slope"].toDouble(),
          data["bias_gradient"].toBool()};
}

/// A gradient that was not made is none.
inline at::Tensor given(const at::Tensor& gradient, const MaybeTensor& of, bool wanted = true) {
  return of && wanted ? gradient : at::Tensor();
}

inline MaybeTensor maybe(const at::Tensor& x) {
  return x.defined() ? MaybeTensor(x) : std::nullopt;
}

/// Gradient of o, where only lse was used.
inline at::Tensor or_zeros(const at::Tensor& d_o, const at::Tensor& o) {
  return d_o.defined() ? d_o : at::zeros_like(o);
}

}  // namespace fovea::ops
