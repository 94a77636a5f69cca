#pragma once

#include <cmath>
#include <cstdint>
#include <functional>
#include <limits>
#include <span>

#include "fovea/attention/attention.h"
#include "fovea/core/parallel.h"
#include "fovea/core/philox.h"
#include "fovea/kernels/attention/engine.h"
#include "fovea/kernels/attention/lanes.h"

namespace fovea {

// What the forward's and the backward's walk over a plan share.

/// Storage type whose rows a body of operand type Op reads in place. (SplitBf16 never meets it.)
template <typename Op>
constexpr DType kNativeType = sizeof(Op) == 8   ? DType::kF64
                              : sizeof(Op) == 4 ? DType::kF32
                                                : DType::kBF16;

constexpr double kLog2E = 1.4426950408889634074;

/// Sizes of a problem under short names.
struct Sizes {
  explicit Sizes(const AttentionProblem& p)
      : batch(p.q.shape[0]),
        heads(p.q.shape[1]),
        kv_heads(p.k.shape[1]),
        q_len(p.q.shape[2]),
        kv_len(p.k.shape[2]),
        head_dim(static_cast<int>(p.q.shape[3])),
        value_dim(static_cast<int>(p.v.shape[3])),
        q_tiles((q_len + kTile - 1) / kTile),
        k_tiles((kv_len + kTile - 1) / kTile),
        group(kv_heads > 0 ? heads / kv_heads : 0) {}
  int64_t batch, heads, kv_heads, q_len, kv_len;
  int head_dim, value_dim;
  int64_t q_tiles, k_tiles;
  int64_t group;  ///< query heads of a key head

  int rows_of(int64_t q_tile) const { return rows(q_len, q_tile); }
  int keys_of(int64_t k_tile) const { return rows(kv_len, k_tile); }

 private:
  static int rows(int64_t len, int64_t tile) {
    return static_cast<int>(std::min<int64_t>(kTile, len - tile * kTile));
  }
};

/// Address of the first row of tile `t` of one head, of any dtype.
inline void* row(const TensorView& view, int64_t b, int64_t h, int64_t t) {
  const int64_t offset = b * view.strides[0] + h * view.strides[1] + t * kTile * view.strides[2];
  return static_cast<char*>(view.data) + offset * size_of(view.dtype);
}

/// What q·k is multiplied by; 1 under additive scores.
inline double score_scale(const AttentionProblem& p, int64_t h) {
  if (!p.score_mod.additive.empty()) return 1;
  if (p.score_mod.scales) return p.score_mod.scales[h];
  return p.score_mod.scale != 0 ? p.score_mod.scale
                                : 1.0 / std::sqrt(static_cast<double>(p.q.shape[3]));
}

/// ForwardTile::scale. Additive scores take log2 e with their weights.
inline double tile_scale(const AttentionProblem& p, int64_t h) {
  return p.score_mod.additive.empty() ? score_scale(p, h) * kLog2E : 1;
}

inline kernels::DropoutKey dropout_of(const AttentionProblem& p, int64_t b, int64_t h) {
  kernels::DropoutKey key;
  key.seed = p.dropout_seed;
  key.batch = static_cast<uint32_t>(b);
  key.head = static_cast<uint32_t>(h);
  key.threshold = weight_dropout_threshold(p.dropout_p);
  key.keep_scale = 1.0 / (1.0 - p.dropout_p);
  return key;
}

/// Walks the tiles of one row (or column) of a plan in ascending order.
class TileCursor {
 public:
  static constexpr int32_t kEnd = std::numeric_limits<int32_t>::max();
  TileCursor() = default;
  explicit TileCursor(std::span<const TileRun> runs)
      : run_(runs.data()), end_(runs.data() + runs.size()) {}
  /// Current tile, kEnd after the last.
  int32_t tile() const { return run_ == end_ ? kEnd : run_->first + offset_; }
  const TileRun& run() const { return *run_; }
  void next() {
    if (++offset_ == run_->count) {
      ++run_;
      offset_ = 0;
    }
  }

 private:
  const TileRun* run_ = nullptr;
  const TileRun* end_ = nullptr;
  int32_t offset_ = 0;
};

/// Elements of a panel of T for a feature, with room for the whole steps of every matrix unit.
template <typename T>
size_t panel_dim(int dim) {
  return (static_cast<size_t>(dim) + 31) / 32 * 32 * kernels::kPartsOf<T>;
}

inline int whole_steps(int n, int step) { return (n + step - 1) / step * step; }

/// Elements of a row of keys or values that is copied.
template <typename Op>
int row_size(const kernels::AttentionKernels<Op>& kernels, int dim) {
  return whole_steps(dim, kernels.step) * kernels::kPartsOf<Op>;
}

/// Rows of a tile of keys or values, row-major.
template <typename Op>
struct OperandRows {
  const Op* data;
  int64_t stride;
};

/// `rows` rows of `x` from `first` on as an engine's products read them: in place where they lie
/// so, else copied to `panel` [64, panel_dim<Op>].
template <typename Op>
OperandRows<Op> operand_rows(const kernels::AttentionKernels<Op>& kernels, const TensorView& x,
                             const void* first, int rows, Op* panel) {
  const int dim = static_cast<int>(x.shape[3]);
  const int whole_rows = whole_steps(rows, kernels.step);
  const int ld = row_size(kernels, dim);
  if (x.dtype == kNativeType<Op> && rows == whole_rows && dim == ld) {
    return {static_cast<const Op*>(first), x.strides[2]};
  }
  kernels.load_rows(first, x.dtype, x.strides[2], rows, whole_rows, dim, panel, ld);
  return {panel, ld};
}

/// Sets which rows and lanes of `keys` take part; false when no pair of the tile is allowed.
template <typename Op>
bool set_visible(const BlockPlan& plan, const TileRun& run, int rows, kernels::KeyLanes* lanes,
                 kernels::KeyTile<Op>* keys) {
  if (run.kind == TileKind::kFull) {
    keys->begin = 0;
    keys->end = keys->rows;
    keys->lanes = nullptr;
  } else {
    kernels::fill_key_lanes(plan, run, rows, keys->rows, lanes);
    keys->begin = lanes->begin;
    keys->end = lanes->end;
    keys->lanes = lanes->lanes;
  }
  return keys->begin < keys->end;
}

/// parallel_for, but on this thread when the whole work is smaller than waking the others.
inline void run_tasks(int64_t tasks, double flop, const std::function<void(int64_t)>& body) {
  constexpr double kWorthWaking = 2e6;  // about 20 µs of one core
  if (flop < kWorthWaking) {
    for (int64_t task = 0; task < tasks; ++task) body(task);
  } else {
    parallel_for(tasks, [&](int64_t task, int) { body(task); });
  }
}

/// The bodies of operand type Op, driven over the whole problem. May throw std::bad_alloc.
template <typename Op>
void run_forward(const AttentionProblem& problem, const AttentionOutputs& outputs,
                 const kernels::AttentionKernels<Op>& kernels);
template <typename Op>
void run_backward(const AttentionProblem& problem, const AttentionOutputs& outputs,
                  const AttentionGradients& gradients,
                  const kernels::AttentionKernels<Op>& kernels);

template <typename Op>
void run_statistics(const AttentionProblem& problem, const AttentionOutputs& outputs,
                    const AttentionStatistics& statistics,
                    const kernels::AttentionKernels<Op>& kernels);

/// Unmet conditions of the statistics' own arguments.
std::vector<std::string> unmet_conditions(const AttentionProblem& problem,
                                          const AttentionOutputs& outputs,
                                          const AttentionStatistics& statistics);

/// Unmet conditions of the backward's own arguments.
std::vector<std::string> unmet_conditions(const AttentionProblem& problem,
                                          const AttentionOutputs& outputs,
                                          const AttentionGradients& gradients);

}  // namespace fovea
