#pragma once

// Attention of a few queries, all of which see the same keys, to rows of a cache: generation.
//
// With so few queries a lane for each would idle most of them, and the cache has to be read once
// from memory, so here a lane is a feature, rows are read in their storage type, and a score is a
// sum over lanes: 16 keys' partial sums are transposed and added.
//
//     s[r][c] = q_r · k_c                q scaled by log2 e · scale once
//     m' = max(m, max_c s),  p = 2^(s - m'),  l = l · 2^(m - m') + Σ_c p
//     o_r = o_r · 2^(m - m') + Σ_c p[r][c] v_c

#include <limits>

#include "fovea/kernels/attention/vector-inl.h"

HWY_BEFORE_NAMESPACE();
namespace fovea::kernels {
namespace FOVEA_ISA_NAMESPACE {
namespace {

/// Keys whose scores are summed over lanes together.
constexpr int kKeyBlock = 16;

/// s[c] = q · k_c for the rows [0, count) of a tile.
template <class D, typename S, typename T>
HWY_INLINE void score_row(D d, const T* HWY_RESTRICT q, const S* HWY_RESTRICT k, int64_t stride,
                          int count, int dim, T* HWY_RESTRICT s) {
  const int lanes = static_cast<int>(hn::Lanes(d));
  alignas(64) T partial[kKeyBlock * kKeyBlock], sums[kKeyBlock * kKeyBlock];
  for (int first = 0; first < count; first += kKeyBlock) {
    const int keys = HWY_MIN(kKeyBlock, count - first);
    if (keys < kKeyBlock) std::memset(partial, 0, sizeof partial);
    int c = 0;
    for (; c + 4 <= keys; c += 4) {
      const S* row = k + (first + c) * stride;
      hn::Vec<D> acc[4] = {hn::Zero(d), hn::Zero(d), hn::Zero(d), hn::Zero(d)};
      for (int i = 0; i < dim; i += lanes) {
        const auto x = hn::Load(d, q + i);
#pragma GCC unroll 4
        for (int j = 0; j < 4; ++j) {
          acc[j] = hn::MulAdd(load_as(d, row + j * stride + i), x, acc[j]);
        }
      }
#pragma GCC unroll 4
      for (int j = 0; j < 4; ++j) hn::Store(acc[j], d, partial + (c + j) * lanes);
    }
    for (; c < keys; ++c) {
      auto acc = hn::Zero(d);
      for (int i = 0; i < dim; i += lanes) {
        acc = hn::MulAdd(load_as(d, k + (first + c) * stride + i), hn::Load(d, q + i), acc);
      }
      hn::Store(acc, d, partial + c * lanes);
    }
    transpose(partial, lanes, kKeyBlock, lanes, T{1}, sums, kKeyBlock);
    for (int x = 0; x < keys; ++x) {
      T sum = sums[x];
      for (int i = 1; i < lanes; ++i) sum += sums[i * kKeyBlock + x];
      s[first + x] = sum;
    }
  }
}

/// Scores [64] of one row to weights; returns the factor of what was summed before.
template <typename T>
HWY_INLINE T softmax_row(T* HWY_RESTRICT s, int count, T* row_max, T* row_sum) {
  const Tag<T> d;
  constexpr int kLanes = kLanesOf<T>;
  const int end = (count + kLanes - 1) / kLanes * kLanes;
  for (int c = count; c < end; ++c) s[c] = -std::numeric_limits<T>::infinity();
  auto max = hn::Set(d, *row_max);
  for (int c = 0; c < end; c += kLanes) max = hn::Max(max, hn::Load(d, s + c));
  const T new_max = hn::GetLane(hn::MaxOfLanes(d, max));
  const auto m = hn::Set(d, new_max);
  const T factor = hn::GetLane(exp2(hn::Sub(hn::Set(d, *row_max), m)));
  auto sum = hn::Zero(d);
  for (int c = 0; c < end; c += kLanes) {
    const auto p = exp2(hn::Sub(hn::Load(d, s + c), m));
    hn::Store(p, d, s + c);
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
#pragma GCC unroll 4
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
    for (int x = 0; x < kVecs; ++x) {
      acc[r][x] = hn::Mul(hn::Set(d, factor[r]), hn::Load(d, o + r * ld + x * lanes));
    }
  }
  for (int c = 0; c < count; ++c) {
    hn::Vec<D> row[kVecs];
#pragma GCC unroll 4
    for (int x = 0; x < kVecs; ++x) row[x] = load_as(d, v + c * stride + x * lanes);
#pragma GCC unroll 4
    for (int r = 0; r < kRows; ++r) {
      const auto weight = hn::Set(d, p[r * kTile + c]);
#pragma GCC unroll 4
      for (int x = 0; x < kVecs; ++x) acc[r][x] = hn::MulAdd(weight, row[x], acc[r][x]);
    }
  }
#pragma GCC unroll 4
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
    for (int x = 0; x < kVecs; ++x) hn::Store(acc[r][x], d, o + r * ld + x * lanes);
  }
}

template <int kRows, class D, typename S, typename T>
HWY_INLINE void add_value_columns(D d, const T* p, const T* factor, const S* v, int64_t stride,
                                  int count, int dim, T* o, int ld) {
  const int lanes = static_cast<int>(hn::Lanes(d));
  int i = 0;
  for (; i + 4 * lanes <= dim; i += 4 * lanes) {
    add_values<kRows, 4>(d, p, factor, v + i, stride, count, o + i, ld);
  }
  for (; i < dim; i += lanes) {
    add_values<kRows, 1>(d, p, factor, v + i, stride, count, o + i, ld);
  }
}

/// Calls body(tag) with the widest tag whose lanes divide `dim`, a multiple of 8.
template <typename T, typename Body>
HWY_INLINE void with_tag(int dim, const Body& body) {
  if (dim % kLanesOf<T> == 0) return body(Tag<T>());
  body(hn::CappedTag<T, 8>());
}

template <typename S, typename T>
HWY_INLINE void decode_rows(const DecodeTile<T>& tile, const CacheRows& keys) {
  const S* k = static_cast<const S*>(keys.k);
  const S* v = static_cast<const S*>(keys.v);
  alignas(64) T factor[kDecodeRows];
  with_tag<T>(tile.head_dim, [&](auto d) HWY_ATTR {
    for (int r = 0; r < tile.rows; ++r) {
      score_row(d, tile.q + r * tile.head_dim, k, keys.k_stride, keys.count, tile.head_dim,
                tile.scores + r * kTile);
    }
  });
  for (int r = 0; r < tile.rows; ++r) {
    factor[r] =
        softmax_row(tile.scores + r * kTile, keys.count, tile.row_max + r, tile.row_sum + r);
  }
  with_tag<T>(tile.value_dim, [&](auto d) HWY_ATTR {
    const int ld = tile.value_dim;
    int r = 0;
    for (; r + 4 <= tile.rows; r += 4) {
      add_value_columns<4>(d, tile.scores + r * kTile, factor + r, v, keys.v_stride, keys.count, ld,
                           tile.o + r * ld, ld);
    }
    for (; r < tile.rows; ++r) {
      add_value_columns<1>(d, tile.scores + r * kTile, factor + r, v, keys.v_stride, keys.count, ld,
                           tile.o + r * ld, ld);
    }
  });
}

template <typename T>
void decode_keys(const DecodeTile<T>& tile, const CacheRows& keys) {
  if constexpr (sizeof(T) == 4) {
    if (keys.dtype == DType::kBF16) return decode_rows<BFloat16>(tile, keys);
    if (keys.dtype == DType::kF16) return decode_rows<Float16>(tile, keys);
  }
  decode_rows<T>(tile, keys);
}

}  // namespace
}  // namespace FOVEA_ISA_NAMESPACE
}  // namespace fovea::kernels
HWY_AFTER_NAMESPACE();
