#pragma once

#include <cstdint>

#include <ATen/core/Tensor.h>

namespace fovea::ops {

/// Rotary position embedding (Su et al. 2021, eq. 34) of the first `heads` heads of x; the others
/// are copied, so a packed [T, Hq + 2 Hkv, D] projection takes heads = Hq + Hkv.
///
/// Shapes: x [T, H, D], D even; table from rotary_table(); positions int64 [T], below the table's
/// length. Elements i and i + D/2 of a head make a pair (the order of Hugging Face checkpoints).
/// `inverse` rotates back. Returns a contiguous [T, H, D]. Differentiable in x any number of times.
at::Tensor rotary(const at::Tensor& x, const at::Tensor& table, const at::Tensor& positions,
                  int64_t heads, bool inverse = false);

/// Angles' cosines and sines, float32 [length, D]: row p is cos(p θ_i) for i < D/2, then sin(p
/// θ_i), θ_i = theta^(-2i/D), computed in double; at least `length` rows. Grown tables are kept for
/// the process; thread-safe.
at::Tensor rotary_table(int64_t length, int64_t head_dim, double theta);

}  // namespace fovea::ops
