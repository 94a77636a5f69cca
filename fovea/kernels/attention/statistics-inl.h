#pragma once

// What the weights of a tile say about themselves, recomputed from lse (lse2 = lse · log2 e):
//
//     Pᵀ = 2^(Sᵀ - lse2),   H = -ln 2 · Σ_c P ∘ (S - lse2),   mass[c] = Σ_r P

#include "fovea/kernels/attention/forward-inl.h"

HWY_BEFORE_NAMESPACE();
namespace fovea::kernels {
namespace FOVEA_ISA_NAMESPACE {
namespace {

template <typename Op, typename T = SumOf<Op>>
HWY_INLINE void part_statistics(const ForwardTile<Op>& tile, const KeyTile<Op>& keys,
                                const Part& part, const T* lse2, T* entropy, T* mass) {
  const Tag<T> d;
  const auto ln2 = hn::Set(d, static_cast<T>(0.69314718055994530942));
  for (int lane = part.lane; lane < part.lane + part.lanes; lane += kLanesOf<T>) {
    const auto lse = hn::Load(d, lse2 + lane);
    auto sum = hn::Zero(d);
    for (int c = part.begin; c < part.end; ++c) {
      auto score = hn::Load(d, tile.scores + c * kLaneStride + lane);
      if constexpr (!MatrixUnit<Op>::kScalesQueries) score = hn::Mul(score, late_scale<Op>(tile));
      const auto log2_p = hn::Sub(score, lse);
      auto p = exp2(log2_p);
      if (keys.lanes) p = hn::IfThenElseZero(lane_mask<T>(keys.lanes[c], lane / kLanesOf<T>), p);
      const auto none = hn::Eq(p, hn::Zero(d));  // 0 · log 0 is 0
      sum = hn::Add(sum, hn::IfThenElse(none, p, hn::Mul(p, log2_p)));
      mass[c] += hn::GetLane(hn::SumOfLanes(d, p));
    }
    hn::Store(hn::Sub(hn::Load(d, entropy + lane), hn::Mul(ln2, sum)), d, entropy + lane);
  }
}

/// Adds to entropy [64 queries] and mass [64 keys]. Lanes without a row: lse2 is +inf.
template <typename Op, typename T = SumOf<Op>>
void add_statistics(const ForwardTile<Op>& tile, const KeyTile<Op>& keys, const T* lse2, T* entropy,
                    T* mass) {
  Part parts[2];
  const int count = split_tile(keys, tile.rows, parts);
  for (int i = 0; i < count; ++i) {
    score_part(tile, keys, parts[i], tile.scores, static_cast<T*>(nullptr));
    part_statistics(tile, keys, real_keys(parts[i], keys), lse2, entropy, mass);
  }
}

}  // namespace
}  // namespace FOVEA_ISA_NAMESPACE
}  // namespace fovea::kernels
HWY_AFTER_NAMESPACE();
