#include "fovea/nn/window_memory.h"

#include <cmath>
#include <limits>

#include <ATen/ops/full.h>
#include <ATen/ops/lerp.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/sigmoid.h>
#include <ATen/ops/zeros.h>
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

WindowMemoryImpl::Features WindowMemoryImpl::features(const at::Tensor& qkv) {
  const Mechanism mechanism = options.memory().mechanism;
  if (mechanism == Mechanism::kLinear) return {};
  const at::Tensor q = qkv.narrow(1, 0, options.heads());
  const at::Tensor k = qkv.narrow(1, options.heads(), options.kv_heads());
  if (mechanism == Mechanism::kPerformer) {
    at::Tensor& directions = parameter("random_directions");
    if (is_training()) redraw_orthogonal_directions_(directions);
    Features f;
    f.q = random_positive_features(q, directions, /*stabilise=*/true, &f.subtracted);
    f.k = random_positive_features(k, directions, /*stabilise=*/false);
    f.subtracted = f.subtracted.squeeze(-1);
    return f;
  }
  const at::Tensor query_map = parameter("query_map").to(q.scalar_type());
  const at::Tensor key_map = parameter("key_map").to(k.scalar_type());
  if (mechanism == Mechanism::kBased) {
    return {taylor_features(mapped(q, query_map)), taylor_features(mapped(k, key_map)), {}};
  }
  return {hedgehog_features(q, query_map), hedgehog_features(k, key_map), {}};
}

at::Tensor WindowMemoryImpl::forward(const at::Tensor& qkv, const Packing& packing,
                                     const ops::AttentionArguments& arguments) {
  const int64_t tokens = qkv.size(0), heads = options.heads();
  ops::LinearMemoryArguments memory{left_, right_, FeatureMap::kIdentity};
  if (options.memory().mechanism == Mechanism::kLinear) memory.map = FeatureMap::kEluPlusOne;
  const Features f = features(qkv);
  if (!options.memory().gated) {
    at::Tensor gain = parameter("gain").unsqueeze(0).expand({tokens, heads});
    if (f.subtracted.defined()) gain = gain + f.subtracted;
    return std::get<0>(ops::attention_qkv_memory(qkv, heads, packing.cu_seqlens, window_text_,
                                                 arguments, f.q, f.k, gain, memory));
  }
  const at::Tensor o =
      std::get<0>(ops::attention_qkv(qkv, heads, packing.cu_seqlens, window_text_, arguments));
  const int64_t kv_heads = options.kv_heads();
  const auto parts = qkv.to(o.scalar_type()).split_with_sizes({heads, kv_heads, kv_heads}, 1);
  const auto type =
      at::TensorOptions().dtype(o.scalar_type() == at::kDouble ? at::kDouble : at::kFloat);
  const at::Tensor nothing =
      at::full({heads, tokens}, -std::numeric_limits<double>::infinity(), type);
  const at::Tensor remembered =
      std::get<0>(ops::linear_memory(f.q.defined() ? f.q.to(o.scalar_type()) : parts[0],
                                     f.k.defined() ? f.k.to(o.scalar_type()) : parts[1], parts[2],
                                     at::zeros(o.sizes(), o.options()), nothing,
                                     at::zeros({tokens, heads}, type), packing.cu_seqlens, memory));
  const at::Tensor weight = at::sigmoid(parameter("gate")).unsqueeze(-1);
  return at::lerp(o, remembered, weight.to(o.scalar_type()));
}

}  // namespace fovea::nn
