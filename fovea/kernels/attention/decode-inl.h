#pragma once

// Attention of a few queries, all of which see the same keys, to rows of a cache: generation.
//
// With so few queries a lane for each would idle most of them, and the cache has to be read once
// from memory, so here a lane is a feature, rows are read in their storage type, and a score is a
// sum over lanes.
//
//     s[r][c] = a_c (q_r · k_c)          q scaled by log2 e · scale once
//     m' = max(m, max_c s),  p = 2^(s - m'),  l = l · 2^(m - m') + Σ_c p
//     o_r = o_r · 2^(m - m') + Σ_c p[r][c] b_c v_c
//
// with a, b the scales of i8 rows, else 1.

#include <limits>

#include "fovea/kernels/attention/vector-inl.h"

HWY_BEFORE_NAMESPACE();
namespace fovea::kernels {
namespace FOVEA_ISA_NAMESPACE {
namespace {

#if HWY_TARGET == HWY_SCALAR

/// s[r][c] = q_r · k_c for kRows rows and the keys [0, count) of a tile.
template <int kRows, class D, typename S, typename T>
HWY_INLINE void score_rows(D d, const T* HWY_RESTRICT q, const S* HWY_RESTRICT k, int64_t stride,
                           int count, int dim, T* HWY_RESTRICT s) {
  for (int c = 0; c < count; ++c) {
    for (int r = 0; r < kRows; ++r) {
      auto sum = hn::Zero(d);
      for (int i = 0; i < dim; ++i) {
        sum = hn::MulAdd(load_as(d, k + c * stride + i), hn::Load(d, q + r * dim + i), sum);
      }
      s[r * kDecodeKeys + c] = hn::GetLane(sum);
    }
  }
}

#else

/// Sum of the 128-bit blocks of a vector.
HWY_INLINE auto sum_of_blocks(hn::FixedTag<float, 4>, hn::Vec<hn::FixedTag<float, 4> > x) {
  return x;
}
template <class D>
HWY_INLINE auto sum_of_blocks(D, hn::Vec<D> x) {
  const hn::Half<D> half;
  return sum_of_blocks(half, hn::Add(hn::LowerHalf(half, x), hn::UpperHalf(half, x)));
}

/// Lane j of four is the sum of x[j].
template <class D>
HWY_INLINE auto sum_over_lanes(D d, const hn::Vec<D> (&x)[4]) {
  const hn::Repartition<double, D> dd;
  const auto add_pairs = [&](hn::Vec<D> a, hn::Vec<D> b) HWY_ATTR {
    return hn::Add(hn::InterleaveLower(d, a, b), hn::InterleaveUpper(d, a, b));
  };
  const auto a = hn::BitCast(dd, add_pairs(x[0], x[1])), b = hn::BitCast(dd, add_pairs(x[2], x[3]));
  return sum_of_blocks(d, hn::Add(hn::BitCast(d, hn::InterleaveLower(dd, a, b)),
                                  hn::BitCast(d, hn::InterleaveUpper(dd, a, b))));
}

/// s[r][c] = q_r · k_c for kRows rows and the keys [0, count) of a tile, four keys at a time; what
/// is written beyond `count` means nothing. Loops over features are unrolled, so that each load
/// walks memory in equal steps: the hardware's prefetcher looks at loads one by one.
template <int kRows, class D, typename S, typename T>
HWY_INLINE void score_rows(D d, const T* HWY_RESTRICT q, const S* HWY_RESTRICT k, int64_t stride,
                           int count, int dim, T* HWY_RESTRICT s) {
  constexpr int kLanes = static_cast<int>(hn::MaxLanes(D()));
  for (int c = 0; c < count; c += 4) {
    const S* key[4];
#pragma GCC unroll 4
    for (int j = 0; j < 4; ++j) key[j] = k + HWY_MIN(c + j, count - 1) * stride;
    hn::Vec<D> acc[kRows][4];
#pragma GCC unroll 4
    for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
      for (int j = 0; j < 4; ++j) acc[r][j] = hn::Zero(d);
    }
    const auto step = [&](int i) HWY_ATTR {
      hn::Vec<D> x[kRows];
#pragma GCC unroll 4
      for (int r = 0; r < kRows; ++r) x[r] = hn::Load(d, q + r * dim + i);
#pragma GCC unroll 4
      for (int j = 0; j < 4; ++j) {
        const auto y = load_as(d, key[j] + i);
#pragma GCC unroll 4
        for (int r = 0; r < kRows; ++r) acc[r][j] = hn::MulAdd(y, x[r], acc[r][j]);
      }
    };
    int i = 0;
    for (; i + 8 * kLanes <= dim; i += 8 * kLanes) {
#pragma GCC unroll 8
      for (int x = 0; x < 8; ++x) step(i + x * kLanes);
    }
    for (; i + 4 * kLanes <= dim; i += 4 * kLanes) {
#pragma GCC unroll 4
      for (int x = 0; x < 4; ++x) step(i + x * kLanes);
    }
    for (; i < dim; i += kLanes) step(i);
    const hn::FixedTag<T, 4> four;
#pragma GCC unroll 4
    for (int r = 0; r < kRows; ++r) {
      hn::Store(sum_over_lanes(d, acc[r]), four, s + r * kDecodeKeys + c);
    }
  }
}

#endif

/// What the rows of a tile of i8 are multiplied by.
template <typename T>
struct RowScales {
  alignas(64) T k[kDecodeKeys], v[kDecodeKeys];
};

/// Scores [kDecodeKeys] of one row to weights, those of i8 rows times the values' scales; returns
/// the factor of what was summed before.
template <typename T>
HWY_INLINE T softmax_row(T* HWY_RESTRICT s, int count, const RowScales<T>* scales, T* row_max,
                         T* row_sum) {
  const Tag<T> d;
  constexpr int kLanes = kLanesOf<T>;
  const int end = (count + kLanes - 1) / kLanes * kLanes;
  for (int c = 0; scales && c < end; c += kLanes) {
    hn::Store(hn::Mul(hn::Load(d, s + c), hn::Load(d, scales->k + c)), d, s + c);
  }
  for (int c = count; c < end; ++c) s[c] = -std::numeric_limits<T>::infinity();
  auto max = hn::Set(d, *row_max);
  for (int c = 0; c < end; c += kLanes) max = hn::Max(max, hn::Load(d, s + c));
  const T new_max = hn::GetLane(hn::MaxOfLanes(d, max));
  const auto m = hn::Set(d, new_max);
  const T factor = hn::GetLane(exp2(hn::Sub(hn::Set(d, *row_max), m)));
  auto sum = hn::Zero(d);
  for (int c = 0; c < end; c += kLanes) {
    const auto p = exp2(hn::Sub(hn::Load(d, s + c), m));
    hn::Store(scales ? hn::Mul(p, hn::Load(d, scales->v + c)) : p, d, s + c);
    sum = hn::Add(sum, p);
  }
  *row_max = new_max;
  *row_sum = *row_sum * factor + hn::GetLane(hn::SumOfLanes(d, sum));
  return factor;
}

/// o[r][i] = o[r][i] · factor[r] + Σ_c p[r][c] v_c[i] for kRows rows and kVecs vectors at i.
template <int kRows, int kVecs, class D, typename S, typename T>
HWY_INLINE void add_values(D d, const T* HWY_RESTRICT p, const T* factor, const S* HWY_RESTRICT v,
                           int64_t stride, int count, T* HWY_RESTRICT o, int ld) {
  const int lanes = static_cast<int>(hn::Lanes(d));
  hn::Vec<D> acc[kRows][kVecs];
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 8
    for (int x = 0; x < kVecs; ++x) {
      acc[r][x] = hn::Mul(hn::Set(d, factor[r]), hn::Load(d, o + r * ld + x * lanes));
    }
  }
  for (int c = 0; c < count; ++c) {
    hn::Vec<D> row[kVecs];
#pragma GCC unroll 8
    for (int x = 0; x < kVecs; ++x) row[x] = load_as(d, v + c * stride + x * lanes);
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
      const auto weight = hn::Set(d, p[r * kDecodeKeys + c]);
#pragma GCC unroll 8
      for (int x = 0; x < kVecs; ++x) acc[r][x] = hn::MulAdd(weight, row[x], acc[r][x]);
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 8
    for (int x = 0; x < kVecs; ++x) hn::Store(acc[r][x], d, o + r * ld + x * lanes);
  }
}

/// All columns, of a few keys at a time, so that memory is read row by row.
template <int kRows, class D, typename S, typename T>
HWY_INLINE void add_value_rows(D d, const T* p, T* factor, const S* v, int64_t stride, int count,
                               int dim, T* o, int ld) {
  const int lanes = static_cast<int>(hn::Lanes(d));
  constexpr int kWide = kRows <= 2 ? 8 : 4;
  const int step = dim <= kWide * lanes ? count : 16;
  for (int c = 0; c < count; c += step, p += step, v += step * stride) {
    const int keys = HWY_MIN(step, count - c);
    int i = 0;
    for (; i + kWide * lanes <= dim; i += kWide * lanes) {
      add_values<kRows, kWide>(d, p, factor, v + i, stride, keys, o + i, ld);
    }
    for (; i + 4 * lanes <= dim; i += 4 * lanes) {
      add_values<kRows, 4>(d, p, factor, v + i, stride, keys, o + i, ld);
    }
    for (; i < dim; i += lanes) {
      add_values<kRows, 1>(d, p, factor, v + i, stride, keys, o + i, ld);
    }
    for (int r = 0; r < kRows; ++r) factor[r] = 1;
  }
}

/// Calls body(tag) with the widest tag whose lanes divide `dim`, a multiple of 8.
template <typename T, typename Body>
HWY_INLINE void with_tag(int dim, const Body& body) {
  if (dim % kLanesOf<T> == 0) return body(Tag<T>());
  body(hn::CappedTag<T, 8>());
}

/// Calls body(rows) with a constant number of rows at a time, at most kMost, until `rows` are done.
template <int kMost, typename Body>
HWY_INLINE void for_rows(int rows, const Body& body) {
  int r = 0;
  for (; r + kMost <= rows; r += kMost) body(r, std::integral_constant<int, kMost>());
  if constexpr (kMost > 1) {
    for_rows<kMost / 2>(rows - r, [&](int more, auto n) HWY_ATTR { body(r + more, n); });
  }
}

template <typename S, typename T>
HWY_INLINE void decode_rows(const DecodeTile<T>& tile, const CacheRows& keys) {
  const S* k = static_cast<const S*>(keys.k);
  const S* v = static_cast<const S*>(keys.v);
  alignas(64) T factor[kDecodeRows];
  RowScales<T> scales;
  if constexpr (sizeof(S) == 1) {
    for (int c = 0; c < keys.count; ++c) {
      scales.k[c] = keys.k_scales[c * keys.k_scale_stride];
      scales.v[c] = keys.v_scales[c * keys.v_scale_stride];
    }
    for (int c = keys.count; c < kDecodeKeys; ++c) scales.k[c] = scales.v[c] = 0;
  }
  with_tag<T>(tile.head_dim, [&](auto d) HWY_ATTR {
    constexpr int kMost = HWY_TARGET == HWY_AVX2 ? 2 : 4;  // accumulators: 8 of 16, 16 of 32
    for_rows<kMost>(tile.rows, [&](int r, auto rows) HWY_ATTR {
      score_rows<decltype(rows)::value>(d, tile.q + r * tile.head_dim, k, keys.k_stride, keys.count,
                                        tile.head_dim, tile.scores + r * kDecodeKeys);
    });
  });
  for (int r = 0; r < tile.rows; ++r) {
    factor[r] = softmax_row(tile.scores + r * kDecodeKeys, keys.count,
                            sizeof(S) == 1 ? &scales : nullptr, tile.row_max + r, tile.row_sum + r);
  }
  with_tag<T>(tile.value_dim, [&](auto d) HWY_ATTR {
    const int ld = tile.value_dim;
    for_rows<4>(tile.rows, [&](int r, auto rows) HWY_ATTR {
      add_value_rows<decltype(rows)::value>(d, tile.scores + r * kDecodeKeys, factor + r, v,
                                            keys.v_stride, keys.count, ld, tile.o + r * ld, ld);
    });
  });
}

template <typename T>
void decode_keys(const DecodeTile<T>& tile, const CacheRows& keys) {
  if constexpr (sizeof(T) == 4) {
    if (keys.dtype == DType::kBF16) return decode_rows<BFloat16>(tile, keys);
    if (keys.dtype == DType::kF16) return decode_rows<Float16>(tile, keys);
    if (keys.dtype == DType::kI8) return decode_rows<int8_t>(tile, keys);
  }
  decode_rows<T>(tile, keys);
}

}  // namespace
}  // namespace FOVEA_ISA_NAMESPACE
}  // namespace fovea::kernels
HWY_AFTER_NAMESPACE();
