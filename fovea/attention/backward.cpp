#include <algorithm>
#include <array>
#include <atomic>
#include <map>
#include <thread>
#include <vector>

#include "fovea/attention/launch.h"
#include "fovea/attention/score_mod_gradients.h"
#include "fovea/attention/scratch.h"

namespace fovea {
namespace {

using kernels::AttentionKernels;
using kernels::BackwardTile;
using kernels::kDepthOf;
using kernels::KeyLanes;
using kernels::KeyTile;
using kernels::kLaneStride;
using kernels::kPartsOf;
using kernels::kRowStride;
using kernels::ScoreModTile;
using kernels::SplitBf16;
using kernels::SumOf;

// Five products, one task for each group of key tiles of one (batch element, key head). A task
// walks the query tiles that see its keys; dK and dV stay with it, and what it adds to a query
// tile's dQ goes into one shared f32 sum. Groups add to a query tile in the order of their steps:
// each waits for its turn, so the sum's order is a function of the plan alone. A task only waits
// for tasks that were handed out before it, so it never waits for work that nobody has taken. Where
// the gradient of a bias is wanted that batch elements or heads share, one task has all of them.

/// Most key tiles of a group. A larger group packs each query tile and adds to its dQ fewer times:
/// 8 instead of 4 made full attention 3 % faster in f32 and bf16, windows 1 % (AMD EPYC Zen 4 with
/// 1 MB of L2 cache, head size 64, 2026-11-21).
constexpr int kMaxGroup = 8;

/// Whole cache lines of features.
int padded(int dim) { return (dim + 15) / 16 * 16; }

/// Key tiles of a group: as many as leave some tasks for many threads and fit the cache, by the
/// sizes alone. `units`: tasks of a group.
int group_size(const Sizes& n, int64_t units) {
  constexpr int64_t kTasks = 16, kMaxWidth = 512;
  const int64_t by_tasks = units * n.k_tiles / kTasks;
  const int64_t by_cache = kMaxWidth / std::max(n.head_dim, n.value_dim);
  return static_cast<int>(std::clamp<int64_t>(std::min(by_tasks, by_cache), 1, kMaxGroup));
}

/// The group whose turn is `step`: the even ones, then the odd ones. Neighbours share the query
/// tiles of a window; with one head and two threads, at 1,048,576 tokens and window(256), waiting
/// for each other took a quarter of the time (AMD EPYC Zen 4, 2026-11-21).
int64_t group_of_step(int64_t step, int64_t groups) {
  const int64_t even = (groups + 1) / 2;
  return step < even ? 2 * step : 2 * (step - even) + 1;
}

/// The query tiles of the key tiles [first, first + count) of a plan, in ascending order; several
/// cursors may stand at the same query tile.
class GroupWalk {
 public:
  GroupWalk(const BlockPlan& plan, int64_t first, int count) : count_(count) {
    for (int i = 0; i < count; ++i) cursors_[i] = TileCursor(plan.queries_of(first + i));
  }
  /// Lowest query tile that is not done, TileCursor::kEnd after the last.
  int32_t tile() const {
    int32_t tile = TileCursor::kEnd;
    for (int i = 0; i < count_; ++i) tile = std::min(tile, cursors_[i].tile());
    return tile;
  }
  TileCursor& cursor(int i) { return cursors_[i]; }
  void skip(int32_t tile) {
    for (int i = 0; i < count_; ++i) {
      while (cursors_[i].tile() == tile) cursors_[i].next();
    }
  }

 private:
  std::array<TileCursor, kMaxGroup> cursors_;
  int count_;
};

/// When it is whose turn to add to a query tile's dQ, for one plan.
struct Turns {
  Turns(const BlockPlan& plan, int group) : adders(static_cast<size_t>(plan.q_tiles()), 0) {
    const int64_t groups = (plan.k_tiles() + group - 1) / group;
    for (int64_t step = 0; step < groups; ++step) {
      const int64_t first = group_of_step(step, groups) * group;
      begin.push_back(turn.size());
      const int count = static_cast<int>(std::min<int64_t>(group, plan.k_tiles() - first));
      GroupWalk walk(plan, first, count);
      for (int32_t t; (t = walk.tile()) != TileCursor::kEnd; walk.skip(t)) {
        turn.push_back(adders[static_cast<size_t>(t)]++);
      }
    }
  }
  std::vector<size_t> begin;    ///< [steps] first entry in `turn`
  std::vector<int32_t> turn;    ///< for each visit of a step: groups that must add before it
  std::vector<int32_t> adders;  ///< [q_tiles] groups that add to a query tile
};

template <typename Op>
class Backward {
  using T = SumOf<Op>;

 public:
  Backward(const AttentionProblem& problem, const AttentionOutputs& outputs,
           const AttentionGradients& gradients, const AttentionKernels<Op>& kernels)
      : p_(problem),
        out_(outputs),
        grad_(gradients),
        kernels_(kernels),
        n_(problem),
        mods_(problem, kernels),
        mod_gradients_(problem, gradients),
        unit_batch_(mod_gradients_.shares_batch() ? n_.batch : 1),
        unit_heads_(mod_gradients_.shares_heads() ? n_.kv_heads : 1),
        group_(group_size(n_, units())),
        groups_((n_.k_tiles + group_ - 1) / group_),
        lse2_(static_cast<size_t>(n_.batch * n_.heads * n_.q_tiles * kTile)),
        delta_(lse2_.size()),
        added_(static_cast<size_t>(n_.batch * n_.heads * n_.q_tiles)) {
    for (const auto& plan : p_.plans->plans()) turns_.try_emplace(plan.get(), *plan, group_);
    if (groups_ > 1) d_q_ = AlignedBuffer<T>(added_.size() * d_q_size());
  }

  void run() {
    double live_tiles = 0;
    for (int64_t b = 0; b < n_.batch; ++b) {
      for (int64_t h = 0; h < n_.heads; ++h) {
        const auto& counts = p_.plans->plan(b, h).counts();
        live_tiles +=
            static_cast<double>(counts.full + counts.banded + counts.interval + counts.bitmap);
      }
    }
    const double flop = live_tiles * kTile * kTile * (6.0 * n_.head_dim + 4.0 * n_.value_dim);
    run_tasks(n_.batch * n_.heads * n_.q_tiles, flop, [&](int64_t i) { prepare(i); });
    // Neighbouring tasks are of different heads, so that they rarely wait for each other.
    run_tasks(groups_ * units(), flop, [&](int64_t i) { run_unit(i / units(), i % units()); });
    mod_gradients_.finish();
  }

 private:
  static constexpr int kDepth = kDepthOf<Op>, kParts = kPartsOf<Op>;

  int64_t units() const { return n_.batch / unit_batch_ * (n_.kv_heads / unit_heads_); }
  size_t d_q_size() const { return static_cast<size_t>(n_.head_dim) * kLaneStride; }
  const Turns& turns(int64_t b, int64_t h) const { return turns_.at(&p_.plans->plan(b, h)); }

  /// lse2 and δ of one query tile; zero d_q where no key is seen.
  void prepare(int64_t index) {
    const int64_t t = index % n_.q_tiles, head = index / n_.q_tiles;
    const int64_t b = head / n_.heads, h = head % n_.heads;
    const int rows = n_.rows_of(t);
    T* lse2 = lse2_.data() + index * kTile;
    T* delta = delta_.data() + index * kTile;
    kernels_.row_dots(row(out_.o, b, h, t), out_.o.strides[2], row(grad_.d_o, b, h, t),
                      grad_.d_o.strides[2], out_.o.dtype, rows, n_.value_dim, delta);
    const T* lse = out_.lse.template row<T>(b, h, t * kTile);
    for (int r = 0; r < kTile; ++r) {
      const T value = r < rows ? lse[r * out_.lse.strides[2]] : -kInfinity;
      const bool dead = value == -kInfinity;
      lse2[r] = dead ? kInfinity : value * static_cast<T>(kLog2E);
      if (dead) delta[r] = 0;
      if (!dead && !grad_.d_lse.empty()) {
        delta[r] -= *grad_.d_lse.template row<T>(b, h, t * kTile + r);
      }
    }
    mod_gradients_.add_sink(index, h, lse2, delta);
    added_[static_cast<size_t>(index)].store(0, std::memory_order_relaxed);
    if (turns(b, h).adders[static_cast<size_t>(t)] == 0) {
      const size_t size = size_t{kTile} * static_cast<size_t>(n_.head_dim);
      Scratch scratch(Scratch::bytes_of<T>(size));
      T* zero = scratch.take<T>(size);
      std::fill_n(zero, size, T{0});
      kernels_.store_rows(zero, n_.head_dim, rows, n_.head_dim, T{1}, row(grad_.d_q, b, h, t),
                          grad_.d_q.dtype, grad_.d_q.strides[2]);
    }
  }

  /// Scratch of one task.
  struct State {
    explicit State(const Backward& f) : scratch(f.scratch_bytes()) {
      const size_t d = panel_dim<Op>(f.n_.head_dim), dv = panel_dim<Op>(f.n_.value_dim);
      const size_t dp = padded(f.n_.head_dim), dvp = padded(f.n_.value_dim);
      q = scratch.take<Op>(kTile * dp * kParts);
      d_o = scratch.take<Op>(kTile * dvp * kParts);
      d_q = scratch.take<T>(kTile * dp);
      tile.q = q;
      tile.d_o = d_o;
      tile.q_t = scratch.take<Op>(d * kLaneStride);
      tile.d_o_t = scratch.take<Op>(dv * kLaneStride);
      tile.p = scratch.take<T>(kTile * kLaneStride);
      tile.d_s = scratch.take<T>(kTile * kLaneStride);
      tile.d_q_t = scratch.take<T>(panel_dim<T>(f.n_.head_dim) * kLaneStride);
      d_k = scratch.take<T>(f.group_ * kTile * dp);
      d_v = scratch.take<T>(f.group_ * kTile * dvp);
      mod_panel = scratch.take<T>(f.mods_.panel_size());
      sums = scratch.take<T>(f.mod_gradients_.task_sums());
      row_values = scratch.take<T>(kTile);
      d_k_sum = scratch.take<T>(f.p_.score_mod.scales ? f.group_ * kTile * dp : 0);
      k = scratch.take<Op>(f.group_ * kTile * d);
      v = scratch.take<Op>(f.group_ * kTile * dv);
      if constexpr (kDepth == 1) {
        tile.q_depth = q;
        tile.d_o_depth = d_o;
        tile.p_rows = tile.p;
        tile.d_s_rows = tile.d_s_depth = tile.d_s;
      } else {
        tile.q_depth = scratch.take<Op>(kTile * dp * kParts);
        tile.d_o_depth = scratch.take<Op>(kTile * dvp * kParts);
        tile.p_rows = scratch.take<Op>(kTile * kRowStride<Op>);
        tile.d_s_rows = scratch.take<Op>(kTile * kRowStride<Op>);
        tile.d_s_depth = scratch.take<Op>(kTile * kRowStride<Op>);
        k_columns = scratch.take<Op>(f.group_ * kTile * d);
      }
    }
    Scratch scratch;
    Op *q, *d_o;
    T* d_q;        ///< [64, padded D] row-major
    T *d_k, *d_v;  ///< [group · 64, padded]
    Op *k, *v;     ///< copied keys and values
    Op* k_columns = nullptr;
    T *mod_panel, *sums;  ///< sums: those of ScoreModGradients
    T* row_values;        ///< [64]
    T* d_k_sum;           ///< as d_k: of the heads before, where each has a scale of its own
    BackwardTile<Op> tile;
    ScoreModTile<T> mod;
    std::array<KeyTile<Op>, kMaxGroup> keys;
    KeyLanes lanes;
  };

  size_t scratch_bytes() const {
    const size_t d = panel_dim<Op>(n_.head_dim), dv = panel_dim<Op>(n_.value_dim);
    const size_t group = static_cast<size_t>(group_);
    const size_t dp = padded(n_.head_dim), dvp = padded(n_.value_dim);
    const size_t operands =
        2 * kParts * (dp + dvp) + d + dv + 3 * kRowStride<Op> + group * (2 * d + dv);
    const size_t sums = dp + panel_dim<T>(n_.head_dim) + 2 * kLaneStride + group * (dp + dvp);
    return Scratch::bytes_of<Op>(kTile * operands) + Scratch::bytes_of<T>(kTile * sums) +
           Scratch::bytes_of<T>(mods_.panel_size()) +
           Scratch::bytes_of<T>(mod_gradients_.task_sums()) + Scratch::bytes_of<T>(kTile) +
           Scratch::bytes_of<T>(p_.score_mod.scales ? group * kTile * dp : 0);
  }

  /// A task: one key head of one batch element, or all that share the gradient of a bias.
  void run_unit(int64_t step, int64_t unit) {
    const int64_t head_units = n_.kv_heads / unit_heads_;
    const int64_t b = unit / head_units * unit_batch_, head = unit % head_units * unit_heads_;
    const kernels::MatrixUnitScope scope(kernels_);
    State state(*this);
    for (int64_t i = 0; i < unit_batch_ * unit_heads_; ++i) {
      run_group(step, b + i / unit_heads_, head + i % unit_heads_, state);
    }
  }

  void run_group(int64_t step, int64_t b, int64_t kv_head, State& state) {
    const int64_t first = group_of_step(step, groups_) * group_;
    const int count = static_cast<int>(std::min<int64_t>(group_, n_.k_tiles - first));
    const int dp = padded(n_.head_dim), dvp = padded(n_.value_dim);
    const bool scales = p_.score_mod.scales != nullptr;
    std::fill_n(state.d_k, group_ * kTile * dp, T{0});
    std::fill_n(state.d_v, group_ * kTile * dvp, T{0});
    if (scales) std::fill_n(state.d_k_sum, group_ * kTile * dp, T{0});
    load_keys(b, kv_head, first, count, state);
    for (int64_t h = kv_head * n_.group; h < (kv_head + 1) * n_.group; ++h) {
      walk_queries(b, h, step, first, count, state);
      if (scales) move_scaled(static_cast<T>(score_scale(p_, h)), group_ * kTile * dp, state);
    }
    for (int i = 0; i < count; ++i) {
      const int rows = n_.keys_of(first + i);
      T* d_k = (scales ? state.d_k_sum : state.d_k) + i * kTile * dp;
      if (const T* inverse = mods_.key_scales(b, kv_head, first + i)) {
        pull_back(state.keys[i].k, state.keys[i].k_stride, inverse, rows, n_.head_dim, d_k, dp,
                  state.row_values);
      }
      kernels_.store_rows(
          d_k, dp, rows, n_.head_dim, scales ? T{1} : static_cast<T>(score_scale(p_, 0)),
          row(grad_.d_k, b, kv_head, first + i), grad_.d_k.dtype, grad_.d_k.strides[2]);
      kernels_.store_rows(state.d_v + i * kTile * dvp, dvp, rows, n_.value_dim, T{1},
                          row(grad_.d_v, b, kv_head, first + i), grad_.d_v.dtype,
                          grad_.d_v.strides[2]);
    }
  }

  /// d_k_sum += scale · d_k, d_k = 0.
  static void move_scaled(T scale, int64_t size, State& state) {
    for (int64_t i = 0; i < size; ++i) {
      state.d_k_sum[i] += scale * state.d_k[i];
      state.d_k[i] = 0;
    }
  }

  void load_keys(int64_t b, int64_t kv_head, int64_t first, int count, State& state) const {
    for (int i = 0; i < count; ++i) {
      KeyTile<Op>& keys = state.keys[i];
      const int64_t t = first + i;
      keys.first_key = static_cast<uint32_t>(t * kTile);
      keys.rows = n_.keys_of(t);
      keys.scales = mods_.key_scales(b, kv_head, t);
      const auto d = static_cast<int64_t>(panel_dim<Op>(n_.head_dim));
      const auto dv = static_cast<int64_t>(panel_dim<Op>(n_.value_dim));
      const auto [k, k_stride] = operand_rows(kernels_, p_.k, row(p_.k, b, kv_head, t), keys.rows,
                                              state.k + i * kTile * d);
      const auto [v, v_stride] = operand_rows(kernels_, p_.v, row(p_.v, b, kv_head, t), keys.rows,
                                              state.v + i * kTile * dv);
      keys.k = keys.k_columns = k;
      keys.v = v;
      keys.k_stride = keys.k_columns_stride = k_stride;
      keys.v_stride = v_stride;
      if constexpr (kDepth > 1) {
        Op* k_columns = state.k_columns + i * kTile * d;
        keys.k_columns = k_columns;
        keys.k_columns_stride =
            kernels_.pack_columns(k, k_stride, keys.rows, n_.head_dim, k_columns);
      }
    }
  }

  void walk_queries(int64_t b, int64_t h, int64_t step, int64_t first, int count, State& state) {
    const BlockPlan& plan = p_.plans->plan(b, h);
    const Turns& order = turns(b, h);
    const int32_t* turn = order.turn.data() + order.begin[static_cast<size_t>(step)];
    BackwardTile<Op>& tile = state.tile;
    tile.dropout = dropout_of(p_, b, h);
    std::fill_n(state.sums, mod_gradients_.task_sums(), T{0});
    const bool by_query = mod_gradients_.by_query();
    if (!by_query) mod_gradients_.clear_bias(b, h, 0, 1, first, count);
    int64_t next = 0;  // query tile after the last one that was visited
    GroupWalk walk(plan, first, count);
    for (int32_t t; (t = walk.tile()) != TileCursor::kEnd; ++turn, next = t + 1) {
      load_queries(b, h, t, state);
      tile.mod = mods_.fill(b, h, t, tile.rows, state.mod_panel, &state.mod);
      mod_gradients_.begin_queries(b, h, t, state.sums, &state.mod);
      if (by_query) mod_gradients_.clear_bias(b, h, next, t, first, count);
      prefetch_rows(p_.q, b, h, t + 1);
      prefetch_rows(grad_.d_o, b, h, t + 1);
      kernels_.backward_begin(tile);
      for (int i = 0; i < count; ++i) {
        TileCursor& cursor = walk.cursor(i);
        const bool full = cursor.tile() == t && cursor.run().kind == TileKind::kFull;
        mod_gradients_.begin_keys(b, h, t, first + i, full, &state.mod);
        for (; cursor.tile() == t; cursor.next()) {
          KeyTile<Op>& keys = state.keys[i];
          if (set_visible(plan, cursor.run(), tile.rows, &state.lanes, &keys)) {
            kernels_.backward_keys(tile, keys, state.d_k + i * kTile * tile.dim_stride,
                                   state.d_v + i * kTile * tile.value_stride);
          }
        }
      }
      add_d_q(b, h, t, *turn, order.adders[static_cast<size_t>(t)], state);
    }
    if (by_query) mod_gradients_.clear_bias(b, h, next, n_.q_tiles, first, count);
    mod_gradients_.flush_sums(b, h, step, state.sums);
  }

  /// Queries and dO of a tile, row-major, with dead rows zero: a row that sees nothing may hold
  /// anything.
  void load_queries(int64_t b, int64_t h, int64_t t, State& state) const {
    const int64_t index = (b * n_.heads + h) * n_.q_tiles + t;
    BackwardTile<Op>& tile = state.tile;
    tile.rows = n_.rows_of(t);
    tile.head_dim = n_.head_dim;
    tile.value_dim = n_.value_dim;
    tile.dim_stride = padded(n_.head_dim);
    tile.value_stride = padded(n_.value_dim);
    tile.scale = static_cast<T>(tile_scale(p_, h));
    tile.first_query = static_cast<uint32_t>(t * kTile);
    tile.lse2 = lse2_.data() + index * kTile;
    tile.delta = delta_.data() + index * kTile;
    load_live_rows(p_.q, b, h, t, tile, state.q, tile.dim_stride * kParts);
    load_live_rows(grad_.d_o, b, h, t, tile, state.d_o, tile.value_stride * kParts);
  }

  /// The next query tile is on its way from memory while this one is worked on.
  void prefetch_rows(const TensorView& view, int64_t b, int64_t h, int64_t t) const {
    if (t >= n_.q_tiles) return;
    const int64_t row_bytes = view.strides[2] * size_of(view.dtype);
    const int64_t used_bytes = view.shape[3] * size_of(view.dtype);
    const char* src = static_cast<const char*>(row(view, b, h, t));
    for (int r = 0; r < n_.rows_of(t); ++r, src += row_bytes) {
      for (int64_t i = 0; i < used_bytes; i += 64) __builtin_prefetch(src + i, 0, 2);
    }
  }

  // Measured and left out: reading f32 rows in place where they are contiguous and aligned. What
  // the copy costs is the cache misses, which the products then take (AMD EPYC Zen 4, 2026-11-21).
  void load_live_rows(const TensorView& view, int64_t b, int64_t h, int64_t t,
                      const BackwardTile<Op>& tile, Op* dst, int ld) const {
    const auto dead = [&](int r) { return tile.lse2[r] == kInfinity; };
    const int dim = static_cast<int>(view.shape[3]);
    const int64_t row_bytes = view.strides[2] * size_of(view.dtype);
    const char* src = static_cast<const char*>(row(view, b, h, t));
    for (int r = 0; r < kTile;) {
      int end = r + 1;  // rows [r, end) are all dead or all live
      while (end < kTile && dead(end) == dead(r)) ++end;
      Op* out = dst + static_cast<ptrdiff_t>(r) * ld;
      if (dead(r)) {
        std::fill_n(out, (end - r) * ld, Op{});
      } else {
        kernels_.load_rows(src + r * row_bytes, view.dtype, view.strides[2], end - r, end - r, dim,
                           out, ld);
      }
      r = end;
    }
  }

  /// Adds the tile's d_q_t to the shared sum when `turn` others have; the last of `adders` writes
  /// the result.
  void add_d_q(int64_t b, int64_t h, int64_t t, int32_t turn, int32_t adders, State& state) {
    const size_t index = static_cast<size_t>((b * n_.heads + h) * n_.q_tiles + t);
    std::atomic<int32_t>& added = added_[index];
    const BackwardTile<Op>& tile = state.tile;
    T* sum = tile.d_q_t;
    if (adders > 1) {
      sum = d_q_.data() + index * d_q_size();
      for (int spins = 0; added.load(std::memory_order_acquire) != turn;) {
        if (++spins > 64) std::this_thread::yield();
      }
      if (turn == 0) {
        std::copy_n(tile.d_q_t, d_q_size(), sum);
      } else {
        kernels_.add(sum, tile.d_q_t, static_cast<int64_t>(d_q_size()));
      }
      if (turn + 1 < adders) {
        added.store(turn + 1, std::memory_order_release);
        return;
      }
    }
    kernels_.transpose(sum, kLaneStride, n_.head_dim, kTile, T{1}, state.d_q, tile.dim_stride);
    if (p_.score_mod.cosine || grad_.d_scales) {
      pull_back(state.q, tile.dim_stride * kParts, mods_.query_scales(b, h, t), tile.rows,
                n_.head_dim, state.d_q, tile.dim_stride, state.row_values);
      mod_gradients_.add_scale(static_cast<int64_t>(index), tile.rows, state.row_values);
    }
    kernels_.store_rows(state.d_q, tile.dim_stride, tile.rows, n_.head_dim,
                        static_cast<T>(score_scale(p_, h)), row(grad_.d_q, b, h, t),
                        grad_.d_q.dtype, grad_.d_q.strides[2]);
  }

  static constexpr T kInfinity = std::numeric_limits<T>::infinity();

  const AttentionProblem& p_;
  const AttentionOutputs& out_;
  const AttentionGradients& grad_;
  const AttentionKernels<Op>& kernels_;
  const Sizes n_;
  const ScoreModTiles<T> mods_;
  ScoreModGradients<T> mod_gradients_;
  const int64_t unit_batch_, unit_heads_;  ///< batch elements and key heads of a task
  const int group_;
  const int64_t groups_;
  std::map<const BlockPlan*, Turns> turns_;
  AlignedBuffer<T> lse2_, delta_;            ///< [B · Hq · q_tiles, 64]
  AlignedBuffer<T> d_q_;                     ///< [B · Hq · q_tiles, D, 64], when groups add
  std::vector<std::atomic<int32_t>> added_;  ///< [B · Hq · q_tiles] groups that have added
};

}  // namespace

template <typename Op>
void run_backward(const AttentionProblem& problem, const AttentionOutputs& outputs,
                  const AttentionGradients& gradients, const AttentionKernels<Op>& kernels) {
  Backward<Op>(problem, outputs, gradients, kernels).run();
}

template void run_backward(const AttentionProblem&, const AttentionOutputs&,
                           const AttentionGradients&, const AttentionKernels<float>&);
template void run_backward(const AttentionProblem&, const AttentionOutputs&,
                           const AttentionGradients&, const AttentionKernels<double>&);
template void run_backward(const AttentionProblem&, const AttentionOutputs&,
                           const AttentionGradients&, const AttentionKernels<BFloat16>&);
template void run_backward(const AttentionProblem&, const AttentionOutputs&,
                           const AttentionGradients&, const AttentionKernels<SplitBf16>&);

}  // namespace fovea
