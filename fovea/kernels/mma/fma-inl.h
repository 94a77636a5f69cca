#pragma once

// The matrix unit of plain fused multiply-adds: one product serves all seven of attention.
//
//     C[r][x] = (C[r][x] +) Σ_k A(r, k) · B[k][x]        x runs over vector lanes
//
// A is read one element at a time and broadcast, B and C are rows of lanes. A(r, k) is a[r·lda + k]
// ("by rows": S = K Qᵀ, dPᵀ = V dOᵀ, dV = P dO, dK = dS Q) or a[k·lda + r] ("by columns":
// Oᵀ = Vᵀ P, dQᵀ = Kᵀ dS), so nothing is packed but the query block. A register tile of kRows x
// kVecs accumulators stays in registers over the whole depth; per step it costs kVecs loads and
// kRows broadcasts for kRows · kVecs multiply-adds.

#include <cstddef>

#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace fovea::kernels {
namespace FOVEA_ISA_NAMESPACE {
namespace {

namespace hn = hwy::HWY_NAMESPACE;

enum class Walk { kRows, kColumns };  // how A is read
enum class Into { kStore, kAdd };     // C = or C +=

template <Walk kWalk, Into kInto, int kRows, int kVecs, typename T>
HWY_INLINE void register_tile(int depth, const T* HWY_RESTRICT a, ptrdiff_t lda,
                              const T* HWY_RESTRICT b, ptrdiff_t ldb, T* HWY_RESTRICT c,
                              ptrdiff_t ldc) {
  const hn::ScalableTag<T> d;
  using V = hn::Vec<decltype(d)>;
  constexpr int kLanes = static_cast<int>(hn::MaxLanes(d));
  V acc[kRows][kVecs];
#pragma GCC unroll 16
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 16
    for (int x = 0; x < kVecs; ++x) {
      acc[r][x] = kInto == Into::kAdd ? hn::LoadU(d, c + r * ldc + x * kLanes) : hn::Zero(d);
    }
  }
  for (int k = 0; k < depth; ++k) {
    V row[kVecs];
#pragma GCC unroll 16
    for (int x = 0; x < kVecs; ++x) row[x] = hn::LoadU(d, b + k * ldb + x * kLanes);
#pragma GCC unroll 16
    for (int r = 0; r < kRows; ++r) {
      const V value = hn::Set(d, kWalk == Walk::kRows ? a[r * lda + k] : a[k * lda + r]);
#pragma GCC unroll 16
      for (int x = 0; x < kVecs; ++x) acc[r][x] = hn::MulAdd(value, row[x], acc[r][x]);
    }
  }
#pragma GCC unroll 16
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 16
    for (int x = 0; x < kVecs; ++x) hn::StoreU(acc[r][x], d, c + r * ldc + x * kLanes);
  }
}

/// All rows of one group of kVecs vectors: tiles of kRows, then of 4, 2 and 1.
template <Walk kWalk, Into kInto, int kRows, int kVecs, typename T>
HWY_NOINLINE void column_group(int rows, int depth, const T* a, ptrdiff_t lda, const T* b,
                               ptrdiff_t ldb, T* c, ptrdiff_t ldc) {
  const ptrdiff_t row_step = kWalk == Walk::kRows ? lda : 1;
  int r = 0;
  for (; r + kRows <= rows; r += kRows) {
    register_tile<kWalk, kInto, kRows, kVecs>(depth, a + r * row_step, lda, b, ldb, c + r * ldc,
                                              ldc);
  }
  if constexpr (kRows > 4) {
    for (; r + 4 <= rows; r += 4) {
      register_tile<kWalk, kInto, 4, kVecs>(depth, a + r * row_step, lda, b, ldb, c + r * ldc, ldc);
    }
  }
  if (r + 2 <= rows) {
    register_tile<kWalk, kInto, 2, kVecs>(depth, a + r * row_step, lda, b, ldb, c + r * ldc, ldc);
    r += 2;
  }
  if (r < rows) {
    register_tile<kWalk, kInto, 1, kVecs>(depth, a + r * row_step, lda, b, ldb, c + r * ldc, ldc);
  }
}

/// C [rows, lanes]; `lanes` is rounded up to whole vectors, which B and C must have.
template <Walk kWalk, Into kInto, typename T>
HWY_INLINE void multiply(int rows, int lanes, int depth, const T* a, ptrdiff_t lda, const T* b,
                         ptrdiff_t ldb, T* c, ptrdiff_t ldc) {
  constexpr int kLanes = static_cast<int>(hn::MaxLanes(hn::ScalableTag<T>()));
  const int vecs = (lanes + kLanes - 1) / kLanes;
  int x = 0;
  // Accumulators: 24 of AVX-512's 32 registers, 12 of the others' 16.
  if constexpr (HWY_TARGET == HWY_AVX3) {
    for (; x + 4 <= vecs; x += 4) {
      column_group<kWalk, kInto, 6, 4>(rows, depth, a, lda, b + x * kLanes, ldb, c + x * kLanes,
                                       ldc);
    }
  }
  for (; x + 2 <= vecs; x += 2) {
    constexpr int kRows = HWY_TARGET == HWY_AVX3 ? 12 : 6;
    column_group<kWalk, kInto, kRows, 2>(rows, depth, a, lda, b + x * kLanes, ldb, c + x * kLanes,
                                         ldc);
  }
  if (x < vecs) {
    column_group<kWalk, kInto, 12, 1>(rows, depth, a, lda, b + x * kLanes, ldb, c + x * kLanes,
                                      ldc);
  }
}

}  // namespace
}  // namespace FOVEA_ISA_NAMESPACE
}  // namespace fovea::kernels
HWY_AFTER_NAMESPACE();
