#pragma once

#include <torch/nn/module.h>
#include <torch/nn/pimpl.h>

#include "fovea/nn/attention_state.h"
#include "fovea/nn/mixer_shapes.h"
#include "fovea/nn/packing.h"
#include "fovea/pattern/layer_attention.h"

namespace fovea::nn {

struct LinearMixerOptions {
  TORCH_ARG(Mechanism, mechanism) = Mechanism::kGatedDeltaNet;  ///< neither softmax nor linear
  TORCH_ARG(int64_t, model_dim) = 0;
  TORCH_ARG(int64_t, heads) = 1;
  TORCH_ARG(bool, causal) = true;   ///< of performer, based and hedgehog; the others always are
  TORCH_ARG(bool, rotary) = false;  ///< of performer, based and hedgehog; retnet always rotates
  TORCH_ARG(double, rope_theta) = 10000;
};

/// A layer that mixes tokens through a state of fixed size, [T, E] to [T, E] over packed documents:
///
///     [q k v gate β Δ] = input_weight x       with those that the mechanism has
///     q, k, v = silu(short_convolution(q, k, v))                       where it convolves
///     o = linear attention of f(q), f(k), v                            ops/linear_attention.h
///     y = output_weight (norm(o) ∘ silu(gate))
///
///     performer       f positive random features, normalised            Choromanski et al. 2021
///     based           f Taylor features of 16 numbers, normalised        Arora et al. 2024
///     hedgehog        f learned, normalised                              Zhang et al. 2024
///     retnet          decay 1 - 2^(-5-h), rotary positions, group norm, gate   Sun et al. 2023
///     gla             decay sigmoid(W₂ W₁ x + b)^(1/16) a channel, norm, gate   Yang et al. 2024
///     mamba2          decay exp(-a Δ), v = Δ x, keys shared by all heads, skip, convolution,
///                     norm of the gated                                  Dao and Gu 2024
///     deltanet        delta writes β = sigmoid, |q| = |k| = 1, convolution, norm   Yang et al.
///     2024 gated_deltanet  the same with decay exp(-a Δ) and gate             Yang et al. 2025
///
/// Δ = softplus(· + step_bias), a = exp(log_rate). Parameters: mixer_parameters(), mixer_shapes.h.
/// Where we differ: RetNet's positions rotate without xPos' growth; Based has no convolution and no
/// window of its own (write "window(64), based"); Mamba-2's state is 64 wide. Initialisation:
/// Xavier, RetNet and GLA with gain 2^(-5/2) (output 1/2 and 2^(-5/2)); steps log-uniform in
/// [0.001, 0.1] and rates uniform in [1, 16] (Mamba-2); learned maps start as the identity;
/// convolutions uniform in ±1/2. Performer redraws its directions in training, on average every
/// 1000 forward passes. Decays are computed in float32. Cost: linear in T.
class LinearMixerImpl : public torch::nn::Module {
 public:
  /// Throws InputError where the options do not fit together.
  explicit LinearMixerImpl(const LinearMixerOptions& options);
  /// With a state: the next rows of its document (AttentionState); causal only.
  at::Tensor forward(const at::Tensor& x, const Packing& packing, AttentionState* state = nullptr);

  LinearMixerOptions options;

 private:
  at::Tensor& parameter(const char* name);
  void initialise();
  void rotate(at::Tensor* q, at::Tensor* k, const Packing& packing);
  void map_features(at::Tensor* q, at::Tensor* k);
  at::Tensor steps(const at::Tensor& raw);
  at::Tensor decay(const at::Tensor& x, const at::Tensor& steps);
  at::Tensor normalise(const at::Tensor& o, const at::Tensor& gate);

  MixerSizes sizes_;
};
TORCH_MODULE(LinearMixer);

}  // namespace fovea::nn
