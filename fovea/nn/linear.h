#pragma once

#include <torch/nn/modules/linear.h>

namespace fovea::nn {

/// torch's Linear with Xavier-uniform weight [out, in] and a bias of zeros.
torch::nn::Linear make_linear(int64_t in, int64_t out, bool bias = true);

}  // namespace fovea::nn
