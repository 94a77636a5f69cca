#pragma once

#include <functional>
#include <vector>

#include <ATen/core/Tensor.h>

namespace fovea::nn {

/// Computes y = body(x) without keeping what its backward needs, and computes it again in the
/// backward (gradient checkpointing, Chen et al. 2016). The second run sees the same state of
/// torch's default CPU generator and the same autocast setting, so its bits, dropout included, are
/// those of the first. `parameters`: the tensors besides x that body uses and that want gradients.
at::Tensor checkpoint(const std::function<at::Tensor(const at::Tensor&)>& body, const at::Tensor& x,
                      const std::vector<at::Tensor>& parameters);

}  // namespace fovea::nn
