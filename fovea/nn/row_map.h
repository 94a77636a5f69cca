#pragma once

#include <ATen/core/Tensor.h>

namespace fovea::nn {

/// A sparse linear map between rows of tensors, one entry of each result row:
///
///     take_rows:  y[i] = weight[i] x[index[i]]                        [R, …] to [N, …]
///     sum_rows:   x[r] = Σ over i with index[i] = r of weight[i] y[i]   [N, …] to [R, …]
///
/// each the other's gradient. Both write every row once and sum in ascending order of i, so bits do
/// not depend on threads.
struct RowMap {
  at::Tensor index;  ///< int64 [N] in [-1, R); -1 takes zeros and adds nowhere
  at::Tensor begin;  ///< int64 [R + 1]: row r is the index of order[begin[r]] … order[begin[r+1]]
  at::Tensor order;  ///< int64, ascending for each r
  at::Tensor weight;  ///< float64 [N], or none: ones

  int64_t taken() const { return index.size(0); }
  int64_t rows() const { return begin.size(0) - 1; }
};

/// The map of an index over `rows` rows.
RowMap make_row_map(const at::Tensor& index, int64_t rows, const at::Tensor& weight = {});

/// Any float type; sums in float32 (float64 for float64), rounded once. Differentiable once.
at::Tensor take_rows(const at::Tensor& x, const RowMap& map);
at::Tensor sum_rows(const at::Tensor& y, const RowMap& map);

}  // namespace fovea::nn
