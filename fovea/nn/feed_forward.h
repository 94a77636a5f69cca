#pragma once

#include <string>

#include <torch/nn/modules/linear.h>
#include <torch/nn/pimpl.h>

namespace fovea::nn {

enum class Activation {
  kGelu,  ///< exact, with erf
  kRelu,
  kSwiglu,  ///< silu(a) * b of two halves (Shazeer 2020)
  kGeglu,   ///< gelu(a) * b
};

/// gelu, relu, swiglu, geglu; throws InputError that lists them.
Activation parse_activation(const std::string& name);

/// Position-wise feed-forward, output(act(input(x))): [T, E] to [T, E]. Parameters: input.weight
/// [F, E] ([2 F, E] when gated, gate half first), output.weight [E, F], with biases.
/// Xavier-uniform weights, zero biases.
class FeedForwardImpl : public torch::nn::Module {
 public:
  FeedForwardImpl(int64_t model_dim, int64_t ff_dim, Activation activation);
  at::Tensor forward(const at::Tensor& x);

 private:
  Activation activation_;
  torch::nn::Linear input_{nullptr}, output_{nullptr};
};
TORCH_MODULE(FeedForward);

}  // namespace fovea::nn
