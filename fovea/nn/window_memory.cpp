#include "fovea/nn/window_memory.h"

#include <cmath>
#include <limits>

#include <ATen/OpMathType.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/elu.h>
#include <ATen/ops/full.h>
#include <ATen/ops/lerp.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/ones_like.h>
#include <ATen/ops/sigmoid.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>
#include <c10/core/GradMode.h>

#include "fovea/core/status.h"
#include "fovea/nn/feature_maps.h"
#include "fovea/ops/linear_memory.h"
#include "fovea/pattern/causality.h"

namespace fovea::nn {
namespace {

/// So that f(q)·f(k) of average features weighs about 1.
double first_gain(Mechanism mechanism, int64_t dim) {
  const auto d = static_cast<double>(dim);
  if (mechanism == Mechanism::kLinear) return -std::log(d);
  return mechanism == Mechanism::kHedgehog ? std::log(d / 2) : 0;
}

/// x [T, H, D] by a matrix for each head, [H, F, D].
at::Tensor mapped(const at::Tensor& x, const at::Tensor& map) {
  return at::matmul(x.transpose(0, 1), map.transpose(1, 2)).transpose(0, 1);
}

}  // namespace

WindowMemoryImpl::WindowMemoryImpl(const WindowMemoryOptions& options_) : options(options_) {
  const LayerMemory& memory = options.memory();
  const auto reach = window_reach(options.window().node());
  if (!reach || memory.none() || !weighs_features(memory.mechanism)) {
    throw InputError(
        "WindowMemory: expected a window and linear, performer, based or hedgehog, "
        "found \"" +
        options.window().to_string() + "\" and " + name_of(memory.mechanism));
  }
  const std::string unmet = unmet_of_memory(memory, options.head_dim());
  if (!unmet.empty()) throw InputError("WindowMemory: expected " + unmet);
  left_ = reach->left + 1;
  right_ = memory.causal ? 0 : reach->right + 1;
  window_text_ = options.window().to_string();
  const at::NoGradGuard no_grad;
  for (const auto& [name, shape] :
       memory_parameters(memory, options.heads(), options.kv_heads(), options.head_dim())) {
    at::Tensor p = at::zeros(shape);
    if (name == "gain") p.fill_(first_gain(memory.mechanism, options.head_dim()));
    if (name == "query_map" || name == "key_map") {
      if (memory.mechanism == Mechanism::kHedgehog) {
        p.diagonal(0, 1, 2).fill_(1);
      } else {
        p.normal_(0, 1 / std::sqrt(static_cast<double>(options.head_dim())));
      }
    }
    if (name == "random_directions") draw_orthogonal_directions_(p);
    register_parameter(name, p, name != "random_directions");
  }
}

WindowMemoryImpl::Features WindowMemoryImpl::query_features(const at::Tensor& q) {
  switch (options.memory().mechanism) {
    case Mechanism::kPerformer: {
      Features f;
      f.rows = random_positive_features(q, parameter("random_directions"), /*stabilise=*/true,
                                        &f.subtracted);
      f.subtracted = f.subtracted.squeeze(-1);
      return f;
    }
    case Mechanism::kBased:
      return {taylor_features(mapped(q, parameter("query_map").to(q.scalar_type()))), {}};
    case Mechanism::kHedgehog:
      return {hedgehog_features(q, parameter("query_map").to(q.scalar_type())), {}};
    default:
      return {};
  }
}

at::Tensor WindowMemoryImpl::key_features(const at::Tensor& k) {
  switch (options.memory().mechanism) {
    case Mechanism::kPerformer:
      return random_positive_features(k, parameter("random_directions"), /*stabilise=*/false);
    case Mechanism::kBased:
      return taylor_features(mapped(k, parameter("key_map").to(k.scalar_type())));
    case Mechanism::kHedgehog:
      return hedgehog_features(k, parameter("key_map").to(k.scalar_type()));
    default:
      return {};
  }
}

at::Tensor WindowMemoryImpl::forward(const at::Tensor& qkv, const Packing& packing,
                                     const ops::AttentionArguments& arguments,
                                     AttentionState* state) {
  if (state && state->tokens > 0) return step(qkv, arguments, state);
  if (state) {
    const int64_t kv_heads = options.kv_heads(), left = packing.tokens - left_;
    const at::Tensor k = qkv.narrow(1, options.heads(), kv_heads);
    const at::Tensor v = qkv.narrow(1, options.heads() + kv_heads, kv_heads);
    state->append(k, v, left_);
    if (left > 0) remember(k.narrow(0, 0, left), v.narrow(0, 0, left), state);
  }
  return whole(qkv, packing, arguments);
}

at::Tensor WindowMemoryImpl::whole(const at::Tensor& qkv, const Packing& packing,
                                   const ops::AttentionArguments& arguments) {
  const int64_t tokens = qkv.size(0), heads = options.heads(), kv_heads = options.kv_heads();
  const Mechanism mechanism = options.memory().mechanism;
  if (mechanism == Mechanism::kPerformer && is_training()) {
    redraw_orthogonal_directions_(parameter("random_directions"));
  }
  ops::LinearMemoryArguments memory{left_, right_, FeatureMap::kIdentity};
  if (mechanism == Mechanism::kLinear) memory.map = FeatureMap::kEluPlusOne;
  const Features f_q = query_features(qkv.narrow(1, 0, heads));
  const at::Tensor f_k = key_features(qkv.narrow(1, heads, kv_heads));
  if (!options.memory().gated) {
    at::Tensor gain = parameter("gain").unsqueeze(0).expand({tokens, heads});
    if (f_q.subtracted.defined()) gain = gain + f_q.subtracted;
    return std::get<0>(ops::attention_qkv_memory(qkv, heads, packing.cu_seqlens, window_text_,
                                                 arguments, f_q.rows, f_k, gain, memory));
  }
  const at::Tensor o =
      std::get<0>(ops::attention_qkv(qkv, heads, packing.cu_seqlens, window_text_, arguments));
  const auto parts = qkv.to(o.scalar_type()).split_with_sizes({heads, kv_heads, kv_heads}, 1);
  const auto type = at::TensorOptions().dtype(at::toOpMathType(o.scalar_type()));
  const at::Tensor nothing =
      at::full({heads, tokens}, -std::numeric_limits<double>::infinity(), type);
  return gated(o, std::get<0>(ops::linear_memory(
                      f_q.rows.defined() ? f_q.rows.to(o.scalar_type()) : parts[0],
                      f_k.defined() ? f_k.to(o.scalar_type()) : parts[1], parts[2],
                      at::zeros(o.sizes(), o.options()), nothing, at::zeros({tokens, heads}, type),
                      packing.cu_seqlens, memory)));
}

at::Tensor WindowMemoryImpl::gated(const at::Tensor& o, const at::Tensor& remembered) {
  const at::Tensor weight = at::sigmoid(parameter("gate")).unsqueeze(-1);
  return at::lerp(o, remembered.to(o.scalar_type()), weight.to(o.scalar_type()));
}

at::Tensor WindowMemoryImpl::step(const at::Tensor& qkv, const ops::AttentionArguments& arguments,
                                  AttentionState* state) {
  const int64_t kv_heads = options.kv_heads();
  const auto parts = qkv.split_with_sizes({options.heads(), kv_heads, kv_heads}, 1);
  const bool leaves = state->tokens >= left_;
  if (leaves) {  // the key in whose row the newest will lie
    const int64_t row = state->tokens % left_;
    remember(state->keys[0].narrow(1, row, 1).transpose(0, 1),
             state->values[0].narrow(1, row, 1).transpose(0, 1), state);
  }
  state->append(parts[1], parts[2], left_);
  const auto [o, lse] = attend_cached(parts[0], *state, left_, options.window(), arguments);
  if (!leaves) return options.memory().gated ? gated(o, at::zeros_like(o)) : o;
  const auto [memory, memory_lse] = remembered(parts[0], *state);
  if (options.memory().gated) return gated(o, memory);
  return std::get<0>(ops::attention_merge({o, memory}, {lse, memory_lse}));
}

/// Adds rows k, v [n, Hkv, D] to the state's sums Σ f(k) [v 1].
void WindowMemoryImpl::remember(const at::Tensor& k, const at::Tensor& v, AttentionState* state) {
  const c10::impl::ExcludeDispatchKeyGuard no_autocast(c10::DispatchKey::AutocastCPU);
  const at::Tensor keys = k.to(at::toOpMathType(k.scalar_type())),
                   values = v.to(at::toOpMathType(v.scalar_type()));
  const at::Tensor mapped_keys = key_features(keys);
  const at::Tensor f = (mapped_keys.defined() ? mapped_keys : at::elu(keys) + 1).permute({1, 2, 0});
  const at::Tensor weighed =
      at::cat({values, at::ones_like(values.narrow(-1, 0, 1))}, -1).transpose(0, 1);
  state->memory = state->memory.defined() ? state->memory.baddbmm_(f, weighed) : f.bmm(weighed);
}

/// What q [1, H, D] reads from the state's sums: their mean [1, H, D], and the logarithm [H, 1] of
/// their weight, beside the window's where they share it.
std::tuple<at::Tensor, at::Tensor> WindowMemoryImpl::remembered(const at::Tensor& q,
                                                                const AttentionState& state) {
  const c10::impl::ExcludeDispatchKeyGuard no_autocast(c10::DispatchKey::AutocastCPU);
  const int64_t heads = options.heads(), kv_heads = options.kv_heads(), dim = options.head_dim();
  const at::Tensor queries = q.to(at::toOpMathType(q.scalar_type()));
  const Features f = query_features(queries);
  const at::Tensor rows =
      (f.rows.defined() ? f.rows : at::elu(queries) + 1).reshape({kv_heads, heads / kv_heads, -1});
  const at::Tensor sums = rows.bmm(state.memory).view({1, heads, dim + 1});
  // Where all weights have vanished, so have the sums.
  const at::Tensor mean = sums.narrow(-1, 0, dim) /
                          sums.narrow(-1, dim, 1).clamp_min(std::numeric_limits<float>::min());
  at::Tensor lse = sums.select(-1, dim).transpose(0, 1).log();
  if (!options.memory().gated) lse = lse + parameter("gain").unsqueeze(-1);
  if (f.subtracted.defined()) lse = lse + f.subtracted.transpose(0, 1);
  return {mean, lse};
}

}  // namespace fovea::nn
