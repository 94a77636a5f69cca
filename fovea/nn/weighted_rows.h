#pragma once

#include <cstdint>

namespace fovea::nn {

/// Columns whose sums stay in registers.
constexpr int64_t kColumns = 16;

/// to[c] = scale · Σ_i weight[i] rows[i][c] for `columns` columns, in ascending order of i, in
/// Wide, rounded once.
template <typename T, typename Wide, typename To>
void sum_weighted_rows(const Wide* weight, const T* const* rows, int64_t count, int64_t columns,
                       Wide scale, To* to) {
  int64_t c = 0;
  for (; c + kColumns <= columns; c += kColumns) {
    Wide sum[kColumns] = {};
    for (int64_t i = 0; i < count; ++i) {
      const T* row = rows[i] + c;
      for (int64_t j = 0; j < kColumns; ++j) sum[j] += weight[i] * Wide(row[j]);
    }
    for (int64_t j = 0; j < kColumns; ++j) to[c + j] = To(scale * sum[j]);
  }
  for (; c < columns; ++c) {
    Wide sum = 0;
    for (int64_t i = 0; i < count; ++i) sum += weight[i] * Wide(rows[i][c]);
    to[c] = To(scale * sum);
  }
}

/// Σ_c x[c] y[c] in Wide, in an order that `columns` alone decides.
template <typename Wide, typename X, typename Y>
Wide dot(const X* x, const Y* y, int64_t columns) {
  Wide part[kColumns] = {};
  int64_t c = 0;
  for (; c + kColumns <= columns; c += kColumns) {
    for (int64_t j = 0; j < kColumns; ++j) part[j] += Wide(x[c + j]) * Wide(y[c + j]);
  }
  Wide sum = 0;
  for (int64_t j = 0; j < kColumns; ++j) sum += part[j];
  for (; c < columns; ++c) sum += Wide(x[c]) * Wide(y[c]);
  return sum;
}

}  // namespace fovea::nn
