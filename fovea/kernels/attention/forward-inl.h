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
// rows share its tile.
//
// Measured and left out (AMD EPYC Zen 4, AVX-512, head size 64, 2026-11-21; per cent of a forward):
// exponentials of one half of the queries carried inside the products of the other, one every 64
// multiply-adds (f32 4 % slower, bf16 1 % faster); weights made of the product's sums while they
// are in registers, relative to the maxima so far, and again the long way where one has grown (f32
// 2 % slower, bf16 2 % faster); a table of 2^(i/16) in a register and a shorter polynomial
// (nothing); fetching the next tile of keys ahead (nothing). There a 512-bit store takes the time
// of 1.4 multiply-adds from the same ports, and additions overlap with multiply-adds only up to 1.4
// operations a cycle, so that a product hides little beside itself.
//
// Source: online softmax of Milakov and Gimelshein 2018 as used by Dao et al.
// 2022, Alg. 1; late rescaling as in FlashAttention-4.

#include <limits>

#include "hwy/contrib/math/math-inl.h"

#include "fovea/kernels/attention/additive-inl.h"
#include "fovea/kernels/attention/dropout-inl.h"
#include "fovea/kernels/attention/score_mod-inl.h"
#include "fovea/kernels/attention/vector-inl.h"
#include "fovea/kernels/mma/product-inl.h"

HWY_BEFORE_NAMESPACE();
namespace fovea::kernels {
namespace FOVEA_ISA_NAMESPACE {
namespace {

/// |scale|, but never 0: a masked score must stay -inf.
template <typename T>
HWY_INLINE T magnitude(T scale) {
  return HWY_MAX(scale < 0 ? -scale : scale, std::numeric_limits<T>::min());
}

/// What a score is still to be multiplied by where it is used: the matrix units that do not scale
/// the queries leave it to the exponential, and the sign of the scale to the queries.
template <typename Op, typename Tile, typename T = SumOf<Op>>
HWY_INLINE Vec<T> late_scale(const Tile& tile) {
  return hn::Set(Tag<T>(), tile.mod ? T{1} : magnitude(tile.scale));
}

/// 2^(scale · score - shift).
template <typename Op, typename T = SumOf<Op>>
HWY_INLINE Vec<T> weight_of(Vec<T> score, Vec<T> scale, Vec<T> shift) {
  using Unit = MatrixUnit<Op>;
  if constexpr (Unit::kScalesQueries) return Unit::exp2_weight(hn::Sub(score, shift));
  return Unit::exp2_weight(hn::MulSub(score, scale, shift));
}

/// Largest growth of a maximum, in powers of two, that is left to the weights.
constexpr int kLateRescale = 8;

/// A panel [dim, 64] to zeros, with the rows that a tile has too many.
template <typename T>
HWY_INLINE void zero_panel(T* panel, int dim) {
  std::memset(panel, 0, sizeof(T) * ((static_cast<size_t>(dim) + 15) / 16 * 16) * kLaneStride);
}

template <typename Op, typename T = SumOf<Op>>
void forward_begin(const ForwardTile<Op>& tile, const Op* q, int ld) {
  MatrixUnit<Op>::pack_lanes(q, ld, kTile, tile.head_dim, tile.scale, tile.q_t);
  zero_panel(tile.o_t, tile.value_dim);
  for (int r = 0; r < kTile; ++r) {
    tile.row_max[r] = -std::numeric_limits<T>::infinity();
    tile.row_sum[r] = 0;
  }
}

/// n rounded up to whole steps of the matrix unit.
template <typename Op>
HWY_INLINE int whole_steps(int n) {
  constexpr int kStep = MatrixUnit<Op>::kStep;
  return (n + kStep - 1) & ~(kStep - 1);
}

/// A partial tile is clipped by halves: each half of its queries to the keys that it sees. On the
/// diagonal tile of a causal pattern this saves a quarter of the work. So is a full tile of bf16
/// operands, whose faster products feel the cache: 4 % on Zen 4, where f32 loses 1 % (2026-11-21).
/// Keys are widened to whole steps of the matrix unit, the last perhaps beyond the tile's keys.
/// Returns the parts' number.
template <typename Op>
HWY_INLINE int split_tile(const KeyTile<Op>& keys, int rows, Part* parts) {
  constexpr int kHalf = kTile / 2;
  rows = whole_steps<Op>(rows);  // the backward's products over queries go in steps too
  if (!keys.lanes) {
    if (kDepthOf<Op> != 1 && rows > kHalf) {
      parts[0] = {0, kHalf, keys.begin, whole_steps<Op>(keys.end)};
      parts[1] = {kHalf, rows - kHalf, keys.begin, whole_steps<Op>(keys.end)};
      return 2;
    }
    parts[0] = {0, rows, keys.begin, whole_steps<Op>(keys.end)};
    return 1;
  }
  int count = 0;
  for (int lane = 0; lane < rows; lane += kHalf) {
    const uint64_t half = uint64_t{0xFFFFFFFFu} << lane;
    int begin = keys.begin, end = keys.end;
    while (begin < end && !(keys.lanes[begin] & half)) ++begin;
    while (end > begin && !(keys.lanes[end - 1] & half)) --end;
    if (begin == end) continue;
    begin &= ~(MatrixUnit<Op>::kStep - 1);
    parts[count++] = {lane, HWY_MIN(kHalf, rows - lane), begin, whole_steps<Op>(end)};
  }
  if (count == 2 && parts[0].begin == parts[1].begin && parts[0].end == parts[1].end) {
    parts[0].lanes = rows;
    return 1;
  }
  return count;
}

/// Maximum of the scores of lane vector x; masked scores become -inf on the way.
template <typename Op, typename T = SumOf<Op>>
HWY_INLINE Vec<T> column_max(T* scores, const KeyTile<Op>& keys, const Part& part, int x) {
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
template <typename Op, typename T = SumOf<Op>>
HWY_INLINE Vec<T> update_max(const ForwardTile<Op>& tile, Vec<T> block_max, int x) {
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

/// Scores of lane vector x to weights; adds them to row_sum before dropout and rounding.
template <bool kDropout, typename Op, typename T = SumOf<Op>>
HWY_INLINE void exponentials(const ForwardTile<Op>& tile, const Part& part, Vec<T> max,
                             const uint64_t* keep, int x) {
  using Unit = MatrixUnit<Op>;
  constexpr int kDepth = kDepthOf<Op>;
  const Tag<T> d;
  const T* s = tile.scores + x * kLanesOf<T>;
  const auto scale = late_scale<Op>(tile);
  Op* out = tile.p + x * kLanesOf<T> * kDepth;
  T* row_sum = tile.row_sum + x * kLanesOf<T>;
  Vec<T> sum[kDepth];
  for (int j = 0; j < kDepth; ++j) sum[j] = hn::Zero(d);
  for (int c = part.begin; c < part.end; c += kDepth) {
    Vec<T> p[kDepth];
#pragma GCC unroll 2
    for (int j = 0; j < kDepth; ++j) {
      p[j] = weight_of<Op>(hn::Load(d, s + (c + j) * kLaneStride), scale, max);
      sum[j] = hn::Add(sum[j], p[j]);
      if constexpr (kDropout) p[j] = hn::IfThenElseZero(lane_mask<T>(keep[c + j], x), p[j]);
    }
    Unit::store_depth(p, out + c * kRowStride<Op>);
  }
  for (int j = 1; j < kDepth; ++j) sum[0] = hn::Add(sum[0], sum[j]);
  hn::Store(hn::Add(hn::Load(d, row_sum), sum[0]), d, row_sum);
}

/// Whether the rows of `x` that the products read of a partial tile hold neither NaN nor infinity.
template <typename Op>
HWY_INLINE bool visible_rows_finite(const KeyTile<Op>& keys, const Op* x, int64_t stride, int dim) {
  return all_rows_finite(x, stride, keys.begin & ~(MatrixUnit<Op>::kStep - 1),
                         HWY_MIN(whole_steps<Op>(keys.end), keys.rows), dim);
}

/// Element c of a row of `stride` elements.
template <typename Op>
HWY_INLINE SumOf<Op> row_element(const Op* row, int64_t stride, int64_t c) {
  auto sum = static_cast<SumOf<Op>>(row[c]);
  if constexpr (kPartsOf<Op> == 2) sum += static_cast<SumOf<Op>>(row[stride / 2 + c]);
  return sum;
}

/// Element (k, x) of a panel by depth of `stride` elements to a row.
template <typename Op>
HWY_INLINE SumOf<Op> depth_element(const Op* panel, int64_t stride, int k, int x) {
  constexpr int kDepth = kDepthOf<Op>;
  stride *= kDepth;
  return row_element(panel + k / kDepth * stride, stride, x * kDepth + k % kDepth);
}

/// Oᵀ += Vᵀ P pair by pair, only where a query sees a key: for tiles that hold NaN or infinity in
/// keys which some of its queries may not see.
template <typename Op, typename T = SumOf<Op>>
HWY_NOINLINE void add_visible_pairs(const KeyTile<Op>& keys, const Op* rows, int64_t stride,
                                    int dim, const Op* weights, T* out_t) {
  for (int c = keys.begin; c < keys.end; ++c) {
    for (int r = 0; r < kTile; ++r) {
      if (!(keys.lanes[c] >> r & 1)) continue;
      const T weight = depth_element(weights, kRowStride<Op>, c, r);
      for (int i = 0; i < dim; ++i) {
        out_t[i * kLaneStride + r] += row_element(rows + c * stride, stride, i) * weight;
      }
    }
  }
}

/// A part without what its last step has too many.
template <typename Op>
HWY_INLINE Part real_keys(const Part& part, const KeyTile<Op>& keys) {
  return {part.lane, part.lanes, part.begin, HWY_MIN(part.end, keys.rows)};
}

/// The tile's additive weights, null where its scores are products. Operands deeper than 1 have no
/// additive scores: their problems run on f32's table.
template <typename Op, typename Tile, typename T = SumOf<Op>>
HWY_INLINE const T* additive_of(const Tile& tile) {
  if constexpr (kDepthOf<Op> == 1) return tile.mod ? tile.mod->additive : nullptr;
  return nullptr;
}

/// Scores of a part: K Qᵀ, scaled but for late_scale(), or additive, and modified; keys that its
/// last step has too many score -inf. `slopes`: see modify_scores().
template <typename Tile, typename Op, typename T = SumOf<Op>>
HWY_INLINE void score_part(const Tile& tile, const KeyTile<Op>& keys, const Part& part, T* scores,
                           T* slopes) {
  constexpr int kDepth = kDepthOf<Op>;
  const Part real = real_keys(part, keys);
  const auto product = [&](auto into) {
    multiply<Walk::kRows, decltype(into)::value>(
        real.end - part.begin, part.lanes, tile.head_dim, keys.k + part.begin * keys.k_stride,
        keys.k_stride, tile.q_t + part.lane * kDepth, kRowStride<Op> * kDepth,
        scores + part.begin * kLaneStride + part.lane, kLaneStride, magnitude(tile.scale));
  };
  if (const T* weights = additive_of<Op>(tile)) {
    if constexpr (kDepth == 1) {
      additive_scores(weights, tile.head_dim, tile.q_t, keys.k, keys.k_stride, real, scores);
    }
  } else if (!MatrixUnit<Op>::kScalesQueries && tile.mod) {
    product(std::integral_constant<Into, Into::kScale>());
  } else {
    product(std::integral_constant<Into, Into::kStore>());
  }
  if (tile.mod) {
    modify_scores(*tile.mod, keys.first_key, keys.scales, real, tile.rows, scores, slopes);
  }
  for (int c = real.end; c < part.end; ++c) {
    T* row = scores + c * kLaneStride;
    for (int r = part.lane; r < kTile; ++r) row[r] = -std::numeric_limits<T>::infinity();
  }
}

/// Scores of a part to weights: mask, running maximum, exponential, sum, dropout.
template <typename Op>
HWY_INLINE void softmax_part(const ForwardTile<Op>& tile, const KeyTile<Op>& keys, const Part& part,
                             const uint64_t* keep) {
  constexpr int kLanes = kLanesOf<SumOf<Op>>;
  for (int lane = part.lane; lane < part.lane + part.lanes; lane += kLanes) {
    const int x = lane / kLanes;
    auto max = column_max(tile.scores, keys, part, x);
    if constexpr (!MatrixUnit<Op>::kScalesQueries) max = hn::Mul(max, late_scale<Op>(tile));
    max = update_max(tile, max, x);
    if (keep) {
      exponentials<true>(tile, part, max, keep, x);
    } else {
      exponentials<false>(tile, part, max, nullptr, x);
    }
  }
}

template <typename Op>
void forward_keys(const ForwardTile<Op>& tile, const KeyTile<Op>& keys) {
  using T = SumOf<Op>;
  constexpr int kDepth = kDepthOf<Op>;
  alignas(64) uint64_t keep[kTile];
  const bool dropout = tile.dropout.threshold != 0;
  if (dropout) {
    keep_lanes(tile.dropout, tile.first_query, keys.first_key, keys.begin, keys.end, tile.rows,
               keep);
  }
  const bool by_pair =
      keys.lanes && !visible_rows_finite(keys, keys.v, keys.v_stride, tile.value_dim);
  Part parts[2];
  const int count = split_tile(keys, tile.rows, parts);
  for (int i = 0; i < count; ++i) {
    const Part& part = parts[i];
    score_part(tile, keys, part, tile.scores, static_cast<T*>(nullptr));
    softmax_part(tile, keys, part, dropout ? keep : nullptr);
    if (by_pair) continue;
    add_columns(tile.value_dim, part.lanes, part.begin, part.end, keys.v_columns,
                keys.v_columns_stride, tile.p + part.begin * kRowStride<Op> + part.lane * kDepth,
                kRowStride<Op> * kDepth, tile.o_t + part.lane, kLaneStride);
  }
  if (by_pair) {
    add_visible_pairs(keys, keys.v, keys.v_stride, tile.value_dim, tile.p, tile.o_t);
  }
}

template <typename Op, typename T = SumOf<Op>>
void forward_end(const ForwardTile<Op>& tile, T* o, int ld, T* lse) {
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
