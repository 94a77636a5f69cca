#pragma once

// Forward of exact attention for one tile of queries, one tile of keys at a time.
//
// Scores are kept transposed, Sᵀ[key][query]: a vector lane is a query, so the softmax needs no
// horizontal operation and the masks are lane masks.
//
//     Sᵀ = K Qᵀ                          Q scaled by log2 e · scale once: weights are 2^(s - m)
//     m' = max(m, max_c S)               kept while it grows by less than 8: weights stay <= 2^8
//     Pᵀ = 2^(Sᵀ - m'),  l = l · 2^(m - m') + Σ_c P,  Oᵀ = Oᵀ · 2^(m - m') + Vᵀ P
//     o = O / l,  lse = ln 2 · (m + log2 l)
//
// Each lane decides by itself when to move its maximum, so a row's result does not depend on which
// rows share its tile. Source: online softmax of Milakov and Gimelshein 2018 as used by Dao et al.
// 2022, Alg. 1; late rescaling as in FlashAttention-4.

#include <limits>

#include "hwy/contrib/math/math-inl.h"

#include "fovea/kernels/attention/dropout-inl.h"
#include "fovea/kernels/attention/score_mod-inl.h"
#include "fovea/kernels/attention/vector-inl.h"
#include "fovea/kernels/mma/fma-inl.h"

HWY_BEFORE_NAMESPACE();
namespace fovea::kernels {
namespace FOVEA_ISA_NAMESPACE {
namespace {

/// Largest growth of a maximum, in powers of two, that is left to the weights.
constexpr int kLateRescale = 8;

template <typename T>
void forward_begin(const ForwardTile<T>& tile, const T* q, int ld) {
  transpose(q, ld, kTile, tile.head_dim, tile.scale, tile.q_t, kLaneStride);
  std::memset(tile.o_t, 0, sizeof(T) * static_cast<size_t>(tile.value_dim) * kLaneStride);
  for (int r = 0; r < kTile; ++r) {
    tile.row_max[r] = -std::numeric_limits<T>::infinity();
    tile.row_sum[r] = 0;
  }
}

/// A partial tile is clipped by halves: each half of its queries to the keys that it sees. On the
/// diagonal tile of a causal pattern this saves a quarter of the work. Returns the parts' number.
template <typename T>
HWY_INLINE int split_tile(const KeyTile<T>& keys, int rows, Part* parts) {
  constexpr int kHalf = kTile / 2;
  if (!keys.lanes) {
    parts[0] = {0, rows, keys.begin, keys.end};
    return 1;
  }
  int count = 0;
  for (int lane = 0; lane < rows; lane += kHalf) {
    const uint64_t half = uint64_t{0xFFFFFFFFu} << lane;
    int begin = keys.begin, end = keys.end;
    while (begin < end && !(keys.lanes[begin] & half)) ++begin;
    while (end > begin && !(keys.lanes[end - 1] & half)) --end;
    if (begin < end) parts[count++] = {lane, HWY_MIN(kHalf, rows - lane), begin, end};
  }
  if (count == 2 && parts[0].begin == parts[1].begin && parts[0].end == parts[1].end) {
    parts[0].lanes = rows;
    return 1;
  }
  return count;
}

/// Maximum of the scores of lane vector x; masked scores become -inf on the way.
template <typename T>
HWY_INLINE Vec<T> column_max(T* scores, const KeyTile<T>& keys, const Part& part, int x) {
  const Tag<T> d;
  const auto none = hn::Set(d, -std::numeric_limits<T>::infinity());
  Vec<T> max[4] = {none, none, none, none};  // independent chains hide the latency
  T* s = scores + x * kLanesOf<T>;
  int c = part.begin;
  if (keys.lanes) {
    for (; c < part.end; ++c) {
      const auto masked =
          hn::IfThenElse(lane_mask<T>(keys.lanes[c], x), hn::Load(d, s + c * kLaneStride), none);
      hn::Store(masked, d, s + c * kLaneStride);
      max[0] = hn::Max(max[0], masked);
    }
  } else {
    for (; c + 4 <= part.end; c += 4) {
#pragma GCC unroll 4
      for (int j = 0; j < 4; ++j) {
        max[j] = hn::Max(max[j], hn::Load(d, s + (c + j) * kLaneStride));
      }
    }
    for (; c < part.end; ++c) max[0] = hn::Max(max[0], hn::Load(d, s + c * kLaneStride));
  }
  return hn::Max(hn::Max(max[0], max[1]), hn::Max(max[2], max[3]));
}

/// Moves the maxima of lane vector x up where they grew; returns the one to subtract.
template <typename T>
HWY_INLINE Vec<T> update_max(const ForwardTile<T>& tile, Vec<T> block_max, int x) {
  const Tag<T> d;
  const auto none = hn::Set(d, -std::numeric_limits<T>::infinity());
  T* row_max = tile.row_max + x * kLanesOf<T>;
  T* row_sum = tile.row_sum + x * kLanesOf<T>;
  const auto old_max = hn::Load(d, row_max);
  const auto grown = hn::Gt(block_max, hn::Add(old_max, hn::Set(d, T{kLateRescale})));
  auto new_max = old_max;
  if (!hn::AllFalse(d, grown)) {
    new_max = hn::IfThenElse(grown, block_max, old_max);
    const auto factor = hn::IfThenElse(grown, exp2(hn::Sub(old_max, block_max)), hn::Set(d, T{1}));
    hn::Store(new_max, d, row_max);
    hn::Store(hn::Mul(hn::Load(d, row_sum), factor), d, row_sum);
    T* o = tile.o_t + x * kLanesOf<T>;
    for (int i = 0; i < tile.value_dim; ++i) {
      hn::Store(hn::Mul(hn::Load(d, o + i * kLaneStride), factor), d, o + i * kLaneStride);
    }
  }
  // A lane that has seen nothing: its scores are -inf and must become weights of 0, not NaN.
  return hn::IfThenElse(hn::Eq(new_max, none), hn::Zero(d), new_max);
}

/// Scores of lane vector x to weights, in place; adds them to row_sum before dropout.
template <typename T, bool kDropout>
HWY_INLINE void exponentials(const ForwardTile<T>& tile, const Part& part, Vec<T> max,
                             const uint64_t* keep, int x) {
  const Tag<T> d;
  T* s = tile.scores + x * kLanesOf<T>;
  T* row_sum = tile.row_sum + x * kLanesOf<T>;
  auto sum = hn::Zero(d);
  for (int c = part.begin; c < part.end; ++c) {
    auto p = exp2(hn::Sub(hn::Load(d, s + c * kLaneStride), max));
    sum = hn::Add(sum, p);
    if constexpr (kDropout) p = hn::IfThenElseZero(lane_mask<T>(keep[c], x), p);
    hn::Store(p, d, s + c * kLaneStride);
  }
  hn::Store(hn::Add(hn::Load(d, row_sum), sum), d, row_sum);
}

/// Oᵀ += Vᵀ P pair by pair, only where a query sees a key: for tiles that hold NaN or infinity in
/// keys which some of its queries may not see.
template <typename T>
HWY_NOINLINE void add_visible_pairs(const KeyTile<T>& keys, const T* rows, int64_t stride, int dim,
                                    const T* weights, T* out_t) {
  for (int c = keys.begin; c < keys.end; ++c) {
    for (int r = 0; r < kTile; ++r) {
      if (!(keys.lanes[c] >> r & 1)) continue;
      for (int i = 0; i < dim; ++i) {
        out_t[i * kLaneStride + r] += rows[c * stride + i] * weights[c * kLaneStride + r];
      }
    }
  }
}

/// Scores of a part to weights: mask, running maximum, exponential, sum, dropout.
template <typename T>
HWY_INLINE void softmax_part(const ForwardTile<T>& tile, const KeyTile<T>& keys, const Part& part,
                             const uint64_t* keep) {
  for (int lane = part.lane; lane < part.lane + part.lanes; lane += kLanesOf<T>) {
    const int x = lane / kLanesOf<T>;
    const auto max = update_max(tile, column_max(tile.scores, keys, part, x), x);
    if (keep) {
      exponentials<T, true>(tile, part, max, keep, x);
    } else {
      exponentials<T, false>(tile, part, max, nullptr, x);
    }
  }
}

template <typename T>
void forward_keys(const ForwardTile<T>& tile, const KeyTile<T>& keys) {
  alignas(64) uint64_t keep[kTile];
  const bool dropout = tile.dropout.threshold != 0;
  if (dropout) {
    keep_lanes(tile.dropout, tile.first_query, keys.first_key, keys.begin, keys.end, tile.rows,
               keep);
  }
  const bool by_pair =
      keys.lanes && !all_rows_finite(keys.v, keys.v_stride, keys.begin, keys.end, tile.value_dim);
  Part parts[2];
  const int count = split_tile(keys, tile.rows, parts);
  for (int i = 0; i < count; ++i) {
    const Part& part = parts[i];
    const int rows = part.end - part.begin;
    T* scores = tile.scores + part.begin * kLaneStride + part.lane;
    multiply<Walk::kRows, Into::kStore>(rows, part.lanes, tile.head_dim,
                                        keys.k + part.begin * keys.k_stride, keys.k_stride,
                                        tile.q_t + part.lane, kLaneStride, scores, kLaneStride);
    if (tile.mod) {
      modify_scores<T>(*tile.mod, keys.first_key, part, tile.rows, tile.scores, nullptr);
    }
    softmax_part(tile, keys, part, dropout ? keep : nullptr);
    if (by_pair) continue;
    multiply<Walk::kColumns, Into::kAdd>(tile.value_dim, part.lanes, rows,
                                         keys.v + part.begin * keys.v_stride, keys.v_stride, scores,
                                         kLaneStride, tile.o_t + part.lane, kLaneStride);
  }
  if (by_pair) {
    add_visible_pairs(keys, keys.v, keys.v_stride, tile.value_dim, tile.scores, tile.o_t);
  }
}

template <typename T>
void forward_end(const ForwardTile<T>& tile, T* o, int ld, T* lse) {
  const Tag<T> d;
  for (int x = 0; x < kTile; x += kLanesOf<T>) {
    auto factor = hn::Set(d, static_cast<T>(tile.dropout.keep_scale));
    if (tile.mod && tile.mod->has_sink) {
      factor = hn::Mul(factor, join_sink(tile.mod->sink, tile.row_max + x, tile.row_sum + x));
    }
    const auto sum = hn::Load(d, tile.row_sum + x);
    factor = hn::Div(factor, sum);
    const auto live = hn::Not(hn::Eq(sum, hn::Zero(d)));  // Ne() is false for NaN on x86
    for (int i = 0; i < tile.value_dim; ++i) {
      T* out = tile.o_t + i * kLaneStride + x;
      hn::Store(hn::IfThenElseZero(live, hn::Mul(hn::Load(d, out), factor)), d, out);
    }
  }
  transpose(tile.o_t, kLaneStride, tile.value_dim, kTile, T{1}, o, ld);
  for (int x = 0; x < kTile; x += kLanesOf<T>) {
    const auto sum = hn::Load(d, tile.row_sum + x);
    const auto value = hn::MulAdd(
        hn::Load(d, tile.row_max + x), hn::Set(d, static_cast<T>(0.69314718055994530942)),
        hn::Add(hn::Log(d, sum), hn::Sub(sum, sum)));  // Log(NaN) is a number
    const auto none = hn::Set(d, -std::numeric_limits<T>::infinity());
    hn::Store(hn::IfThenElse(hn::Eq(sum, hn::Zero(d)), none, value), d, lse + x);
  }
}

}  // namespace
}  // namespace FOVEA_ISA_NAMESPACE
}  // namespace fovea::kernels
HWY_AFTER_NAMESPACE();
