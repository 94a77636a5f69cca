#include "fovea/nn/feature_maps.h"

#include <cmath>
#include <vector>

#include <ATen/ops/cat.h>
#include <ATen/ops/constant_pad_nd.h>
#include <ATen/ops/linalg_qr.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/ones_like.h>
#include <ATen/ops/rand.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/softmax.h>
#include <ATen/ops/tensor.h>
#include <c10/core/GradMode.h>

#include "fovea/nn/mixer_shapes.h"

namespace fovea::nn {

at::Tensor taylor_features(const at::Tensor& x) {
  constexpr double kRoot = 4;  // √16
  std::vector<int64_t> first, second;
  std::vector<double> weight;
  for (int64_t i = 0; i < kTaylorDim; ++i) {
    for (int64_t j = i; j < kTaylorDim; ++j) {
      first.push_back(i);
      second.push_back(j);
      weight.push_back((i == j ? std::sqrt(0.5) : 1) / kRoot);
    }
  }
  const at::Tensor products = x.index_select(-1, at::tensor(first)) *
                              x.index_select(-1, at::tensor(second)) *
                              at::tensor(weight, at::kDouble).to(x.scalar_type());
  const at::Tensor one = at::ones_like(x.narrow(-1, 0, 1));
  const at::Tensor all = at::cat({one, x / std::sqrt(kRoot), products}, -1);
  return at::constant_pad_nd(all, {0, kTaylorFeatures - all.size(-1)});
}

at::Tensor random_positive_features(const at::Tensor& x, const at::Tensor& directions,
                                    bool stabilise, at::Tensor* c) {
  const auto type = x.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
  const double size = std::pow(static_cast<double>(x.size(-1)), -0.25);
  const at::Tensor scaled = x.to(type) * size;
  at::Tensor exponent = at::matmul(scaled, directions.to(type).t()).to(type) -
                        scaled.square().sum(-1, /*keepdim=*/true) / 2;
  if (stabilise) {
    const at::Tensor most = exponent.detach().amax(-1, /*keepdim=*/true);
    exponent = exponent - most;
    if (c) *c = most;
  }
  return exponent.exp() / std::sqrt(static_cast<double>(directions.size(0)));
}

void draw_orthogonal_directions_(at::Tensor directions) {
  const at::NoGradGuard no_grad;
  const int64_t features = directions.size(0), dim = directions.size(1);
  const auto normal = [&] {
    return at::randn({dim, dim}, directions.options().dtype(at::kDouble).requires_grad(false));
  };
  for (int64_t first = 0; first < features; first += dim) {
    const int64_t rows = std::min(dim, features - first);
    // Only with R's diagonal positive is Q as likely as any other rotation of it (Mezzadri 2007).
    const auto [raw, r] = at::linalg_qr(normal());
    const at::Tensor q = raw * r.diagonal().sign();
    const at::Tensor lengths = normal().norm(2, {1}, /*keepdim=*/true);
    directions.narrow(0, first, rows).copy_((q * lengths).narrow(0, 0, rows));
  }
}

void redraw_orthogonal_directions_(at::Tensor directions) {
  constexpr double kPasses = 1000;
  if (at::rand({1}).item<double>() * kPasses < 1) draw_orthogonal_directions_(directions);
}

at::Tensor hedgehog_features(const at::Tensor& x, const at::Tensor& map) {
  const at::Tensor y = at::matmul(x.transpose(0, 1), map.transpose(1, 2)).transpose(0, 1);
  return at::cat({at::softmax(y, -1), at::softmax(-y, -1)}, -1);
}

}  // namespace fovea::nn
