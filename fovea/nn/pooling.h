#pragma once

#include <string>

#include <torch/nn/modules/linear.h>
#include <torch/nn/pimpl.h>

#include "fovea/nn/packing.h"

namespace fovea::nn {

enum class PoolingType {
  kMean,
  kMax,
  kFirst,
  kLast,
  kAttention,  ///< weights softmax(score(x)) over a document's rows, one set for each head
};

/// mean, max, first, last, attention; throws InputError that lists them.
PoolingType parse_pooling(const std::string& name);

/// One vector for each document: [T, E] to [N, E]. Documents must not be empty (c10::Error).
/// kAttention has parameters score.weight [heads, E] and score.bias; head h weighs the h-th part of
/// the features (E / heads, a multiple of 8 up to 256).
class PoolingImpl : public torch::nn::Module {
 public:
  PoolingImpl(PoolingType type, int64_t model_dim, int64_t heads = 1);
  at::Tensor forward(const at::Tensor& x, const Packing& packing);

 private:
  PoolingType type_;
  int64_t heads_;
  torch::nn::Linear score_{nullptr};
};
TORCH_MODULE(Pooling);

}  // namespace fovea::nn
