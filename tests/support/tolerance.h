#pragma once

#include <algorithm>
#include <cmath>
#include <vector>

#include "tests/support/attention_problem.h"

#include "fovea/reference/attention_reference.h"

namespace fovea::testing {

/// Spacing of numbers just above 1.
inline double eps(DType dtype) {
  switch (dtype) {
    case DType::kF64:
      return 0x1p-52;
    case DType::kF32:
      return 0x1p-23;
    case DType::kBF16:
      return 0x1p-7;
    case DType::kF16:
      return 0x1p-10;
  }
  return 0;
}

inline double max_abs(const std::vector<double>& x) {
  double max = 0;
  for (const double value : x) max = std::max(max, std::isfinite(value) ? std::fabs(value) : 0.0);
  return max;
}

/// Largest Euclidean length of a row of `dim` values.
inline double max_norm(const std::vector<double>& x, int64_t dim) {
  double max = 0;
  for (size_t i = 0; i < x.size(); i += static_cast<size_t>(dim)) {
    double sum = 0;
    for (int64_t d = 0; d < dim; ++d) sum += x[i + d] * x[i + d];
    max = std::max(max, sum);
  }
  return std::sqrt(max);
}

/// Bounds on an engine's error, each a formula in eps and sizes. `u` is eps of the arithmetic
/// (f32 for f32 and bf16 storage), `s` eps of the storage type.
///
/// Rounding errors of a dot product of length D add like a random walk, to about u·|a||b|/√D for
/// the sum's last digits and u·|a·b| for its size; the weight 2^(s - m) inherits its score's error
/// and adds 4 u for the exponential, the sum and the division:
///
///     weight = u (scale·|q||k| + 4)                 relative, of every weight
///     o      = weight · max|v| + s/2 · max|o|       the last term: one rounding at the end
///     lse    = weight + u · max|lse|
///     ds     = weight · dp + s/2 · |o||dO|/√Dv      per unit of weight; δ is made of the stored o
///     dp     = 4 |dO||v|/√Dv                        size of dP - δ
///     dq     = scale · max|k| · ds + s/2 · max|dq|
///     dk     = scale · max|q| · ds · mass + s/2 · max|dk|    mass: largest column sum of weights
///     dv     = weight · max|dO| · mass + s/2 · max|dv|
///
/// Dropout multiplies weights by 1/(1 - p), and so `ds`, `o` and `dv`.
struct Tolerances {
  double o, lse, d_q, d_k, d_v;
};

/// Largest sum of a key's weights over the queries that see it, over all heads of its group.
inline double max_column_mass(const reference::Problem& p, const std::vector<double>& lse,
                              double scale) {
  double max = 0;
  const int64_t group = p.heads / p.kv_heads;
  for (int64_t b = 0; b < p.batch; ++b) {
    std::vector<double> mass(static_cast<size_t>(p.kv_heads * p.kv_len), 0);
    for (int64_t h = 0; h < p.heads; ++h) {
      const PatternScope scope{p.q_len, p.kv_len, p.alignment, b, h, &p.inputs};
      for (int64_t i = 0; i < p.q_len; ++i) {
        const double* q = p.q.data() + ((b * p.heads + h) * p.q_len + i) * p.head_dim;
        for (int64_t j = 0; j < p.kv_len; ++j) {
          if (!p.pattern.allows(scope, i, j)) continue;
          const int64_t kv = h / group;
          const double* k = p.k.data() + ((b * p.kv_heads + kv) * p.kv_len + j) * p.head_dim;
          double dot = 0;
          for (int64_t d = 0; d < p.head_dim; ++d) dot += q[d] * k[d];
          mass[static_cast<size_t>(kv * p.kv_len + j)] +=
              std::exp(scale * dot - lse[static_cast<size_t>((b * p.heads + h) * p.q_len + i)]);
        }
      }
    }
    max = std::max(max, max_abs(mass));
  }
  return max;
}

inline Tolerances tolerances(const CaseTensors& t, const reference::Problem& p,
                             const reference::Forward& forward, const reference::Backward& backward,
                             const std::vector<double>& d_o) {
  const double u = eps(t.c.dtype == DType::kF64 ? DType::kF64 : DType::kF32);
  const double s = eps(t.c.dtype);
  const double scale =
      t.scale != 0 ? double{t.scale} : 1 / std::sqrt(static_cast<double>(p.head_dim));
  const double size = std::fabs(scale) * max_norm(p.q, p.head_dim) * max_norm(p.k, p.head_dim);
  const double weight = u * (size + 4);
  const double kept = 1 / (1 - p.dropout_p);
  const double d_o_norm = max_norm(d_o, p.value_dim);
  const double spread = std::sqrt(static_cast<double>(p.value_dim));
  const double dp = 4 * d_o_norm * max_norm(p.v, p.value_dim) / spread;
  const double ds =
      kept * (weight * dp + s / 2 * max_norm(forward.o, p.value_dim) * d_o_norm / spread);
  const double mass = t.c.backward ? max_column_mass(p, forward.lse, scale) : 0;
  return {weight * kept * max_abs(p.v) + s / 2 * max_abs(forward.o),
          weight + u * max_abs(forward.lse),
          std::fabs(scale) * max_abs(p.k) * ds + s / 2 * max_abs(backward.d_q),
          std::fabs(scale) * max_abs(p.q) * ds * mass + s / 2 * max_abs(backward.d_k),
          weight * kept * max_abs(d_o) * mass + s / 2 * max_abs(backward.d_v)};
}

}  // namespace fovea::testing
