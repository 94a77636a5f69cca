#include "fovea/attention/decode.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <new>
#include <utility>
#include <vector>

#include "fovea/attention/call_report.h"
#include "fovea/attention/conditions.h"
#include "fovea/attention/launch.h"
#include "fovea/attention/scratch.h"
#include "fovea/kernels/attention/engine.h"

namespace fovea {
namespace {

using kernels::AttentionKernels;
using kernels::ForwardTile;
using kernels::kDecodeKeys;
using kernels::kDepthOf;
using kernels::KeyTile;
using kernels::kLaneStride;
using kernels::kPartsOf;
using kernels::kRowStride;
using kernels::SumOf;

/// Key tiles of a span: the unit of parallel work, and of the sums that are joined at the end.
/// Where the sequences and heads alone are enough work for many cores, the keys stay whole.
constexpr int64_t kSpanTiles = 16, kEnoughTasks = 64;

/// Lanes [begin, end).
uint64_t lane_range(int64_t begin, int64_t end) {
  const auto below = [](int64_t n) { return n >= 64 ? ~uint64_t{0} : (uint64_t{1} << n) - 1; };
  return begin < end ? below(end) & ~below(begin) : 0;
}

/// Rows of queries that share a key head: row r is query r / group of head r % group. A tile of
/// them, [first, first + rows), walks the spans of key tiles [begin, end).
struct RowTile {
  int64_t batch, kv_head, first;
  int rows;
  int64_t begin, end;         ///< key tiles that any of its rows sees
  int64_t first_span, spans;  ///< its place among all spans, and how many are its own
};

template <typename Op>
class Decode {
  using T = SumOf<Op>;

 public:
  Decode(const DecodeProblem& problem, const TensorView& o, const TensorView& lse,
         const AttentionKernels<Op>& kernels)
      : p_(problem), o_(o), lse_(lse), kernels_(kernels) {
    for (int64_t b = 0; b < p_.q.shape[0]; ++b) {
      for (int64_t h = 0; h < p_.cache.k.shape[1]; ++h) {
        for (int64_t first = 0; first < group_ * q_len_; first += kTile) {
          tiles_.push_back(row_tile(b, h, first));
        }
      }
    }
    const bool whole = static_cast<int64_t>(tiles_.size()) >= kEnoughTasks;
    for (RowTile& tile : tiles_) {
      tile.first_span = static_cast<int64_t>(tasks_.size());
      tile.spans = whole ? 1 : (tile.end - tile.begin + kSpanTiles - 1) / kSpanTiles;
      tile.spans = std::max<int64_t>(tile.spans, 1);
      joins_ |= tile.spans > 1;
      for (int64_t s = 0; s < tile.spans; ++s) tasks_.push_back({&tile, s});
    }
    if (joins_) {
      part_o_ = AlignedBuffer<T>(tasks_.size() * kTile * static_cast<size_t>(value_dim_));
      part_lse_ = AlignedBuffer<T>(tasks_.size() * kTile);
    }
  }

  /// Sizes, with the longest sequence, and the key tiles that are read.
  std::string describe() const {
    int64_t longest = 0, key_tiles = 0;
    for (int64_t b = 0; b < p_.q.shape[0]; ++b) {
      longest = std::max<int64_t>(longest, p_.lengths[b]);
    }
    for (const RowTile& tile : tiles_) key_tiles += tile.end - tile.begin;
    std::string text = sizes_text(p_.q.shape[0], p_.q.shape[1], p_.cache.k.shape[1], q_len_,
                                  longest, head_dim_, value_dim_, p_.q.dtype) +
                       "_decode";
    if (p_.window > 0) text += "_causal" + std::to_string(p_.window);
    return text + " tiles " + std::to_string(key_tiles);
  }

  void run() {
    double keys = 0;
    for (const RowTile& tile : tiles_) keys += static_cast<double>(tile.end - tile.begin) * kTile;
    const double flop = 4 * 16 * keys * (head_dim_ + value_dim_);  // as if 16 lanes were used
    run_tasks(static_cast<int64_t>(tasks_.size()), flop, [&](int64_t i) {
      const Task& task = tasks_[static_cast<size_t>(i)];
      attend(*task.tile, task.span);
    });
    if (!joins_) return;
    run_tasks(static_cast<int64_t>(tiles_.size()), flop / 1e3,
              [&](int64_t i) { join(tiles_[static_cast<size_t>(i)]); });
  }

 private:
  struct Task {
    const RowTile* tile;
    int64_t span;
  };

  /// Positions [begin, end) that row r sees.
  std::pair<int64_t, int64_t> visible(const RowTile& tile, int64_t r) const {
    const int64_t end = p_.lengths[tile.batch] - q_len_ + (tile.first + r) / group_ + 1;
    const int64_t begin = p_.window > 0 ? end - p_.window : 0;
    return {std::max<int64_t>(begin, 0), std::max<int64_t>(end, 0)};
  }

  RowTile row_tile(int64_t b, int64_t h, int64_t first) const {
    RowTile tile{b, h, first, 0, 0, 0, 0, 0};
    tile.rows = static_cast<int>(std::min<int64_t>(kTile, group_ * q_len_ - first));
    tile.begin = visible(tile, 0).first / kTile;
    tile.end = std::max(tile.begin, (visible(tile, tile.rows - 1).second + kTile - 1) / kTile);
    return tile;
  }

  struct State {
    State(const Decode& f, size_t bytes) : scratch(bytes) {
      const size_t d = panel_dim<Op>(f.head_dim_), dv = panel_dim<Op>(f.value_dim_);
      const size_t dv_sum = panel_dim<T>(f.value_dim_);
      q = scratch.take<Op>(kTile * d);
      o = scratch.take<T>(kTile * dv_sum);
      lse = scratch.take<T>(kTile);
      k = scratch.take<Op>(kTile * d);
      v = scratch.take<Op>(kTile * dv);
      tile.scores = scratch.take<T>(kTile * kLaneStride);
      if constexpr (kDepthOf<Op> == 1) {
        tile.p = tile.scores;
      } else {
        tile.p = scratch.take<Op>(kTile * kRowStride<Op>);
        v_columns = scratch.take<Op>(kTile * dv);
      }
      tile.q_t = scratch.take<Op>(d * kLaneStride);
      tile.o_t = scratch.take<T>(dv_sum * kLaneStride);
      tile.row_max = scratch.take<T>(kTile);
      tile.row_sum = scratch.take<T>(kTile);
    }
    Scratch scratch;
    Op *q, *k, *v, *v_columns = nullptr;
    T *o, *lse;
    ForwardTile<Op> tile;
    uint64_t lanes[kTile];
  };

  size_t scratch_bytes() const {
    const size_t d = panel_dim<Op>(head_dim_), dv = panel_dim<Op>(value_dim_);
    const size_t dv_sum = panel_dim<T>(value_dim_);
    return 2 * Scratch::bytes_of<Op>(kTile * d) + 2 * Scratch::bytes_of<Op>(kTile * dv) +
           Scratch::bytes_of<T>(kTile * dv_sum) + Scratch::bytes_of<T>(kTile) +
           Scratch::bytes_of<T>(kTile * kLaneStride) +
           Scratch::bytes_of<Op>(kTile * kRowStride<Op>) + Scratch::bytes_of<Op>(d * kLaneStride) +
           Scratch::bytes_of<T>(dv_sum * kLaneStride) + 2 * Scratch::bytes_of<T>(kTile);
  }

  void attend(const RowTile& tile, int64_t span) const {
    const int64_t first = tile.begin + span * kSpanTiles;
    const int64_t end = tile.spans > 1 ? std::min(tile.end, first + kSpanTiles) : tile.end;
    if (few_) return attend_few(tile, span, first * kTile, end * kTile);
    const kernels::MatrixUnitScope scope(kernels_);
    State state(*this, scratch_bytes());
    begin(tile, state);
    for (int64_t t = first; t < end; ++t) {
      KeyTile<Op> keys{};
      const int64_t position = load_keys(tile, t, state, &keys);
      if (set_visible(tile, position, state, &keys)) kernels_.forward_keys(state.tile, keys);
    }
    if (tile.spans > 1) {
      const int64_t at = (tile.first_span + span) * kTile;
      kernels_.forward_end(state.tile, part_o_.data() + at * value_dim_, value_dim_,
                           part_lse_.data() + at);
    } else {
      kernels_.forward_end(state.tile, state.o, value_dim_, state.lse);
      store(tile, state.o, state.lse);
    }
  }

  /// One query of each head of a group: they see the same positions, read in their storage type.
  void attend_few(const RowTile& tile, int64_t span, int64_t first, int64_t end) const {
    const auto rows = static_cast<size_t>(tile.rows);
    const size_t d = head_dim_, dv = value_dim_;
    Scratch scratch(Scratch::bytes_of<T>(rows * d) + Scratch::bytes_of<T>(rows * dv) +
                    Scratch::bytes_of<T>(rows * kDecodeKeys) + 3 * Scratch::bytes_of<T>(rows));
    T* q = scratch.take<T>(rows * d);
    T* scores = scratch.take<T>(rows * kDecodeKeys);
    T* o = scratch.take<T>(rows * dv);
    T* row_max = scratch.take<T>(rows);
    T* row_sum = scratch.take<T>(rows);
    T* lse = scratch.take<T>(rows);
    const kernels::DecodeTile<T> few = {tile.rows, head_dim_, value_dim_, q,
                                        scores,    o,         row_max,    row_sum};
    std::fill_n(few.o, rows * dv, T{0});
    std::fill_n(few.row_max, rows, -std::numeric_limits<T>::infinity());
    std::fill_n(few.row_sum, rows, T{0});
    for (int r = 0; r < tile.rows; ++r) scale_query(tile, r, q + static_cast<size_t>(r) * d);

    const auto [seen, seen_end] = visible(tile, 0);
    end = std::min(end, seen_end);
    for (int64_t position = std::max(first, seen); position < end;) {
      const auto [k, k_follow] = row_of(p_.cache.k, tile, position);
      const auto [v, v_follow] = row_of(p_.cache.v, tile, position);
      const int64_t count = std::min({int64_t{kDecodeKeys}, end - position, k_follow, v_follow});
      kernels::CacheRows rows_of_tile = {k,
                                         v,
                                         p_.cache.k.strides[2],
                                         p_.cache.v.strides[2],
                                         p_.cache.k.dtype,
                                         static_cast<int>(count)};
      if (quantised_) {
        rows_of_tile.k_scales = scale_of(p_.cache.k_scales, tile, position);
        rows_of_tile.v_scales = scale_of(p_.cache.v_scales, tile, position);
        rows_of_tile.k_scale_stride = p_.cache.k_scales.strides[2];
        rows_of_tile.v_scale_stride = p_.cache.v_scales.strides[2];
      }
      kernels_.decode_keys(few, rows_of_tile);
      position += count;
    }
    for (size_t r = 0; r < rows; ++r) {
      const T sum = few.row_sum[r];
      lse[r] = static_cast<T>(few.row_max[r] / kLog2E) + std::log(sum);
      for (size_t i = 0; i < dv && sum != 0; ++i) few.o[r * dv + i] /= sum;
    }
    if (tile.spans == 1) return store(tile, few.o, lse);
    const int64_t at = (tile.first_span + span) * kTile;
    std::copy_n(few.o, rows * dv, part_o_.data() + at * value_dim_);
    std::copy_n(lse, rows, part_lse_.data() + at);
  }

  T scale() const {
    const double scale = p_.scale != 0 ? p_.scale : 1 / std::sqrt(static_cast<double>(head_dim_));
    return static_cast<T>(scale * kLog2E);
  }

  void scale_query(const RowTile& tile, int64_t r, T* out) const {
    const auto [head, query] = place(tile, r);
    const TensorView& q = p_.q;
    for (int i = 0; i < head_dim_; ++i) {
      T x;
      if (q.dtype == DType::kBF16) {
        x = static_cast<float>(q.row<BFloat16>(tile.batch, head, query)[i]);
      } else if (q.dtype == DType::kF16) {
        x = static_cast<float>(q.row<Float16>(tile.batch, head, query)[i]);
      } else {
        x = q.row<T>(tile.batch, head, query)[i];
      }
      out[i] = x * scale();
    }
  }

  void begin(const RowTile& tile, State& state) const {
    const int ld = head_dim_ * kPartsOf<Op>;
    for (int r = 0; r < tile.rows; ++r) {
      const auto [head, query] = place(tile, r);
      const TensorView& q = p_.q;
      const void* source =
          static_cast<const char*>(q.data) +
          (tile.batch * q.strides[0] + head * q.strides[1] + query * q.strides[2]) *
              size_of(q.dtype);
      kernels_.load_rows(source, q.dtype, q.strides[2], 1, r + 1 < tile.rows ? 1 : kTile - r,
                         head_dim_, state.q + r * ld, ld);
    }
    ForwardTile<Op>& t = state.tile;
    t.rows = tile.rows;
    t.head_dim = head_dim_;
    t.value_dim = value_dim_;
    t.scale = scale();
    t.first_query = 0;
    t.dropout = {};
    t.mod = nullptr;
    kernels_.forward_begin(t, state.q, ld);
  }

  /// Head and query of a row.
  std::pair<int64_t, int64_t> place(const RowTile& tile, int64_t r) const {
    const int64_t row = tile.first + r;
    return {tile.kv_head * group_ + row % group_, row / group_};
  }

  /// Address of the row that holds a position, and how many positions follow in rows after it.
  std::pair<const char*, int64_t> row_of(const TensorView& x, const RowTile& tile,
                                         int64_t position) const {
    const KvCache& cache = p_.cache;
    const int64_t capacity = x.shape[2];
    int64_t block = tile.batch, row = position;
    if (cache.block_table) {
      block = cache.block_table[tile.batch * cache.blocks + position / capacity];
      row = position % capacity;
    } else if (cache.ring) {
      row = position % capacity;
    }
    const int64_t offset = block * x.strides[0] + tile.kv_head * x.strides[1] + row * x.strides[2];
    return {static_cast<const char*>(x.data) + offset * size_of(x.dtype), capacity - row};
  }

  const float* scale_of(const TensorView& scales, const RowTile& tile, int64_t position) const {
    return reinterpret_cast<const float*>(row_of(scales, tile, position).first);
  }

  /// Rows of `x` for positions [first, first + count), i8 rows times their scales; see
  /// operand_rows().
  OperandRows<Op> load(const TensorView& x, const TensorView& scales, const RowTile& tile,
                       int64_t first, int count, int dim, Op* panel) const {
    const auto [start, follow] = row_of(x, tile, first);
    if (follow >= count && !quantised_) return operand_rows(kernels_, x, start, count, panel);
    const int ld = row_size(kernels_, dim), whole = whole_steps(count, kernels_.step);
    for (int done = 0; done < count;) {
      const auto [source, rest] = row_of(x, tile, first + done);
      const int rows = static_cast<int>(std::min<int64_t>(rest, count - done));
      const int padded = done + rows == count ? whole - done : rows;
      kernels_.load_rows(source, x.dtype, x.strides[2], rows, padded, dim, panel + done * ld, ld);
      done += rows;
    }
    if constexpr (std::is_same_v<Op, float>) {
      for (int r = 0; quantised_ && r < count; ++r) {
        const float scale = *scale_of(scales, tile, first + r);
        for (int i = 0; i < dim; ++i) panel[r * ld + i] *= scale;
      }
    }
    return {panel, ld};
  }

  /// Loads the visible positions of key tile t; returns the position of row 0.
  int64_t load_keys(const RowTile& tile, int64_t t, State& state, KeyTile<Op>* keys) const {
    // Rows before the first visible position may be gone (ring) or their page given back; of the
    // matrix unit's step that it begins in, only `begin` and later count.
    const int64_t from = std::max(t * kTile, visible(tile, 0).first);
    const int64_t to = std::min((t + 1) * kTile, visible(tile, tile.rows - 1).second);
    keys->first_key = 0;
    keys->rows = keys->end = static_cast<int>(to - from);
    keys->begin = 0;
    keys->lanes = nullptr;
    const auto [k, k_stride] =
        load(p_.cache.k, p_.cache.k_scales, tile, from, keys->rows, head_dim_, state.k);
    const auto [v, v_stride] =
        load(p_.cache.v, p_.cache.v_scales, tile, from, keys->rows, value_dim_, state.v);
    keys->k = k;
    keys->v = keys->v_columns = v;
    keys->k_stride = k_stride;
    keys->v_stride = keys->v_columns_stride = v_stride;
    if constexpr (kDepthOf<Op> != 1) {
      keys->v_columns = state.v_columns;
      keys->v_columns_stride =
          kernels_.pack_columns(v, v_stride, keys->rows, value_dim_, state.v_columns);
    }
    return from;
  }

  /// Lane masks where not every row sees all of the keys from `position` on; false when none sees
  /// any.
  bool set_visible(const RowTile& tile, int64_t position, State& state, KeyTile<Op>* keys) const {
    const int64_t first_end = visible(tile, 0).second;
    const int64_t last_begin = visible(tile, tile.rows - 1).first;
    if (last_begin <= position && first_end >= position + keys->rows) return keys->rows > 0;
    const auto row_of_query = [&](int64_t i) {
      return std::clamp<int64_t>(i * group_ - tile.first, 0, tile.rows);
    };
    for (int c = 0; c < keys->rows; ++c) {
      // The key's own query, if that is among these, is the first that sees it.
      const int64_t query = position + c - (p_.lengths[tile.batch] - q_len_);
      const int64_t end = p_.window > 0 ? query + p_.window : q_len_;
      state.lanes[c] = lane_range(row_of_query(query), row_of_query(end));
    }
    while (keys->begin < keys->end && state.lanes[keys->begin] == 0) ++keys->begin;
    while (keys->begin < keys->end && state.lanes[keys->end - 1] == 0) --keys->end;
    keys->lanes = state.lanes;
    return keys->begin < keys->end;
  }

  void store(const RowTile& tile, const T* o, const T* lse) const {
    for (int r = 0; r < tile.rows; ++r) {
      const auto [head, query] = place(tile, r);
      char* target = static_cast<char*>(o_.data) +
                     (tile.batch * o_.strides[0] + head * o_.strides[1] + query * o_.strides[2]) *
                         size_of(o_.dtype);
      kernels_.store_rows(o + r * value_dim_, value_dim_, 1, value_dim_, T{1}, target, o_.dtype,
                          o_.strides[2]);
      *lse_.row<T>(tile.batch, head, query) = lse[r];
    }
  }

  /// o = Σ e^(lse_s - lse) o_s over the spans, lse = log Σ e^lse_s.
  void join(const RowTile& tile) const {
    if (tile.spans <= 1) return;
    State state(*this, scratch_bytes());
    const T* lse = part_lse_.data() + tile.first_span * kTile;
    const T* o = part_o_.data() + tile.first_span * kTile * value_dim_;
    for (int r = 0; r < tile.rows; ++r) {
      T max = -std::numeric_limits<T>::infinity();
      for (int64_t s = 0; s < tile.spans; ++s) max = std::max(max, lse[s * kTile + r]);
      T sum = 0;
      T* row = state.o + r * value_dim_;
      std::fill(row, row + value_dim_, T{0});
      state.lse[r] = max;
      if (max == -std::numeric_limits<T>::infinity()) continue;
      for (int64_t s = 0; s < tile.spans; ++s) {
        const T weight = std::exp(lse[s * kTile + r] - max);
        sum += weight;
        const T* part = o + (s * kTile + r) * value_dim_;
        for (int i = 0; i < value_dim_; ++i) row[i] += weight * part[i];
      }
      for (int i = 0; i < value_dim_; ++i) row[i] /= sum;
      state.lse[r] = max + std::log(sum);
    }
    store(tile, state.o, state.lse);
  }

  const DecodeProblem& p_;
  const TensorView &o_, &lse_;
  const AttentionKernels<Op>& kernels_;
  const int64_t q_len_ = p_.q.shape[2];
  const int64_t group_ = p_.q.shape[1] / p_.cache.k.shape[1];
  const int head_dim_ = static_cast<int>(p_.q.shape[3]);
  const int value_dim_ = static_cast<int>(p_.cache.v.shape[3]);
  const bool quantised_ = p_.cache.k.dtype == DType::kI8;
  const bool few_ = q_len_ == 1 && group_ <= kernels::kDecodeRows;
  std::vector<RowTile> tiles_;
  std::vector<Task> tasks_;
  bool joins_ = false;
  AlignedBuffer<T> part_o_, part_lse_;  ///< [spans, 64, Dv], [spans, 64]
};

/// Positions that the cache can hold for a sequence.
int64_t capacity_of(const KvCache& cache) {
  return cache.block_table ? cache.blocks * cache.k.shape[2] : cache.k.shape[2];
}

void expect_lengths(Conditions& c, const DecodeProblem& p) {
  if (!p.lengths) return c.add("lengths [B]", "none");
  const int64_t capacity = capacity_of(p.cache), q_len = p.q.shape[2];
  for (int64_t b = 0; b < p.q.shape[0]; ++b) {
    const int64_t length = p.lengths[b];
    const std::string found = std::to_string(length) + " for sequence " + std::to_string(b);
    if (length < 0) return c.add("lengths of 0 or more", found);
    if (!p.cache.ring && length > capacity) {
      return c.add("lengths up to the cache's " + std::to_string(capacity), found);
    }
    // The oldest position that the first query sees must not be overwritten.
    const int64_t reach = p.window > 0 ? std::min(length, p.window + q_len - 1) : length;
    if (p.cache.ring && reach > capacity) {
      return c.add("a ring of at least window + Sq - 1 = " + std::to_string(reach) + " positions",
                   std::to_string(capacity));
    }
    if (!p.cache.block_table) continue;
    const int64_t page_rows = p.cache.k.shape[2], pages = p.cache.k.shape[0];
    const int64_t oldest = p.window > 0 ? std::max<int64_t>(0, length - reach) : 0;
    for (int64_t i = oldest / page_rows; i * page_rows < length; ++i) {
      const int64_t page = p.cache.block_table[b * p.cache.blocks + i];
      if (page >= 0 && page < pages) continue;
      return c.add("pages below " + std::to_string(pages) + " in block_table",
                   std::to_string(page) + " for sequence " + std::to_string(b));
    }
  }
}

/// i8 rows have scales, others none.
void expect_scales(Conditions& c, const DecodeProblem& p) {
  const auto expect = [&](const char* name, const TensorView& scales, const TensorView& rows) {
    if (rows.dtype != DType::kI8) {
      if (!scales.empty()) c.add(std::string("no ") + name + " but for i8 rows", "some");
      return;
    }
    c.expect_data(name, scales);
    c.expect_type(name, scales, DType::kF32);
    c.expect_shape(name, scales, "as the rows", 3, rows.shape[0], rows.shape[1], rows.shape[2], 1);
  };
  expect("k_scales", p.cache.k_scales, p.cache.k);
  expect("v_scales", p.cache.v_scales, p.cache.v);
  if (p.cache.k.dtype == DType::kI8 && p.q.dtype == DType::kF64) {
    c.add("q of f32, bf16 or f16 with i8 rows", name_of(p.q.dtype));
  }
}

}  // namespace

std::vector<std::string> unmet_conditions(const DecodeProblem& p, const TensorView& o,
                                          const TensorView& lse) {
  Conditions c("attention_decode");
  const TensorView &q = p.q, &k = p.cache.k, &v = p.cache.v;
  const bool quantised = k.dtype == DType::kI8;
  c.expect_operands(q, k, v, quantised ? DType::kI8 : q.dtype);
  const bool paged = p.cache.block_table != nullptr;
  const char* layout = paged ? "[pages, Hkv, P, D]" : "[B, Hkv, C, D]";
  c.expect_shape("k", k, layout, 4, paged ? k.shape[0] : q.shape[0], k.shape[1], k.shape[2],
                 q.shape[3]);
  c.expect_shape("v", v, "like k but for the last extent", 4, k.shape[0], k.shape[1], k.shape[2],
                 v.shape[3]);
  if (k.shape[1] <= 0 || q.shape[1] % k.shape[1] != 0) {
    c.add("query heads a multiple of key heads",
          std::to_string(q.shape[1]) + " and " + std::to_string(k.shape[1]));
  }
  expect_scales(c, p);
  if (k.shape[2] < 1) c.add("a cache of at least one row", "none");
  if (paged && p.cache.ring) c.add("pages or a ring", "both");
  if (p.window < 0) c.add("window >= 0", std::to_string(p.window));
  if (!std::isfinite(p.scale)) c.add("a finite scale", std::to_string(p.scale));
  c.expect_data("o", o);
  c.expect_type("o", o, q.dtype);
  c.expect_shape("o", o, "[B, Hq, Sq, Dv]", 4, q.shape[0], q.shape[1], q.shape[2], v.shape[3]);
  c.expect_data("lse", lse);
  c.expect_type("lse", lse, q.dtype == DType::kF64 ? DType::kF64 : DType::kF32);
  c.expect_shape("lse", lse, "[B, Hq, Sq]", 3, q.shape[0], q.shape[1], q.shape[2], 1);
  std::vector<std::string> unmet = c.take();
  if (!unmet.empty()) return unmet;
  expect_lengths(c, p);
  return c.take();
}

Status attention_decode(const DecodeProblem& problem, const TensorView& o, const TensorView& lse) {
  if (const auto unmet = unmet_conditions(problem, o, lse); !unmet.empty()) return invalid(unmet);
  if (problem.q.shape[0] * problem.q.shape[1] * problem.q.shape[2] == 0) return {};
  try {
    // f32 at the highest precision: few queries wait for memory, not for products. So do i8 rows,
    // which have more digits than bf16 operands.
    const DType computed = problem.cache.k.dtype == DType::kI8 ? DType::kF32 : problem.q.dtype;
    const kernels::Engine& engine = kernels::engine_for(computed);
    engine.with_kernels(computed, Float32Precision::kHighest, [&](const auto& kernels) {
      Decode decode(problem, o, lse, kernels);
      const CallReport report(engine, [&] { return decode.describe(); });
      decode.run();
    });
  } catch (const std::bad_alloc&) {
    return {ErrorCode::kFailed, "attention_decode: no memory for the partial results"};
  } catch (const Error& error) {  // FOVEA_MAX_ISA names no instruction set
    return {error.code(), error.what()};
  }
  return {};
}

}  // namespace fovea
