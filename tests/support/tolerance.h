#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "tests/support/attention_problem.h"
#include "tests/support/engines.h"

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
    case DType::kI8:
      break;
  }
  return 0;
}

/// Largest error of one rounding of x to the storage type: half its spacing there.
inline double rounding(DType dtype, double x) {
  const double smallest = dtype == DType::kF16 ? 0x1p-25 : 0;  // half of f16's least spacing
  return std::max(eps(dtype) / 2 * std::fabs(x), smallest);
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

/// Smallest Euclidean length of a row of `dim` values.
inline double min_norm(const std::vector<double>& x, int64_t dim) {
  double min = std::numeric_limits<double>::infinity();
  for (size_t i = 0; i < x.size(); i += static_cast<size_t>(dim)) {
    const auto row = x.begin() + static_cast<std::ptrdiff_t>(i);
    min = std::min(min, max_norm({row, row + dim}, dim));
  }
  return min;
}

/// Bounds on an engine's error, each a formula in eps and sizes. `u` is eps of the arithmetic
/// (f32 for f32, bf16 and f16 storage; for f64 twice eps, since the oracle computes in f64 too and
/// errs as much), `s` eps of the storage type; s/2 · x is half the spacing at
/// x, which for f16 is at least 2^-25. A matrix unit of bf16 operands rounds weights and dS to
/// them, relatively by r = 2^-8, and has an exponential good to e = 2^-18; one of operands in two
/// parts drops what is below r = 2^-16 (2^-17 of each operand, and the product of lower parts);
/// others have r = e = 0. f32 problems on either round q, k, v and dO too, by ρ = r; of bf16
/// storage ρ = 0.
///
/// Rounding errors of a dot product of length D add like a random walk, to about u·|a||b|/√D for
/// the sum's last digits and u·|a·b| for its size; the weight 2^(s - m) inherits its score's error
/// and adds 4 u for the exponential, the sum and the division. Roundings of operands are uniform:
/// those of a and b move a·b by walk(a, b) = 5 √(2/3) ρ |a||b|/√D, 5 deviations, which occur among
/// 10^6 elements.
///
///     weight = u (scale·|q||k| + 4) + e + scale · walk(q, k)     relative, of every weight
///     o      = (weight + r + ρ) · max|v| + s/2 · max|o|          the last: one rounding at the end
///     lse    = weight + u · max|lse|
///     ds     = (weight + r + ρ) · dp + 2 walk(dO, v) + 5/√3 · s/2 · |o||dO|/√Dv   per unit of
///              weight; δ is of the stored o, whose Dv roundings are uniform too
///     dp     = 4 |dO||v|/√Dv                        size of dP - δ
///     dq     = scale · max|k| · ds + s/2 · max|dq|
///     dk     = scale · max|q| · ds · mass + s/2 · max|dk|    mass: largest column sum of weights
///     dv     = (weight + r + ρ) · max|dO| · mass + s/2 · max|dv|
///     dbias  = ds · (heads and batch elements that share it), and · mass where queries do
///     by_row = 2 ds · √(rows)                       sums over all rows: sinks, distances
///     dscale = by_row · |q||k|
///     H      = 2 weight · (1 + ln(Sk + 1)) + u · max H       each weight's error, times 1 + |ln w|
///     column = (2 weight + u √Sq) · max column mass          weights are made again from lse, and
///                                                            their sum over the rows is rounded
///
/// Under cosine |q||k| is 1, with 4 times the error of a product for the two lengths, and max|k| in
/// dq is 2 / min|q| (likewise in dk). With score modifications scale·|q||k| grows by what they add:
/// the sizes of biases, of slopes times lengths, of sinks, and 8 times a capped score for tanh.
///
/// Additive scores have no scale, and Σ|w| in place of |q||k|, 4 times: each tanh is good to a few
/// u. In dq and dk max|w| stands for max|k| and max|q|. A leaky slope makes errors smaller, but
/// that a score which is 0 to rounding may take either slope: dq and dk then grow by (1 - slope) ·
/// scale · max|k| · |dO||v| · the key's column mass.
///
/// Dropout multiplies weights by 1/(1 - p), and so `ds`, `o` and `dv`.
struct Tolerances {
  double o, lse, d_q, d_k, d_v, d_bias, by_row, d_scales, row_entropy, column_mass;
};

/// Largest sum of a key's weights over the queries that see it, over all heads of its group.
inline double max_column_mass(const reference::Problem& p, const std::vector<double>& mass) {
  const int64_t group = p.heads / p.kv_heads;
  double max = 0;
  for (int64_t kv = 0; kv < p.batch * p.kv_heads; ++kv) {
    for (int64_t j = 0; j < p.kv_len; ++j) {
      double sum = 0;
      for (int64_t h = kv * group; h < (kv + 1) * group; ++h) {
        sum += mass[static_cast<size_t>(h * p.kv_len + j)];
      }
      max = std::max(max, sum);
    }
  }
  return max;
}

/// Largest value of what is added to a score, and of what tanh adds to its error.
inline double modification_size(const reference::Problem& p, double score_size) {
  const auto max_of = [](const TensorView& t) {
    const auto* x = static_cast<const double*>(t.data);
    return t.empty() ? 0.0 : max_abs({x, x + t.shape[0] * t.shape[1] * t.shape[2] * t.shape[3]});
  };
  const ScoreMod& mod = p.score_mod;
  double size = max_of(mod.bias) + max_of(mod.distance_bias);
  if (mod.alibi_slopes) {
    size += max_abs({mod.alibi_slopes, mod.alibi_slopes + p.heads}) *
            static_cast<double>(std::max(p.q_len, p.kv_len));
  }
  if (mod.sinks) size += max_abs({mod.sinks, mod.sinks + p.heads});
  if (mod.softcap > 0) size += 8 * std::min(mod.softcap, score_size);
  return size;
}

/// Largest Σ|w| of a head's additive weights.
inline double max_weights(const TensorView& t) {
  double max = 0;
  for (int64_t h = 0; h < t.shape[1]; ++h) {
    double sum = 0;
    for (int64_t i = 0; i < t.shape[3]; ++i) sum += std::fabs(t.row<double>(0, h, 0)[i]);
    max = std::max(max, sum);
  }
  return max;
}

/// The terms that forward and backward share.
struct WeightErrors {
  WeightErrors(const reference::Problem& p, DType dtype, Operands operands)
      : u(dtype == DType::kF64 ? 2 * eps(DType::kF64) : eps(DType::kF32)),
        s(eps(dtype)),
        storage(dtype) {
    const ScoreMod& mod = p.score_mod;
    scale = std::fabs(mod.scale != 0 ? mod.scale : 1 / std::sqrt(static_cast<double>(p.head_dim)));
    if (mod.scales) scale = max_abs({mod.scales, mod.scales + p.heads});
    dot = mod.cosine ? 1 : max_norm(p.q, p.head_dim) * max_norm(p.k, p.head_dim);
    if (!mod.additive.empty()) {
      scale = 1;
      dot = max_weights(mod.additive);
    }
    const double product = scale * dot * (mod.cosine || !mod.additive.empty() ? 4 : 1);
    const double r = operands == Operands::kBf16        ? 0x1p-8
                     : operands == Operands::kSplitBf16 ? 0x1p-16
                                                        : 0;
    rho = dtype == DType::kF32 ? r : 0;
    const double e = operands == Operands::kBf16 ? 0x1p-18 : 0;
    weight = u * (product + modification_size(p, product) + 4) + e + scale * walk(dot, p.head_dim);
    rounded = weight + r + rho;
  }
  /// Largest movement of a product of length `dim` of operands whose lengths' product is `size`.
  double walk(double size, int64_t dim) const {
    return 5 * std::sqrt(2.0 / 3) * rho * size / std::sqrt(static_cast<double>(dim));
  }
  double o(const reference::Problem& p, const reference::Forward& forward) const {
    return rounded / (1 - p.dropout_p) * max_abs(p.v) + rounding(storage, max_abs(forward.o));
  }
  double lse(const reference::Forward& forward) const { return weight + u * max_abs(forward.lse); }

  double u, s, scale, dot, rho, weight, rounded;
  DType storage;
};

/// Largest column mass of the keys that some query scores 0, to rounding.
inline double mass_at_kink(const reference::Problem& p, const reference::Forward& forward,
                           const WeightErrors& e) {
  const ScoreMod& mod = p.score_mod;
  if (mod.negative_slope == 1) return 0;
  double mass = 0;
  for (int64_t b = 0; b < p.batch; ++b) {
    for (int64_t h = 0; h < p.heads; ++h) {
      const PatternScope scope{p.q_len, p.kv_len, p.alignment, b, h, &p.inputs};
      for (int64_t i = 0; i < p.q_len; ++i) {
        for (int64_t j = 0; j < p.kv_len; ++j) {
          if (!p.pattern.allows(scope, i, j)) continue;
          const int64_t kv = b * p.kv_heads + h / (p.heads / p.kv_heads);
          const double* q = p.q.data() + ((b * p.heads + h) * p.q_len + i) * p.head_dim;
          const double* k = p.k.data() + (kv * p.kv_len + j) * p.head_dim;
          double score = 0;
          for (int64_t d = 0; d < p.head_dim; ++d) {
            score += mod.additive.empty()
                         ? q[d] * k[d]
                         : mod.additive.row<double>(0, h, 0)[d] * std::tanh(q[d] + k[d]);
          }
          if (mod.cosine) score /= max_norm(p.q, p.head_dim) * max_norm(p.k, p.head_dim);
          const size_t column = static_cast<size_t>((b * p.heads + h) * p.kv_len + j);
          if (e.scale * std::fabs(score) <= e.weight)
            mass = std::max(mass, forward.column_mass[column]);
        }
      }
    }
  }
  return mass;
}

inline Tolerances tolerances(const CaseTensors& t, const reference::Problem& p,
                             const reference::Forward& forward, const reference::Backward& backward,
                             const std::vector<double>& d_o, Operands operands) {
  const WeightErrors e(p, t.c.dtype, operands);
  const double s = e.s, rounded = e.rounded;
  const bool cosine = p.score_mod.cosine;
  // Size of an element of what ds is multiplied by in dq and dk.
  const bool additive = !p.score_mod.additive.empty();
  const double max_weight = 2;  // of a case's weights
  const double factor_q = additive ? max_weight
                          : cosine ? 2 / min_norm(p.q, p.head_dim)
                                   : max_abs(p.k);
  const double factor_k = additive ? max_weight
                          : cosine ? 2 / min_norm(p.k, p.head_dim)
                                   : max_abs(p.q);
  const double kept = 1 / (1 - p.dropout_p);
  const double d_o_norm = max_norm(d_o, p.value_dim);
  const double spread = std::sqrt(static_cast<double>(p.value_dim));
  const double d_o_v = d_o_norm * max_norm(p.v, p.value_dim);
  const double dp = 4 * d_o_v / spread;
  const double delta =
      5 / std::sqrt(3.0) * s / 2 * max_norm(forward.o, p.value_dim) * d_o_norm / spread;
  const double ds = kept * (rounded * dp + 2 * e.walk(d_o_v, p.value_dim) + delta);
  const double kink = t.c.backward ? (1 - p.score_mod.negative_slope) * 2 * kept * d_o_v *
                                         mass_at_kink(p, forward, e)
                                   : 0;
  const double mass = t.c.backward ? max_column_mass(p, forward.column_mass) : 0;
  const double rows = static_cast<double>(p.batch * p.q_len);
  const double sharers = (t.c.bias_batch ? 1 : static_cast<double>(p.batch)) *
                         (t.c.bias_heads ? 1 : static_cast<double>(p.heads));
  return {e.o(p, forward),
          e.lse(forward),
          e.scale * factor_q * (ds + kink) + rounding(e.storage, max_abs(backward.d_q)),
          e.scale * factor_k * (ds * mass + kink) + rounding(e.storage, max_abs(backward.d_k)),
          rounded * kept * max_abs(d_o) * mass + rounding(e.storage, max_abs(backward.d_v)),
          ds * sharers * (t.c.bias_queries ? 1 : mass),
          2 * ds * std::sqrt(rows),
          2 * ds * std::sqrt(rows) * e.dot,
          2 * e.weight * (1 + std::log(static_cast<double>(p.kv_len) + 1)) +
              e.u * max_abs(forward.row_entropy),
          (2 * e.weight + e.u * std::sqrt(static_cast<double>(p.q_len))) *
              max_abs(forward.column_mass)};
}

}  // namespace fovea::testing
