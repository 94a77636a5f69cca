#pragma once

// The matrix unit of plain fused multiply-adds: one operand a lane, summed in its own type. Panels
// are the rows themselves, and the scale of a score is multiplied into the queries once.

#include "fovea/kernels/attention/vector-inl.h"

HWY_BEFORE_NAMESPACE();
namespace fovea::kernels {
namespace FOVEA_ISA_NAMESPACE {
namespace {

enum class Walk { kRows, kColumns };       // how a product reads A
enum class Into { kStore, kScale, kAdd };  // C =, C = factor ·, C +=

/// How an engine multiplies operands of type `Op` (kDepthOf<Op> of them in each lane) and what its
/// panels look like; see product-inl.h for the loops around it.
template <typename Op>
struct MatrixUnit {
  using Row = Vec<Op>;
  static constexpr bool kTiles = false;  ///< multiplies tiles, not lanes (tile-inl.h)
  static constexpr int kStep = 1;        ///< keys and queries are taken in whole steps of this
  static constexpr bool kScalesQueries = true;

  static HWY_INLINE Row load(const Op* p) { return hn::LoadU(Tag<Op>(), p); }
  static HWY_INLINE Row broadcast(const Op* p) { return hn::Set(Tag<Op>(), *p); }
  static HWY_INLINE Vec<Op> multiply_add(Row a, Row b, Vec<Op> sum) {
    return hn::MulAdd(a, b, sum);
  }

  /// The panel whose lanes are the rows: dst[c][r] = scale · src[r][c].
  static HWY_INLINE void pack_lanes(const Op* src, int ld, int rows, int cols, Op scale, Op* dst) {
    transpose(src, ld, rows, cols, scale, dst, kLaneStride);
  }
  /// The panel whose depth are the rows, which is the rows.
  static HWY_INLINE void pack_depth(const Op*, int64_t, int, int, Op*) {}
  /// The panel that a product reads by columns, which is the rows too. Returns its stride.
  static HWY_INLINE int64_t pack_columns(const Op*, int64_t stride, int, int, Op*) {
    return stride;
  }

  /// 2^x as exact as a weight needs it.
  static HWY_INLINE Vec<Op> exp2_weight(Vec<Op> x) { return exp2(x); }
  /// Weights of one step of keys to a panel whose depth is the keys.
  static HWY_INLINE void store_depth(const Vec<Op> (&p)[1], Op* dst) {
    hn::Store(p[0], Tag<Op>(), dst);
  }
  /// Weights and dS of keys [begin, end) and some lanes as operands: the panels themselves.
  static HWY_INLINE void pack_weights(int, int, int, int, const Op*, const Op*, Op*, Op*, Op*) {}
};

}  // namespace
}  // namespace FOVEA_ISA_NAMESPACE
}  // namespace fovea::kernels
HWY_AFTER_NAMESPACE();
