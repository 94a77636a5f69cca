#pragma once

#include <algorithm>
#include <atomic>
#include <cmath>
#include <thread>
#include <vector>

#include "fovea/attention/score_mod_tiles.h"

namespace fovea {

/// Gradients of a problem's score modifications, summed in an order that problem and plan fix.
///
/// Dense bias: a tile of it belongs to one task, which works on every head and batch element that
/// shares it one after another; the first stores, the others add. Distance bias and additive
/// weights: each task sums over its keys, tasks of one head add their sums in the order of
/// their steps, heads that share a table are added at the end. Sinks and scales: a sum for each
/// query tile, added at the end.
template <typename T>
class ScoreModGradients {
 public:
  ScoreModGradients(const AttentionProblem& problem, const AttentionGradients& gradients)
      : p_(problem),
        grad_(gradients),
        n_(problem),
        distances_(gradients.d_distance_bias.empty() ? 0 : gradients.d_distance_bias.shape[3]),
        weights_(gradients.d_additive.empty() ? 0 : gradients.d_additive.shape[3]),
        sinks_(gradients.d_sinks ? static_cast<size_t>(n_.batch * n_.heads * n_.q_tiles) : 0),
        scales_(gradients.d_scales ? static_cast<size_t>(n_.batch * n_.heads * n_.q_tiles) : 0),
        by_head_(static_cast<size_t>(n_.batch * n_.heads) * task_sums()),
        flushed_(task_sums() > 0 ? static_cast<size_t>(n_.batch * n_.heads) : 0) {}

  /// A task must work on all batch elements, or all heads.
  bool shares_batch() const { return !grad_.d_bias.empty() && grad_.d_bias.shape[0] == 1; }
  bool shares_heads() const { return !grad_.d_bias.empty() && grad_.d_bias.shape[1] == 1; }

  /// Elements of a task's sums: by distance, then of additive weights.
  size_t task_sums() const { return static_cast<size_t>(distances_ + weights_); }

  /// Adds what one query tile (`index` over [B, Hq, q_tiles]) gives to its sink:
  /// -Σ 2^(sink - lse) δ over its rows; see backward-inl.h for δ.
  void add_sink(int64_t index, int64_t h, const T* lse2, const T* delta) {
    if (sinks_.empty()) return;
    const double sink2 = p_.score_mod.sinks[h] * kLog2E;
    double sum = 0;
    for (int r = 0; r < kTile; ++r) {
      if (!std::isinf(lse2[r])) sum -= std::exp2(sink2 - double{lse2[r]}) * double{delta[r]};
    }
    sinks_[static_cast<size_t>(index)] = sum;
  }

  /// True for the head that is the first of its task to write to a part of d_bias.
  bool first_sharer(int64_t b, int64_t h) const {
    return (!shares_batch() || b == 0) && (!shares_heads() || h == 0);
  }

  /// Adds what one query tile gives to its head's scale: Σ q·g over its rows, g the gradient of q
  /// before the scale (see cosine.h).
  void add_scale(int64_t index, int rows, const T* along) {
    if (scales_.empty()) return;
    double sum = 0;
    for (int r = 0; r < rows; ++r) sum += double{along[r]};
    scales_[static_cast<size_t>(index)] = sum;
  }

  /// Points `tile` at the gradients of query tile `t`; before the first tile of keys.
  void begin_queries(int64_t b, int64_t h, int64_t t, T* sums,
                     kernels::ScoreModTile<T>* tile) const {
    tile->d_bias = nullptr;
    if (!grad_.d_bias.empty()) {
      tile->d_bias = static_cast<T*>(ScoreModTiles<T>::broadcast_row(grad_.d_bias, b, h, t));
      tile->d_bias_stride = grad_.d_bias.strides[2];
    }
    tile->d_distance_bias = distances_ > 0 ? sums : nullptr;
    tile->d_additive = weights_ > 0 ? sums + distances_ : nullptr;
  }

  /// Before query tile `t` visits key tile `k`: a full tile of the first sharer is stored, any
  /// other is cleared and added to.
  void begin_keys(int64_t b, int64_t h, int64_t t, int64_t k, bool full,
                  kernels::ScoreModTile<T>* tile) const {
    if (!tile->d_bias || !by_query()) return;
    tile->d_bias_add = !(full && first_sharer(b, h));
    if (!full) clear_bias(b, h, t, t + 1, k, 1);
  }

  /// Clears the first sharer's gradient of query tiles [begin, end), or of the one row that all
  /// queries share, and of `count` key tiles.
  void clear_bias(int64_t b, int64_t h, int64_t begin, int64_t end, int64_t k,
                  int64_t count) const {
    if (grad_.d_bias.empty() || !first_sharer(b, h)) return;
    const int64_t keys = std::min(n_.kv_len - k * kTile, count * kTile);
    for (int64_t t = begin; t < end; ++t) {
      T* d_bias =
          static_cast<T*>(ScoreModTiles<T>::broadcast_row(grad_.d_bias, b, h, t)) + k * kTile;
      const int rows = by_query() ? n_.rows_of(t) : 1;
      for (int r = 0; r < rows; ++r) std::fill_n(d_bias + r * grad_.d_bias.strides[2], keys, T{0});
    }
  }

  /// Whether each query has its own row of d_bias.
  bool by_query() const { return !grad_.d_bias.empty() && grad_.d_bias.shape[2] != 1; }

  /// Adds a task's sums to its head's when those of all steps before are there.
  void flush_sums(int64_t b, int64_t h, int64_t step, const T* sums) {
    if (task_sums() == 0) return;
    const size_t head = static_cast<size_t>(b * n_.heads + h);
    for (int spins = 0; flushed_[head].load(std::memory_order_acquire) != step;) {
      if (++spins > 64) std::this_thread::yield();
    }
    T* sum = by_head_.data() + head * task_sums();
    for (size_t i = 0; i < task_sums(); ++i) sum[i] += sums[i];
    flushed_[head].store(step + 1, std::memory_order_release);
  }

  /// After all tasks.
  void finish() const {
    sum_tiles(sinks_, grad_.d_sinks);
    sum_tiles(scales_, grad_.d_scales);
    sum_heads(grad_.d_distance_bias, distances_, 0);
    sum_heads(grad_.d_additive, weights_, distances_);
  }

 private:
  /// out[1, H|1, 1, count] = Σ over batch, and heads that share it, of their sums from `first` on.
  void sum_heads(const TensorView& out, int64_t count, int64_t first) const {
    if (count == 0) return;
    const int64_t sharers = out.shape[1] == 1 ? n_.heads : 1;
    for (int64_t i = 0; i < count * out.shape[1]; ++i) {
      const int64_t head = i / count * sharers;
      double sum = 0;
      for (int64_t b = 0; b < n_.batch; ++b) {
        for (int64_t h = head; h < head + sharers; ++h) {
          const size_t at = static_cast<size_t>(b * n_.heads + h) * task_sums();
          sum += double{by_head_[at + static_cast<size_t>(first + i % count)]};
        }
      }
      out.row<T>(0, i / count, 0)[i % count] = static_cast<T>(sum);
    }
  }

  /// out[h] = Σ over batch and query tiles.
  void sum_tiles(const std::vector<double>& tiles, double* out) const {
    for (int64_t h = 0; out && h < n_.heads; ++h) {
      double sum = 0;
      for (int64_t b = 0; b < n_.batch; ++b) {
        const double* head = tiles.data() + (b * n_.heads + h) * n_.q_tiles;
        for (int64_t t = 0; t < n_.q_tiles; ++t) sum += head[t];
      }
      out[h] = sum;
    }
  }

  const AttentionProblem& p_;
  const AttentionGradients& grad_;
  const Sizes n_;
  const int64_t distances_, weights_;
  std::vector<double> sinks_, scales_;         ///< [B · Hq · q_tiles]
  std::vector<T> by_head_;                     ///< [B · Hq, task_sums()]
  std::vector<std::atomic<int64_t>> flushed_;  ///< [B · Hq] groups that have added
};

}  // namespace fovea
