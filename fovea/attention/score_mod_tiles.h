#pragma once

#include <algorithm>
#include <cmath>
#include <vector>

#include "fovea/attention/cosine.h"
#include "fovea/attention/launch.h"

namespace fovea {

/// A problem's score modifications as its tiles take them.
template <typename T>
class ScoreModTiles {
 public:
  template <typename Kernels>
  ScoreModTiles(const AttentionProblem& problem, const Kernels& kernels)
      : p_(problem),
        mod_(problem.score_mod),
        any_(!problem.score_mod.plain()),
        query_scales_(problem.q, kernels, mod_.cosine),
        key_scales_(problem.k, kernels, mod_.cosine) {
    const TensorView& w = mod_.additive;
    for (int64_t h = 0; h < (w.empty() ? 0 : w.shape[1]); ++h) {
      const T* row = w.row<T>(0, h, 0);
      for (int64_t i = 0; i < w.shape[3]; ++i) {
        additive_.push_back(static_cast<T>(kLog2E * static_cast<double>(row[i])));
      }
    }
  }

  /// [64] one over the lengths of a tile's rows under cosine, else null.
  const T* query_scales(int64_t b, int64_t h, int64_t t) const { return query_scales_.at(b, h, t); }
  const T* key_scales(int64_t b, int64_t h, int64_t t) const { return key_scales_.at(b, h, t); }

  bool any() const { return any_; }
  /// Elements of ScoreModTile::panel.
  size_t panel_size() const { return any_ ? 3 * kTile * kernels::kLaneStride : 0; }

  /// Fills `tile` for query tile `t` of one head; returns what a body's tile points to.
  const kernels::ScoreModTile<T>* fill(int64_t b, int64_t h, int64_t t, int rows, T* panel,
                                       kernels::ScoreModTile<T>* tile) const {
    if (!any_) return nullptr;
    tile->panel = panel;
    tile->query_scales = query_scales(b, h, t);
    if (!additive_.empty()) {
      const int64_t head = mod_.additive.shape[1] == 1 ? 0 : h;
      tile->additive = additive_.data() + head * mod_.additive.shape[3];
    }
    tile->negative_slope = static_cast<T>(mod_.negative_slope);
    tile->softcap = static_cast<T>(mod_.softcap * kLog2E);
    tile->has_sink = mod_.sinks != nullptr;
    if (mod_.sinks) tile->sink = static_cast<T>(mod_.sinks[h] * kLog2E);
    if (!mod_.bias.empty()) {
      tile->bias_dtype = mod_.bias.dtype;
      tile->bias_stride = mod_.bias.shape[2] == 1 ? 0 : mod_.bias.strides[2];
      tile->bias = broadcast_row(mod_.bias, b, h, t);
    }
    if (mod_.alibi_slopes) tile->slope = static_cast<T>(mod_.alibi_slopes[h] * kLog2E);
    if (!mod_.distance_bias.empty()) {
      tile->distance_bias = static_cast<const T*>(broadcast_row(mod_.distance_bias, 0, h, 0));
      tile->radius = (mod_.distance_bias.shape[3] - 1) / 2;
    }
    if (mod_.alibi_slopes || !mod_.distance_bias.empty()) {
      p_.plans->plan(b, h).aligned_keys(t * kTile, rows, tile->aligned);
      for (int r = rows; r < kTile; ++r) tile->aligned[r] = tile->aligned[r - 1] + 1;
    }
    return tile;
  }

  /// Address of the first row of query tile `t`; extents of 1 serve every index.
  static void* broadcast_row(const TensorView& view, int64_t b, int64_t h, int64_t t) {
    return row(view, view.shape[0] == 1 ? 0 : b, view.shape[1] == 1 ? 0 : h,
               view.shape[2] == 1 ? 0 : t);
  }

 private:
  const AttentionProblem& p_;
  const ScoreMod& mod_;
  const bool any_;
  const InverseLengths<T> query_scales_, key_scales_;
  std::vector<T> additive_;  ///< [H|1, D] weights times log2 e
};

}  // namespace fovea
