#include "fovea/nn/linear_mixer.h"

#include <cmath>
#include <tuple>

#include <ATen/OpMathType.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/exp.h>
#include <ATen/ops/layer_norm.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/log_sigmoid.h>
#include <ATen/ops/rms_norm.h>
#include <ATen/ops/sigmoid.h>
#include <ATen/ops/silu.h>
#include <ATen/ops/softplus.h>
#include <ATen/ops/tensor.h>
#include <c10/core/GradMode.h>

#include "fovea/core/status.h"
#include "fovea/nn/feature_maps.h"
#include "fovea/nn/random.h"
#include "fovea/ops/linear_attention.h"
#include "fovea/ops/rotary.h"
#include "fovea/ops/short_convolution.h"

namespace fovea::nn {
namespace {

constexpr double kEpsilon = 1e-5;

/// Rows of length 1.
at::Tensor unit(const at::Tensor& x) {
  return x * (x.square().sum(-1, /*keepdim=*/true) + 1e-6).rsqrt();
}

/// The weight in x's type: mixed types make torch warn.
at::Tensor rms_norm(const at::Tensor& x, const at::Tensor& weight) {
  return at::rms_norm(x, {x.size(-1)}, weight.to(x.scalar_type()), kEpsilon);
}

void scaled_xavier_(at::Tensor weight, double gain) {
  const at::NoGradGuard no_grad;
  init_xavier_(weight);
  weight.mul_(gain);
}

}  // namespace

LinearMixerImpl::LinearMixerImpl(const LinearMixerOptions& options_) : options(options_) {
  const Mechanism mechanism = options.mechanism();
  if (mechanism == Mechanism::kSoftmax || mechanism == Mechanism::kLinear) {
    throw InputError(std::string("LinearMixer: expected a recurrent mechanism, found ") +
                     name_of(mechanism) + ", which is nn::Attention's own");
  }
  if (options.heads() < 1 || options.model_dim() < 1 ||
      options.model_dim() % options.heads() != 0) {
    throw InputError("LinearMixer: expected heads that divide model_dim, found " +
                     std::to_string(options.heads()) + " and " +
                     std::to_string(options.model_dim()));
  }
  const std::string unmet = unmet_of_mixer(mechanism, options.model_dim(), options.heads());
  if (!unmet.empty()) throw InputError("LinearMixer: expected " + unmet);
  if (!options.causal() && !reads_both_sides(mechanism)) {
    throw InputError(std::string("LinearMixer: expected causal with ") + name_of(mechanism) +
                     ", which reads a state step by step");
  }
  sizes_ = mixer_sizes(mechanism, options.model_dim(), options.heads());
  for (const auto& [name, shape] :
       mixer_parameters(mechanism, options.model_dim(), options.heads())) {
    register_parameter(name, at::empty(shape), name != "random_directions");
  }
  initialise();
}

at::Tensor& LinearMixerImpl::parameter(const char* name) { return parameters_[name]; }

void LinearMixerImpl::initialise() {
  const at::NoGradGuard no_grad;
  const Mechanism mechanism = options.mechanism();
  const bool retention = mechanism == Mechanism::kRetNet, gla = mechanism == Mechanism::kGla;
  const double gain = retention || gla ? std::exp2(-2.5) : 1;
  const int64_t keys = sizes_.key_heads * sizes_.key_dim;
  int64_t first = 0;
  for (const int64_t rows : {keys, keys, sizes_.inner(), sizes_.inputs() - sizes_.convolved()}) {
    if (rows > 0) scaled_xavier_(parameter("input_weight").narrow(0, first, rows), gain);
    first += rows;
  }
  scaled_xavier_(parameter("output_weight"), retention ? 0.5 : gain);
  for (auto& item : parameters_) {
    at::Tensor& p = item.value();
    const std::string& name = item.key();
    if (name == "convolution_weight") p.uniform_(-0.5, 0.5);
    if (name == "convolution_bias" || name == "decay_bias") p.zero_();
    if (name == "decay_down_weight" || name == "decay_up_weight") scaled_xavier_(p, gain);
    if (name == "norm_weight" || name == "skip") p.fill_(1);
    if (name == "log_rate") p.uniform_(1, 16).log_();
    if (name == "step_bias") {  // softplus of it is the step
      p.uniform_(std::log(1e-3), std::log(1e-1)).exp_();
      p.copy_(p + (-(-p).expm1()).log());
    }
    if (name == "query_map" || name == "key_map") {
      p.zero_();
      p.diagonal(0, 1, 2).fill_(1);
    }
    if (name == "random_directions") draw_orthogonal_directions_(p);
  }
}

void LinearMixerImpl::rotate(at::Tensor* q, at::Tensor* k, const Packing& packing) {
  const bool own = options.mechanism() == Mechanism::kRetNet;
  if (!own && !(options.rotary() && reads_both_sides(options.mechanism()))) return;
  const int64_t dim = q->size(2), heads = q->size(1);
  const at::Tensor table = ops::rotary_table(packing.max_length, dim, options.rope_theta());
  const at::Tensor both = ops::rotary(at::cat({*q, *k}, 1), table, packing.positions, 2 * heads);
  *q = both.narrow(1, 0, heads);
  *k = both.narrow(1, heads, heads);
}

void LinearMixerImpl::map_features(at::Tensor* q, at::Tensor* k) {
  switch (options.mechanism()) {
    case Mechanism::kPerformer: {
      at::Tensor& directions = parameter("random_directions");
      if (is_training()) redraw_orthogonal_directions_(directions);
      *q = random_positive_features(*q, directions, /*stabilise=*/true);
      *k = random_positive_features(*k, directions, /*stabilise=*/false);
      return;
    }
    case Mechanism::kBased:
      *q = taylor_features(*q);
      *k = taylor_features(*k);
      return;
    case Mechanism::kHedgehog:
      *q = hedgehog_features(*q, parameter("query_map"));
      *k = hedgehog_features(*k, parameter("key_map"));
      return;
    case Mechanism::kDeltaNet:
    case Mechanism::kGatedDeltaNet:
      *q = unit(*q);
      *k = unit(*k);
      return;
    default:
      return;
  }
}

/// Δ [T, H]
at::Tensor LinearMixerImpl::steps(const at::Tensor& raw) {
  return at::softplus(raw.to(at::toOpMathType(raw.scalar_type())) + parameter("step_bias"));
}

/// Logarithms: [T, H], or [T, H, D] by channel.
at::Tensor LinearMixerImpl::decay(const at::Tensor& x, const at::Tensor& steps) {
  const int64_t tokens = x.size(0), heads = options.heads();
  if (options.mechanism() == Mechanism::kRetNet) {
    std::vector<double> logs;
    for (int64_t h = 0; h < heads; ++h) {
      logs.push_back(std::log1p(-std::exp2(-5.0 - static_cast<double>(h))));
    }
    return at::tensor(logs, at::TensorOptions().dtype(at::toOpMathType(x.scalar_type())))
        .expand({tokens, heads});
  }
  if (options.mechanism() == Mechanism::kGla) {
    const at::Tensor low = at::linear(x, parameter("decay_down_weight"));
    const at::Tensor logits =
        at::linear(low, parameter("decay_up_weight"), parameter("decay_bias"));
    return (at::log_sigmoid(logits.to(at::toOpMathType(x.scalar_type()))) / 16)
        .view({tokens, heads, sizes_.key_dim});
  }
  return sizes_.steps ? -at::exp(parameter("log_rate")) * steps : at::Tensor();
}

/// [T, H, Dv] to [T, H · Dv], normalised and gated.
at::Tensor LinearMixerImpl::normalise(const at::Tensor& o, const at::Tensor& gate) {
  const int64_t tokens = o.size(0), dim = sizes_.value_dim;
  if (options.mechanism() == Mechanism::kMamba2) {
    return rms_norm(o.reshape({tokens, sizes_.inner()}) * at::silu(gate), parameter("norm_weight"));
  }
  at::Tensor y = o;
  if (options.mechanism() == Mechanism::kRetNet) y = at::layer_norm(o, {dim}, {}, {}, kEpsilon);
  if (sizes_.norm) y = rms_norm(o, parameter("norm_weight"));
  y = y.reshape({tokens, sizes_.inner()});
  return sizes_.gate ? y * at::silu(gate) : y;
}

at::Tensor LinearMixerImpl::forward(const at::Tensor& x, const Packing& packing,
                                    AttentionState* state) {
  TORCH_CHECK(x.dim() == 2 && x.size(0) == packing.tokens, "LinearMixer: expected x [",
              packing.tokens, ", ", options.model_dim(), "], got ", x.sizes());
  const int64_t tokens = packing.tokens, heads = options.heads(), inner = sizes_.inner();
  const int64_t keys = sizes_.key_heads * sizes_.key_dim, convolved = sizes_.convolved();
  const auto parts = at::linear(x, parameter("input_weight"))
                         .split_with_sizes({convolved, sizes_.gate ? inner : 0,
                                            sizes_.delta ? heads : 0, sizes_.steps ? heads : 0},
                                           1);
  at::Tensor mixed = parts[0];
  if (sizes_.convolution) {
    at::Tensor last;
    std::tie(mixed, last) =
        ops::short_convolution(mixed, parameter("convolution_weight"), packing.cu_seqlens,
                               state ? state->convolved : at::Tensor());
    if (state) state->convolved = last;
    if (options.mechanism() == Mechanism::kMamba2) mixed = mixed + parameter("convolution_bias");
    mixed = at::silu(mixed);
  }
  const auto qkv = mixed.split_with_sizes({keys, keys, inner}, 1);
  at::Tensor q = qkv[0].reshape({tokens, sizes_.key_heads, sizes_.key_dim});
  at::Tensor k = qkv[1].reshape({tokens, sizes_.key_heads, sizes_.key_dim});
  at::Tensor v = qkv[2].reshape({tokens, heads, sizes_.value_dim});
  rotate(&q, &k, packing);
  map_features(&q, &k);

  const bool mamba = options.mechanism() == Mechanism::kMamba2;
  const at::Tensor step = sizes_.steps ? steps(parts[3]) : at::Tensor();
  ops::LinearAttentionArguments arguments;
  arguments.map = FeatureMap::kIdentity;
  arguments.causal = options.causal();
  arguments.normalise = reads_both_sides(options.mechanism());
  arguments.decay = decay(x, step);
  if (sizes_.delta) arguments.beta = at::sigmoid(parts[2].to(at::toOpMathType(x.scalar_type())));
  if (!arguments.normalise && !mamba) {
    arguments.scale = 1 / std::sqrt(static_cast<double>(sizes_.key_dim));
  }
  const at::Tensor values = mamba ? v * step.to(v.scalar_type()).unsqueeze(2) : v;
  if (mamba) {
    q = q.expand({tokens, heads, sizes_.key_dim});
    k = k.expand({tokens, heads, sizes_.key_dim});
  }
  at::Tensor o = attend_linear(q, k, values.to(q.scalar_type()), packing.cu_seqlens,
                               packing.cu_seqlens, arguments, state);
  if (mamba) o = o + parameter("skip").unsqueeze(1) * v;
  return at::linear(normalise(o, parts[1]).to(x.scalar_type()), parameter("output_weight"));
}

}  // namespace fovea::nn
