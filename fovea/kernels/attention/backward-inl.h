#pragma once

// Backward of exact attention for one tile of queries and one tile of keys, in the same
// orientation as the forward (a lane is a query).
//
//     Sᵀ = K Qᵀ,  Pᵀ = 2^(Sᵀ - lse2)         recomputed; lse2 = lse · log2 e, lane-wise
//     dPᵀ = V dOᵀ
//     dSᵀ = Pᵀ ∘ (Z ∘ dPᵀ - δ)               δ = rowsum(dO ∘ O) - dLSE, lane-wise
//     dV += (Z ∘ Pᵀ) dO,  dK += dSᵀ Q        lanes are features
//     dQᵀ += Kᵀ dSᵀ                          lanes are queries
//
// with Z the dropout mask divided by 1 - p (all ones without dropout). Source: Dao et al. 2022,
// Alg. 4; dLSE joins δ as in FlashAttention's later versions. The scale is applied to dQ and dK by
// the caller, at the end.

#include "fovea/kernels/attention/dropout-inl.h"
#include "fovea/kernels/attention/forward-inl.h"
#include "fovea/kernels/attention/vector-inl.h"
#include "fovea/kernels/mma/product-inl.h"

HWY_BEFORE_NAMESPACE();
namespace fovea::kernels {
namespace FOVEA_ISA_NAMESPACE {
namespace {

template <typename Op, typename T = SumOf<Op>>
void backward_begin(const BackwardTile<Op>& tile) {
  using Unit = MatrixUnit<Op>;
  constexpr int kParts = kPartsOf<Op>;
  const int q_stride = tile.dim_stride * kParts, d_o_stride = tile.value_stride * kParts;
  Unit::pack_lanes(tile.q, q_stride, kTile, tile.head_dim, tile.scale, tile.q_t);
  Unit::pack_lanes(tile.d_o, d_o_stride, kTile, tile.value_dim, T{1}, tile.d_o_t);
  Unit::pack_depth(tile.q, q_stride, kTile, tile.dim_stride, tile.q_depth);
  Unit::pack_depth(tile.d_o, d_o_stride, kTile, tile.value_stride, tile.d_o_depth);
  zero_panel(tile.d_q_t, tile.head_dim);
}

/// Scores and dP of lane vector x of a part to Z ∘ P and dS, in place.
template <bool kMasked, bool kDropout, typename Op, typename T = SumOf<Op>>
HWY_INLINE void score_gradients(const BackwardTile<Op>& tile, const KeyTile<Op>& keys,
                                const Part& part, const uint64_t* keep, int x) {
  const Tag<T> d;
  const auto lse2 = hn::Load(d, tile.lse2 + x * kLanesOf<T>);
  const auto delta = hn::Load(d, tile.delta + x * kLanesOf<T>);
  const auto scale = late_scale<Op>(tile);
  const auto keep_scale = hn::Set(d, static_cast<T>(tile.dropout.keep_scale));
  for (int c = part.begin; c < part.end; ++c) {
    T* p_row = tile.p + c * kLaneStride + x * kLanesOf<T>;
    T* d_s_row = tile.d_s + c * kLaneStride + x * kLanesOf<T>;
    auto p = weight_of<Op>(hn::Load(d, p_row), scale, lse2);
    auto d_p = hn::Load(d, d_s_row);
    if constexpr (kMasked) p = hn::IfThenElseZero(lane_mask<T>(keys.lanes[c], x), p);
    auto kept = p;
    if constexpr (kDropout) {
      const auto mask = lane_mask<T>(keep[c], x);
      kept = hn::IfThenElseZero(mask, hn::Mul(p, keep_scale));
      d_p = hn::IfThenElseZero(mask, hn::Mul(d_p, keep_scale));
    }
    auto d_s = hn::Mul(p, hn::Sub(d_p, delta));
    if constexpr (kMasked) d_s = hn::IfThenElseZero(lane_mask<T>(keys.lanes[c], x), d_s);
    hn::Store(kept, d, p_row);
    hn::Store(d_s, d, d_s_row);
  }
}

template <typename Op>
HWY_INLINE void part_score_gradients(const BackwardTile<Op>& tile, const KeyTile<Op>& keys,
                                     const Part& part, const uint64_t* keep) {
  constexpr int kLanes = kLanesOf<SumOf<Op>>;
  for (int lane = part.lane; lane < part.lane + part.lanes; lane += kLanes) {
    const int x = lane / kLanes;
    if (keys.lanes) {
      keep ? score_gradients<true, true>(tile, keys, part, keep, x)
           : score_gradients<true, false>(tile, keys, part, keep, x);
    } else {
      keep ? score_gradients<false, true>(tile, keys, part, keep, x)
           : score_gradients<false, false>(tile, keys, part, keep, x);
    }
  }
}

/// out[c] += Σ_r weights[c][r] · rows[r] over the pairs that see each other; see
/// add_visible_pairs(). `rows` is a panel by depth.
template <typename Op, typename T = SumOf<Op>>
HWY_NOINLINE void add_visible_rows(const KeyTile<Op>& keys, const Op* rows, int stride, int dim,
                                   const Op* weights, T* out) {
  for (int c = keys.begin; c < keys.end; ++c) {
    for (int r = 0; r < kTile; ++r) {
      if (!(keys.lanes[c] >> r & 1)) continue;
      const T weight = row_element(weights + c * kRowStride<Op>, kRowStride<Op>, r);
      for (int i = 0; i < dim; ++i) {
        out[c * stride + i] += depth_element(rows, stride * kPartsOf<Op>, r, i) * weight;
      }
    }
  }
}

/// How the three sums of a tile are made: by products, or pair by pair where rows that some may
/// not see hold NaN or infinity.
struct ByPair {
  bool queries, keys;
};

/// Scores and dP of a part to weights and dS.
template <typename Op, typename T = SumOf<Op>>
HWY_INLINE void part_weights(const BackwardTile<Op>& tile, const KeyTile<Op>& keys,
                             const Part& part, const uint64_t* keep) {
  constexpr int kDepth = kDepthOf<Op>;
  const Part real = real_keys(part, keys);
  T* slopes = tile.mod ? tile.mod->panel + 2 * kTile * kLaneStride : nullptr;
  score_part(tile, keys, part, tile.p, slopes);
  multiply<Walk::kRows, Into::kStore>(real.end - part.begin, part.lanes, tile.value_dim,
                                      keys.v + part.begin * keys.v_stride, keys.v_stride,
                                      tile.d_o_t + part.lane * kDepth, kRowStride<Op> * kDepth,
                                      tile.d_s + part.begin * kLaneStride + part.lane, kLaneStride);
  for (int c = real.end; c < part.end; ++c) {
    std::memset(tile.d_s + c * kLaneStride + part.lane, 0,
                sizeof(T) * static_cast<size_t>(kTile - part.lane));
  }
  part_score_gradients(tile, keys, part, keep);
  if (tile.mod)
    modify_gradients(*tile.mod, keys.first_key, keys.scales, real, tile.rows, tile.d_s, slopes);
  MatrixUnit<Op>::pack_weights(part.begin, part.end, part.lane, part.lanes, tile.p, tile.d_s,
                               tile.p_rows, tile.d_s_rows, tile.d_s_depth);
}

template <typename Op, typename T = SumOf<Op>>
HWY_INLINE void backward_part(const BackwardTile<Op>& tile, const KeyTile<Op>& keys,
                              const Part& part, const uint64_t* keep, ByPair by_pair, T* d_k,
                              T* d_v) {
  constexpr int kDepth = kDepthOf<Op>, kParts = kPartsOf<Op>;
  const int begin = part.begin, rows = real_keys(part, keys).end - begin;
  const int first = begin * kRowStride<Op> + part.lane;
  const int q_stride = tile.dim_stride * kParts, d_o_stride = tile.value_stride * kParts;
  part_weights(tile, keys, part, keep);
  if (!by_pair.queries) {
    multiply<Walk::kRows, Into::kAdd>(rows, tile.value_dim, part.lanes, tile.p_rows + first,
                                      kRowStride<Op>, tile.d_o_depth + part.lane * d_o_stride,
                                      d_o_stride * kDepth, d_v + begin * tile.value_stride,
                                      tile.value_stride);
  }
  if constexpr (kDepth == 1) {
    if (const T* additive = additive_of<Op>(tile)) {
      return additive_gradients(additive, tile.head_dim, tile.q_t, keys.k, keys.k_stride,
                                real_keys(part, keys), tile.d_s, tile.d_q_t, d_k, tile.dim_stride,
                                tile.mod->d_additive);
    }
  }
  if (!by_pair.queries) {
    multiply<Walk::kRows, Into::kAdd>(rows, tile.head_dim, part.lanes, tile.d_s_rows + first,
                                      kRowStride<Op>, tile.q_depth + part.lane * q_stride,
                                      q_stride * kDepth, d_k + begin * tile.dim_stride,
                                      tile.dim_stride);
  }
  if (!by_pair.keys) {
    add_columns(tile.head_dim, part.lanes, begin, part.end, keys.k_columns, keys.k_columns_stride,
                tile.d_s_depth + begin * kRowStride<Op> + part.lane * kDepth,
                kRowStride<Op> * kDepth, tile.d_q_t + part.lane, kLaneStride);
  }
}

template <typename Op, typename T = SumOf<Op>>
void backward_keys(const BackwardTile<Op>& tile, const KeyTile<Op>& keys, T* d_k, T* d_v) {
  alignas(64) uint64_t keep[kTile];
  const bool dropout = tile.dropout.threshold != 0;
  if (dropout) {
    keep_lanes(tile.dropout, tile.first_query, keys.first_key, keys.begin, keys.end, tile.rows,
               keep);
  }
  ByPair by_pair = {false, false};
  if (keys.lanes) {
    constexpr int kParts = kPartsOf<Op>;
    by_pair.queries =
        !all_rows_finite(tile.q, tile.dim_stride * kParts, 0, tile.rows, tile.head_dim) ||
        !all_rows_finite(tile.d_o, tile.value_stride * kParts, 0, tile.rows, tile.value_dim);
    by_pair.keys = !visible_rows_finite(keys, keys.k, keys.k_stride, tile.head_dim);
  }
  Part parts[2];
  const int count = split_tile(keys, tile.rows, parts);
  for (int i = 0; i < count; ++i) {
    backward_part(tile, keys, parts[i], dropout ? keep : nullptr, by_pair, d_k, d_v);
  }
  if (by_pair.queries) {
    add_visible_rows(keys, tile.d_o_depth, tile.value_stride, tile.value_dim, tile.p_rows, d_v);
  }
  if (additive_of<Op>(tile)) return;  // these gradients leave out what is masked by themselves
  if (by_pair.queries) {
    add_visible_rows(keys, tile.q_depth, tile.dim_stride, tile.head_dim, tile.d_s_rows, d_k);
  }
  if (by_pair.keys) {
    add_visible_pairs(keys, keys.k, keys.k_stride, tile.head_dim, tile.d_s_depth, tile.d_q_t);
  }
}

}  // namespace
}  // namespace FOVEA_ISA_NAMESPACE
}  // namespace fovea::kernels
HWY_AFTER_NAMESPACE();
