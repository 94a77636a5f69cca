#pragma once

#include <cmath>

#include "fovea/attention/launch.h"
#include "fovea/attention/scratch.h"

namespace fovea {

// Cosine scores: q·k / (|q||k|). Rows are read as they lie; scores, and in the backward dS, are
// divided by both lengths in the kernel. What the products then make of dS is g = û' / |x|, where
// û' is the gradient of û = x / |x|, and the gradient of x is
//
//     (û' - û (û·û')) / |x| = g - x (x·g) / |x|²
//
// A vector shorter than kCosineEps is divided by that, a constant: its gradient is g.

/// One over the length of every row of an operand [B, H, S, D].
template <typename T>
class InverseLengths {
 public:
  template <typename Kernels>
  InverseLengths(const TensorView& x, const Kernels& kernels, bool wanted)
      : heads_(x.shape[1]), tiles_((x.shape[2] + kTile - 1) / kTile) {
    if (!wanted) return;
    const int64_t count = x.shape[0] * heads_ * tiles_;
    values_ = AlignedBuffer<T>(static_cast<size_t>(count * kTile));
    run_tasks(count, 2.0 * static_cast<double>(count * kTile * x.shape[3]), [&](int64_t i) {
      const int64_t t = i % tiles_, head = i / tiles_;
      const void* rows = row(x, head / heads_, head % heads_, t);
      const int n = static_cast<int>(std::min<int64_t>(kTile, x.shape[2] - t * kTile));
      T* out = values_.data() + i * kTile;
      kernels.row_dots(rows, x.strides[2], rows, x.strides[2], x.dtype, n,
                       static_cast<int>(x.shape[3]), out);
      for (int r = 0; r < kTile; ++r) {
        const T length = r < n ? std::sqrt(out[r]) : T{1};
        out[r] = 1 / (length < static_cast<T>(kCosineEps) ? static_cast<T>(kCosineEps) : length);
      }
    });
  }
  /// [64] of one tile, or null.
  const T* at(int64_t b, int64_t h, int64_t t) const {
    return values_.size() == 0 ? nullptr : values_.data() + ((b * heads_ + h) * tiles_ + t) * kTile;
  }

 private:
  int64_t heads_, tiles_;
  AlignedBuffer<T> values_;
};

/// along[r] = x·g for each row; then, where `inverse` (one over the rows' lengths) is given, g ←
/// g - x (x·g) / |x|². Rows that hold NaN stay: g is 0 where nobody sees them, and NaN already
/// where somebody does.
template <typename Op, typename T>
void pull_back(const Op* x, int64_t x_stride, const T* inverse, int rows, int dim, T* g, int ld,
               T* along) {
  const auto element = [&](int c) {
    auto value = static_cast<T>(x[c]);
    if constexpr (kernels::kPartsOf<Op> == 2) value += static_cast<T>(x[x_stride / 2 + c]);
    return value;
  };
  for (int r = 0; r < rows; ++r, x += x_stride, g += ld) {
    T sum = 0;
    for (int c = 0; c < dim; ++c) sum += element(c) * g[c];
    along[r] = sum;
    if (!inverse || inverse[r] >= 1 / static_cast<T>(kCosineEps)) continue;
    const T factor = inverse[r] * inverse[r] * sum;
    if (std::isnan(factor)) continue;
    for (int c = 0; c < dim; ++c) g[c] -= element(c) * factor;
  }
}

}  // namespace fovea
