#pragma once

#include <cstdint>

#include <ATen/core/Tensor.h>

namespace fovea::ops {

/// Dropout by a counter-based generator: y = x · keep / (1 - p), plus `residual` where given.
///
/// Element i in row-major order is kept when word i / 64 mod 4 of Philox4x32-10 at counter
/// {i / 256 · 64 + i mod 64, 0, 0, 0} (the first two words are one 64-bit number) with key `seed`
/// is at least p · 2³². Any float type and shape; y is contiguous. Parallel, and the same bits for
/// any number of threads; torch's own CPU dropout is serial. Differentiable any number of times;
/// nothing is kept for the backward. Throws c10::Error unless 0 <= p < 1.
at::Tensor dropout(const at::Tensor& x, double p, int64_t seed, const at::Tensor& residual = {});

}  // namespace fovea::ops
