// The installed operators: with every pair allowed they agree with torch's own attention, values
// and gradients.
#include <cstdio>

#include <torch/torch.h>

#include "fovea/ops/attention.h"

int main() {
  torch::manual_seed(1);
  const auto make = [] { return torch::randn({1, 2, 70, 16}).requires_grad_(); };
  const torch::Tensor q = make(), k = make(), v = make();

  const torch::Tensor o = std::get<0>(fovea::ops::attention(q, k, v, "full"));
  const torch::Tensor expected = at::scaled_dot_product_attention(q, k, v);
  const auto d_o = torch::randn_like(o);
  const auto gradients = torch::autograd::grad({o}, {q, k, v}, {d_o});
  const auto expected_gradients = torch::autograd::grad({expected}, {q, k, v}, {d_o});

  double worst = (o - expected).abs().max().item<double>();
  for (size_t i = 0; i < 3; ++i) {
    worst = std::max(worst, (gradients[i] - expected_gradients[i]).abs().max().item<double>());
  }
  std::printf("largest difference from torch %.2e\n", worst);
  return worst < 1e-5 ? 0 : 1;
}
