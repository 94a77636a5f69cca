#pragma once

#include <string>

#include <torch/nn/module.h>
#include <torch/nn/pimpl.h>

namespace fovea::nn {

enum class NormType {
  kLayer,  ///< LayerNorm (Ba et al. 2016): (x - mean) / deviation * weight + bias
  kRms,    ///< RMSNorm (Zhang and Sennrich 2019): x / root mean square * weight
};

/// layer, rms; throws InputError that lists them.
NormType parse_norm_type(const std::string& name);

/// Normalisation over the last dimension. Parameters: weight [E] of ones; bias [E] of zeros for
/// kLayer. Epsilon is 1e-5.
class NormImpl : public torch::nn::Module {
 public:
  NormImpl(int64_t dim, NormType type);
  at::Tensor forward(const at::Tensor& x);

 private:
  int64_t dim_;
  NormType type_;
  at::Tensor weight_, bias_;
};
TORCH_MODULE(Norm);

}  // namespace fovea::nn
