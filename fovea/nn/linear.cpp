#include "fovea/nn/linear.h"

#include "fovea/nn/random.h"

namespace fovea::nn {

torch::nn::Linear make_linear(int64_t in, int64_t out, bool bias) {
  torch::nn::Linear linear(torch::nn::LinearOptions(in, out).bias(bias));
  init_xavier_(linear->weight);
  if (bias) linear->bias.detach().zero_();
  return linear;
}

}  // namespace fovea::nn
