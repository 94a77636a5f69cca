#pragma once

// Operands of the products of linear attention. Sums, features, weights and states are of type T;
// a matrix unit whose operands are of that type reads their panels as they are, one of bf16 reads
// rounded copies. Each product needs one operand of either kind:
//
//     rows    [r][c]           read by rows, neighbours along the depth c side by side
//     pairs   [r / 2][c][2]    read by columns or as lanes, the depth is r
//     lanes   [c / 2][r][2]    read as lanes, the depth is c
//
// Columns of panels are multiples of 16.

#include "fovea/kernels/mma/product-inl.h"

HWY_BEFORE_NAMESPACE();
namespace fovea::kernels {
namespace FOVEA_ISA_NAMESPACE {
namespace {

/// A panel as a product reads it; `ld` columns.
template <typename Op>
struct Operand {
  const Op* data;
  ptrdiff_t ld;
};

/// Whether operands are copies.
template <typename Op>
constexpr bool kPacked = kDepthOf<Op> != 1;

/// C (+)= A B with A read by rows, `a` of them, or by columns: B pairs or lanes.
template <Walk kWalk, Into kInto, typename Op, typename T>
HWY_INLINE void multiply(int rows, int lanes, int depth, Operand<Op> a, Operand<Op> b, T* c,
                         ptrdiff_t ldc) {
  constexpr int kDepth = kDepthOf<Op>;
  multiply<kWalk, kInto>(rows, lanes, depth, a.data, kWalk == Walk::kRows ? a.ld : a.ld * kDepth,
                         b.data, b.ld * kDepth, c, ldc);
}

/// x [rows, ld] by rows.
template <typename Op, typename T>
HWY_INLINE Operand<Op> as_rows(const T* x, int ld, int rows, [[maybe_unused]] Op* panel) {
  if constexpr (!kPacked<Op>) {
    return {x, ld};
  } else {
    const Tag<T> d;
    constexpr int kLanes = kLanesOf<T>;
    const ptrdiff_t n = static_cast<ptrdiff_t>(rows) * ld;
    ptrdiff_t i = 0;
    for (; i + 2 * kLanes <= n; i += 2 * kLanes) {
      store_bf16(hn::Load(d, x + i), hn::Load(d, x + i + kLanes), panel + i);
    }
    for (; i < n; ++i) panel[i].bits = bf16_bits(x[i]);
    return {panel, ld};
  }
}

/// x [rows, ld] by pairs of rows; a missing last row is zero.
template <typename Op, typename T>
HWY_INLINE Operand<Op> as_pairs(const T* x, int ld, int rows, [[maybe_unused]] Op* panel) {
  if constexpr (!kPacked<Op>) {
    return {x, ld};
  } else {
    const Tag<T> d;
    for (ptrdiff_t r = 0; r < rows; r += 2) {
      const T* row = x + r * ld;
      Op* to = panel + r * ld;
      for (int c = 0; c < ld; c += kLanesOf<T>) {
        const auto next = r + 1 < rows ? hn::Load(d, row + ld + c) : hn::Zero(d);
        store_words(pair_words(hn::Load(d, row + c), next), to + 2 * c);
      }
    }
    return {panel, ld};
  }
}

/// x [rows, dim] with its columns as the depth, in `panel` [dim, rows]; `x_rows` is as_rows of x.
template <typename Op, typename T>
HWY_INLINE Operand<Op> as_lanes([[maybe_unused]] const T* x, [[maybe_unused]] Operand<Op> x_rows,
                                int ld, int rows, int dim, Op* panel) {
  if constexpr (!kPacked<Op>) {
    transpose(x, ld, rows, dim, T{1}, panel, rows);
  } else {
    transpose_words(x_rows.data, ld / 2, rows, dim / 2, 0, panel, rows);
  }
  return {panel, rows};
}

}  // namespace
}  // namespace FOVEA_ISA_NAMESPACE
}  // namespace fovea::kernels
HWY_AFTER_NAMESPACE();
