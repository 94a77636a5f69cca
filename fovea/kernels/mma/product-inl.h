#pragma once

// One product serves all seven of attention, on any matrix unit:
//
//     C[r][x] = (C[r][x] +) Σ_k A(r, k) · B[k][x]        x runs over vector lanes
//
// A is read one step of the depth at a time and broadcast, B and C are rows of lanes. A step is
// kDepthOf<Op> neighbours along k, which lie side by side in A and in each lane of B. Step k of row
// r of A is at a[r·lda + k·kDepth] ("by rows": S = K Qᵀ, dPᵀ = V dOᵀ, dV = P dO, dK = dS Q) or at
// a[k·lda + r·kDepth] ("by columns": Oᵀ = Vᵀ P, dQᵀ = Kᵀ dS), so that a unit of depth 1 packs
// nothing but the query block. A register tile of kRows x kVecs accumulators stays in registers
// over the whole depth; per step it costs kVecs loads and kRows broadcasts for kRows · kVecs
// multiply-adds.

#include "fovea/kernels/mma/bf16_dot-inl.h"
#include "fovea/kernels/mma/fma-inl.h"
#ifdef FOVEA_TILES
#include "fovea/kernels/mma/tile-inl.h"
#endif

HWY_BEFORE_NAMESPACE();
namespace fovea::kernels {
namespace FOVEA_ISA_NAMESPACE {
namespace {

template <Walk kWalk, Into kInto, int kRows, int kVecs, typename Op, typename T = SumOf<Op>>
HWY_INLINE void register_tile(int steps, const Op* HWY_RESTRICT a, ptrdiff_t lda,
                              const Op* HWY_RESTRICT b, ptrdiff_t ldb, T* HWY_RESTRICT c,
                              ptrdiff_t ldc, T factor) {
  using Unit = MatrixUnit<Op>;
  const Tag<T> d;
  constexpr int kLanes = kLanesOf<T>;
  constexpr int kDepth = kDepthOf<Op>;
  // A sum over thousands of keys stays exact when each tile's part is summed by itself: o of 1,024
  // keys has a fifth of the error of one chain. Operands of 16 bits have larger errors of their
  // own.
  constexpr bool kAddsLast = kInto == Into::kAdd && kDepth == 1;
  Vec<T> acc[kRows][kVecs];
#pragma GCC unroll 16
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 16
    for (int x = 0; x < kVecs; ++x) {
      acc[r][x] =
          kInto == Into::kAdd && !kAddsLast ? hn::LoadU(d, c + r * ldc + x * kLanes) : hn::Zero(d);
    }
  }
  for (int k = 0; k < steps; ++k) {
    typename Unit::Row row[kVecs];
#pragma GCC unroll 16
    for (int x = 0; x < kVecs; ++x) row[x] = Unit::load(b + k * ldb + x * kLanes * kDepth);
#pragma GCC unroll 16
    for (int r = 0; r < kRows; ++r) {
      const auto value = Unit::broadcast(kWalk == Walk::kRows ? a + r * lda + k * kDepth
                                                              : a + k * lda + r * kDepth);
#pragma GCC unroll 16
      for (int x = 0; x < kVecs; ++x) {
        acc[r][x] = Unit::multiply_add(value, row[x], acc[r][x]);
      }
    }
  }
#pragma GCC unroll 16
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 16
    for (int x = 0; x < kVecs; ++x) {
      if constexpr (kInto == Into::kScale) acc[r][x] = hn::Mul(acc[r][x], hn::Set(d, factor));
      if constexpr (kAddsLast)
        acc[r][x] = hn::Add(acc[r][x], hn::LoadU(d, c + r * ldc + x * kLanes));
      hn::StoreU(acc[r][x], d, c + r * ldc + x * kLanes);
    }
  }
}

/// All rows of one group of kVecs vectors: tiles of kRows, then of 4, 2 and 1.
template <Walk kWalk, Into kInto, int kRows, int kVecs, typename Op, typename T = SumOf<Op>>
HWY_NOINLINE void column_group(int rows, int steps, const Op* a, ptrdiff_t lda, const Op* b,
                               ptrdiff_t ldb, T* c, ptrdiff_t ldc, T factor) {
  const ptrdiff_t row_step = kWalk == Walk::kRows ? lda : kDepthOf<Op>;
  int r = 0;
  for (; r + kRows <= rows; r += kRows) {
    register_tile<kWalk, kInto, kRows, kVecs>(steps, a + r * row_step, lda, b, ldb, c + r * ldc,
                                              ldc, factor);
  }
  if constexpr (kRows > 4) {
    for (; r + 4 <= rows; r += 4) {
      register_tile<kWalk, kInto, 4, kVecs>(steps, a + r * row_step, lda, b, ldb, c + r * ldc, ldc,
                                            factor);
    }
  }
  if (r + 2 <= rows) {
    register_tile<kWalk, kInto, 2, kVecs>(steps, a + r * row_step, lda, b, ldb, c + r * ldc, ldc,
                                          factor);
    r += 2;
  }
  if (r < rows) {
    register_tile<kWalk, kInto, 1, kVecs>(steps, a + r * row_step, lda, b, ldb, c + r * ldc, ldc,
                                          factor);
  }
}

/// multiply() of lanes.
template <Walk kWalk, Into kInto, typename Op, typename T = SumOf<Op>>
HWY_INLINE void multiply_lanes(int rows, int lanes, int depth, const Op* a, ptrdiff_t lda,
                               const Op* b, ptrdiff_t ldb, T* c, ptrdiff_t ldc, T factor) {
  constexpr int kLanes = kLanesOf<T>;
  constexpr int kDepth = kDepthOf<Op>;
  const int vecs = (lanes + kLanes - 1) / kLanes;
  const int steps = (depth + kDepth - 1) / kDepth;
  int x = 0;
  // Accumulators: 24 of AVX-512's 32 registers, 12 of the others' 16.
  if constexpr (HWY_TARGET == HWY_AVX3) {
    for (; x + 4 <= vecs; x += 4) {
      column_group<kWalk, kInto, 6, 4>(rows, steps, a, lda, b + x * kLanes * kDepth, ldb,
                                       c + x * kLanes, ldc, factor);
    }
  }
  for (; x + 2 <= vecs; x += 2) {
    constexpr int kRows = HWY_TARGET != HWY_AVX3 ? 6 : kDepth == 1 ? 12 : 8;
    column_group<kWalk, kInto, kRows, 2>(rows, steps, a, lda, b + x * kLanes * kDepth, ldb,
                                         c + x * kLanes, ldc, factor);
  }
  if (x < vecs) {
    column_group<kWalk, kInto, 12, 1>(rows, steps, a, lda, b + x * kLanes * kDepth, ldb,
                                      c + x * kLanes, ldc, factor);
  }
}

/// C [rows, lanes]. `lanes` is rounded up to whole vectors and `depth` to whole steps, which the
/// operands and C must have; tiles round all three, see tile-inl.h.
template <Walk kWalk, Into kInto, typename Op, typename T = SumOf<Op>>
HWY_INLINE void multiply(int rows, int lanes, int depth, const Op* a, ptrdiff_t lda, const Op* b,
                         ptrdiff_t ldb, T* c, ptrdiff_t ldc, T factor = 1) {
  if constexpr (MatrixUnit<Op>::kTiles) {
    static_assert(kWalk == Walk::kRows);
    MatrixUnit<Op>::template multiply<kInto>(rows, lanes, depth, a, lda, b, ldb, c, ldc, factor);
  } else {
    multiply_lanes<kWalk, kInto>(rows, lanes, depth, a, lda, b, ldb, c, ldc, factor);
  }
}

/// C [rows, lanes] += Aᵀ B over the depth [begin, end) of A, a panel that pack_columns() made.
template <typename Op, typename T = SumOf<Op>>
HWY_INLINE void add_columns(int rows, int lanes, int begin, int end, const Op* a, ptrdiff_t lda,
                            const Op* b, ptrdiff_t ldb, T* c, ptrdiff_t ldc) {
  if constexpr (MatrixUnit<Op>::kTiles) {
    multiply<Walk::kRows, Into::kAdd>(rows, lanes, end - begin, a + begin, lda, b, ldb, c, ldc);
  } else {
    multiply<Walk::kColumns, Into::kAdd>(rows, lanes, end - begin, a + begin * lda,
                                         lda * kDepthOf<Op>, b, ldb, c, ldc);
  }
}

}  // namespace
}  // namespace FOVEA_ISA_NAMESPACE
}  // namespace fovea::kernels
HWY_AFTER_NAMESPACE();
