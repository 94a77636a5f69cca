#include "fovea/nn/norm.h"

#include <ATen/ops/layer_norm.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/rms_norm.h>
#include <ATen/ops/zeros.h>

#include "fovea/nn/choice.h"

namespace fovea::nn {

constexpr double kEpsilon = 1e-5;

NormType parse_norm_type(const std::string& name) {
  return parse_choice<NormType>("norm type", name,
                                {{"layer", NormType::kLayer}, {"rms", NormType::kRms}});
}

NormImpl::NormImpl(int64_t dim, NormType type) : dim_(dim), type_(type) {
  weight_ = register_parameter("weight", at::ones({dim}));
  if (type == NormType::kLayer) bias_ = register_parameter("bias", at::zeros({dim}));
}

at::Tensor NormImpl::forward(const at::Tensor& x) {
  if (type_ == NormType::kLayer) return at::layer_norm(x, {dim_}, weight_, bias_, kEpsilon);
  return at::rms_norm(x, {dim_}, weight_, kEpsilon);
}

}  // namespace fovea::nn
