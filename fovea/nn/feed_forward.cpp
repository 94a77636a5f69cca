#include "fovea/nn/feed_forward.h"

#include <ATen/ops/gelu.h>
#include <ATen/ops/relu.h>
#include <ATen/ops/silu.h>

#include "fovea/nn/choice.h"
#include "fovea/nn/linear.h"

namespace fovea::nn {

Activation parse_activation(const std::string& name) {
  return parse_choice<Activation>("activation", name,
                                  {{"gelu", Activation::kGelu},
                                   {"relu", Activation::kRelu},
                                   {"swiglu", Activation::kSwiglu},
                                   {"geglu", Activation::kGeglu}});
}

FeedForwardImpl::FeedForwardImpl(int64_t model_dim, int64_t ff_dim, Activation activation)
    : activation_(activation) {
  const bool gated = activation == Activation::kSwiglu || activation == Activation::kGeglu;
  input_ = register_module("input", make_linear(model_dim, gated ? 2 * ff_dim : ff_dim));
  output_ = register_module("output", make_linear(ff_dim, model_dim));
}

at::Tensor FeedForwardImpl::forward(const at::Tensor& x) {
  const at::Tensor h = input_(x);
  switch (activation_) {
    case Activation::kGelu:
      return output_(at::gelu(h));
    case Activation::kRelu:
      return output_(at::relu(h));
    case Activation::kSwiglu:
    case Activation::kGeglu:
      break;
  }
  const auto halves = h.chunk(2, -1);
  const at::Tensor gate =
      activation_ == Activation::kSwiglu ? at::silu(halves[0]) : at::gelu(halves[0]);
  return output_(gate * halves[1]);
}

}  // namespace fovea::nn
