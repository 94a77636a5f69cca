#include <algorithm>
#include <array>
#include <vector>

#include "fovea/attention/launch.h"
#include "fovea/attention/score_mod_tiles.h"
#include "fovea/attention/scratch.h"

namespace fovea {
namespace {

using kernels::AttentionKernels;
using kernels::ForwardTile;
using kernels::kDepthOf;
using kernels::KeyLanes;
using kernels::KeyTile;
using kernels::kLaneStride;
using kernels::kPartsOf;
using kernels::kRowStride;
using kernels::ScoreModTile;
using kernels::SplitBf16;
using kernels::SumOf;

/// Query tiles that walk the keys together, so that a tile of keys is packed once for all of them;
/// 1 where the body reads keys as they lie. Results do not depend on it.
constexpr int kTogether = 4;

/// A task: query tiles [first, first + count) of one head.
struct Task {
  int32_t batch, head, first, count;
  int64_t live_tiles;
};

/// The tasks of one head after another, so that its keys stay in the cache, of each the longest
/// first, so that threads end together.
std::vector<Task> make_tasks(const AttentionProblem& p, const Sizes& n, int together) {
  std::vector<Task> tasks;
  tasks.reserve(static_cast<size_t>(n.batch * n.heads * ((n.q_tiles + together - 1) / together)));
  for (int64_t b = 0; b < n.batch; ++b) {
    for (int64_t h = 0; h < n.heads; ++h) {
      const BlockPlan& plan = p.plans->plan(b, h);
      const auto head_begin = static_cast<ptrdiff_t>(tasks.size());
      for (int64_t t = 0; t < n.q_tiles; t += together) {
        const int64_t count = std::min<int64_t>(together, n.q_tiles - t);
        int64_t live = 0;
        for (int64_t i = 0; i < count; ++i) live += plan.live_tiles(t + i);
        tasks.push_back({static_cast<int32_t>(b), static_cast<int32_t>(h), static_cast<int32_t>(t),
                         static_cast<int32_t>(count), live});
      }
      std::stable_sort(tasks.begin() + head_begin, tasks.end(),
                       [](const Task& x, const Task& y) { return x.live_tiles > y.live_tiles; });
    }
  }
  return tasks;
}

template <typename Op>
class Forward {
  using T = SumOf<Op>;

 public:
  Forward(const AttentionProblem& problem, const AttentionOutputs& outputs,
          const AttentionKernels<Op>& kernels)
      : p_(problem), out_(outputs), kernels_(kernels), n_(problem), mods_(problem, kernels) {}

  int together() const { return in_place_ && kDepth == 1 ? 1 : kTogether; }

  void run(const Task& task) const {
    const kernels::MatrixUnitScope scope(kernels_);
    State state(*this, task.count);
    for (int i = 0; i < task.count; ++i) begin(task, i, state);
    walk_keys(task, state, [&](int i, const KeyTile<Op>& keys, int64_t) {
      kernels_.forward_keys(state.tiles[i], keys);
    });
    for (int i = 0; i < task.count; ++i) end(task, i, state);
  }

  /// Entropy and mass of one head.
  void run_statistics(int64_t b, int64_t h, const AttentionStatistics& statistics) const {
    const kernels::MatrixUnitScope scope(kernels_);
    std::vector<T> mass(static_cast<size_t>(n_.k_tiles * kTile), T{0});
    for (int64_t first = 0; first < n_.q_tiles; first += together()) {
      const int64_t count = std::min<int64_t>(together(), n_.q_tiles - first);
      const Task task = {static_cast<int32_t>(b), static_cast<int32_t>(h),
                         static_cast<int32_t>(first), static_cast<int32_t>(count), 0};
      State state(*this, task.count);
      struct alignas(64) Rows {
        T lse2[kTile], entropy[kTile];
      };
      std::array<Rows, kTogether> rows{};
      for (int i = 0; i < task.count; ++i) {
        begin(task, i, state);
        for (int r = 0; r < kTile; ++r) {
          const bool row = r < state.tiles[i].rows;
          const T lse = row ? *out_.lse.row<T>(b, h, (first + i) * kTile + r) : kNone;
          rows[i].lse2[r] = lse == kNone ? -kNone : lse * static_cast<T>(kLog2E);
        }
      }
      walk_keys(task, state, [&](int i, const KeyTile<Op>& keys, int64_t t) {
        kernels_.add_statistics(state.tiles[i], keys, rows[i].lse2, rows[i].entropy,
                                mass.data() + t * kTile);
      });
      for (int i = 0; i < task.count; ++i) {
        for (int r = 0; r < state.tiles[i].rows; ++r) {
          *statistics.row_entropy.row<T>(b, h, (first + i) * kTile + r) = rows[i].entropy[r];
        }
      }
    }
    for (int64_t j = 0; j < n_.kv_len; ++j) {
      *statistics.column_mass.row<T>(b, h, j) = mass[static_cast<size_t>(j)];
    }
  }

 private:
  static constexpr T kNone = -std::numeric_limits<T>::infinity();
  static constexpr int kDepth = kDepthOf<Op>;

  /// Scratch of one task.
  struct State {
    State(const Forward& f, int count) : scratch(f.scratch_bytes(count)) {
      const size_t d = panel_dim<Op>(f.n_.head_dim), dv = panel_dim<Op>(f.n_.value_dim);
      const size_t dv_sum = panel_dim<T>(f.n_.value_dim);
      q = scratch.take<Op>(kTile * d);
      o = scratch.take<T>(kTile * dv_sum);
      T* scores = scratch.take<T>(kTile * kLaneStride);
      Op* p = nullptr;
      if constexpr (kDepth == 1) {
        p = scores;
      } else {
        p = scratch.take<Op>(kTile * kRowStride<Op>);
        v_columns = scratch.take<Op>(kTile * dv);
      }
      lse = scratch.take<T>(kTile);
      mod_panel = scratch.take<T>(f.mods_.panel_size());
      k = scratch.take<Op>(kTile * d);
      v = scratch.take<Op>(kTile * dv);
      for (int i = 0; i < count; ++i) {
        tiles[i].scores = scores;
        tiles[i].p = p;
        tiles[i].q_t = scratch.take<Op>(d * kLaneStride);
        tiles[i].o_t = scratch.take<T>(dv_sum * kLaneStride);
        tiles[i].row_max = scratch.take<T>(kTile);
        tiles[i].row_sum = scratch.take<T>(kTile);
      }
    }
    Scratch scratch;
    Op* q;         ///< [64, D] row-major
    T* o;          ///< [64, Dv] row-major
    T* lse;        ///< [64]
    T* mod_panel;  ///< of all tiles
    Op *k, *v;     ///< copied keys and values
    Op* v_columns = nullptr;
    std::array<ForwardTile<Op>, kTogether> tiles;
    std::array<ScoreModTile<T>, kTogether> mods;
    std::array<TileCursor, kTogether> cursors;
    KeyLanes lanes;
  };

  size_t scratch_bytes(int count) const {
    const size_t d = panel_dim<Op>(n_.head_dim), dv = panel_dim<Op>(n_.value_dim);
    const size_t dv_sum = panel_dim<T>(n_.value_dim);
    const size_t keys = Scratch::bytes_of<Op>(kTile * d) + Scratch::bytes_of<Op>(kTile * dv);
    const size_t of_task = 2 * keys + Scratch::bytes_of<Op>(kTile * (kRowStride<Op> + dv)) +
                           Scratch::bytes_of<T>(kTile * (dv_sum + kLaneStride + 1)) +
                           Scratch::bytes_of<T>(mods_.panel_size());
    const size_t of_tile =
        Scratch::bytes_of<Op>(d * kLaneStride) + Scratch::bytes_of<T>((dv_sum + 2) * kLaneStride);
    return of_task + static_cast<size_t>(count) * of_tile;
  }

  void begin(const Task& task, int i, State& state) const {
    const int64_t t = task.first + i;
    ForwardTile<Op>& tile = state.tiles[i];
    tile.rows = n_.rows_of(t);
    tile.head_dim = n_.head_dim;
    tile.value_dim = n_.value_dim;
    tile.scale = static_cast<T>(tile_scale(p_, task.head));
    tile.first_query = static_cast<uint32_t>(t * kTile);
    tile.dropout = dropout_of(p_, task.batch, task.head);
    tile.mod = mods_.fill(task.batch, task.head, t, tile.rows, state.mod_panel, &state.mods[i]);
    state.cursors[i] = TileCursor(p_.plans->plan(task.batch, task.head).keys_of(t));
    kernels_.load_rows(row(p_.q, task.batch, task.head, t), p_.q.dtype, p_.q.strides[2], tile.rows,
                       kTile, n_.head_dim, state.q, n_.head_dim * kPartsOf<Op>);
    kernels_.forward_begin(tile, state.q, n_.head_dim * kPartsOf<Op>);
  }

  /// Calls visit(query tile of the task, keys, key tile) for each pair of tiles that sees
  /// something.
  template <typename Visit>
  void walk_keys(const Task& task, State& state, const Visit& visit) const {
    const BlockPlan& plan = p_.plans->plan(task.batch, task.head);
    const int64_t kv_head = task.head / n_.group;
    for (;;) {
      int32_t t = TileCursor::kEnd;
      for (int i = 0; i < task.count; ++i) t = std::min(t, state.cursors[i].tile());
      if (t == TileCursor::kEnd) return;
      KeyTile<Op> keys = load_keys(task.batch, kv_head, t, state);
      for (int i = 0; i < task.count; ++i) {
        TileCursor& cursor = state.cursors[i];
        for (; cursor.tile() == t; cursor.next()) {
          if (set_visible(plan, cursor.run(), state.tiles[i].rows, &state.lanes, &keys)) {
            visit(i, keys, t);
          }
        }
      }
    }
  }

  KeyTile<Op> load_keys(int64_t b, int64_t kv_head, int64_t t, State& state) const {
    KeyTile<Op> keys;
    keys.first_key = static_cast<uint32_t>(t * kTile);
    keys.rows = n_.keys_of(t);
    keys.scales = mods_.key_scales(b, kv_head, t);
    const auto [k, k_stride] =
        operand_rows(kernels_, p_.k, row(p_.k, b, kv_head, t), keys.rows, state.k);
    const auto [v, v_stride] =
        operand_rows(kernels_, p_.v, row(p_.v, b, kv_head, t), keys.rows, state.v);
    keys.k = k;
    keys.v = keys.v_columns = v;
    keys.k_stride = k_stride;
    keys.v_stride = keys.v_columns_stride = v_stride;
    if constexpr (kDepth > 1) {
      keys.v_columns = state.v_columns;
      keys.v_columns_stride =
          kernels_.pack_columns(v, v_stride, keys.rows, n_.value_dim, state.v_columns);
    }
    return keys;
  }

  void end(const Task& task, int i, State& state) const {
    const int64_t t = task.first + i;
    const ForwardTile<Op>& tile = state.tiles[i];
    kernels_.forward_end(tile, state.o, n_.value_dim, state.lse);
    kernels_.store_rows(state.o, n_.value_dim, tile.rows, n_.value_dim, T{1},
                        row(out_.o, task.batch, task.head, t), out_.o.dtype, out_.o.strides[2]);
    T* lse = out_.lse.row<T>(task.batch, task.head, t * kTile);
    for (int r = 0; r < tile.rows; ++r) lse[r * out_.lse.strides[2]] = state.lse[r];
  }

  const AttentionProblem& p_;
  const AttentionOutputs& out_;
  const AttentionKernels<Op>& kernels_;
  const Sizes n_;
  const ScoreModTiles<T> mods_;
  const bool in_place_ = p_.q.dtype == kNativeType<Op>;
};

}  // namespace

template <typename Op>
void run_forward(const AttentionProblem& problem, const AttentionOutputs& outputs,
                 const AttentionKernels<Op>& kernels) {
  const Sizes n(problem);
  const Forward<Op> forward(problem, outputs, kernels);
  const std::vector<Task> tasks = make_tasks(problem, n, forward.together());
  int64_t live_tiles = 0;
  for (const Task& task : tasks) live_tiles += task.live_tiles;
  const double flop =
      2.0 * static_cast<double>(live_tiles) * kTile * kTile * (n.head_dim + n.value_dim);
  run_tasks(static_cast<int64_t>(tasks.size()), flop,
            [&](int64_t i) { forward.run(tasks[static_cast<size_t>(i)]); });
}

template <typename Op>
void run_statistics(const AttentionProblem& problem, const AttentionOutputs& outputs,
                    const AttentionStatistics& statistics, const AttentionKernels<Op>& kernels) {
  const Forward<Op> forward(problem, outputs, kernels);
  const int64_t heads = problem.q.shape[1];
  parallel_for(problem.q.shape[0] * heads,
               [&](int64_t i, int) { forward.run_statistics(i / heads, i % heads, statistics); });
}

template void run_statistics(const AttentionProblem&, const AttentionOutputs&,
                             const AttentionStatistics&, const AttentionKernels<float>&);
template void run_statistics(const AttentionProblem&, const AttentionOutputs&,
                             const AttentionStatistics&, const AttentionKernels<double>&);
template void run_statistics(const AttentionProblem&, const AttentionOutputs&,
                             const AttentionStatistics&, const AttentionKernels<BFloat16>&);
template void run_statistics(const AttentionProblem&, const AttentionOutputs&,
                             const AttentionStatistics&, const AttentionKernels<SplitBf16>&);

template void run_forward(const AttentionProblem&, const AttentionOutputs&,
                          const AttentionKernels<float>&);
template void run_forward(const AttentionProblem&, const AttentionOutputs&,
                          const AttentionKernels<double>&);
template void run_forward(const AttentionProblem&, const AttentionOutputs&,
                          const AttentionKernels<BFloat16>&);
template void run_forward(const AttentionProblem&, const AttentionOutputs&,
                          const AttentionKernels<SplitBf16>&);

}  // namespace fovea
