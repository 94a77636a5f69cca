#pragma once

#include <vector>

#include <gtest/gtest.h>
#include <torch/torch.h>

#include "fovea/nn/packing.h"

namespace fovea::nn {

inline Packing packing_of(const std::vector<int64_t>& lengths) {
  std::vector<int32_t> offsets = {0};
  for (const int64_t length : lengths)
    offsets.push_back(offsets.back() + static_cast<int32_t>(length));
  return Packing(torch::tensor(offsets, torch::kInt));
}

/// Largest difference of two tensors, relative to the larger norm of their elements.
inline double distance(const at::Tensor& a, const at::Tensor& b) {
  return ((a - b).abs().max() / b.abs().max().clamp_min(1e-30)).item<double>();
}

/// Rounding of f32 sums of a few hundred terms in another order.
constexpr double kF32 = 2e-5;

inline void expect_same_gradients(const std::vector<at::Tensor>& a,
                                  const std::vector<at::Tensor>& b, double tolerance = kF32) {
  ASSERT_EQ(a.size(), b.size());
  for (size_t i = 0; i < a.size(); ++i)
    EXPECT_LT(distance(a[i], b[i]), tolerance) << "gradient " << i;
}

inline bool same_bits(const at::Tensor& a, const at::Tensor& b) { return at::equal(a, b); }

}  // namespace fovea::nn
