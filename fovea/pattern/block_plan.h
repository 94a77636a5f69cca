#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "fovea/pattern/pattern.h"

namespace fovea {

/// Rows and columns of a tile; one size for every engine, so a plan never depends on the machine.
constexpr int kTile = 64;

/// How much of a tile's existing pairs (rows < q_len, keys < kv_len) may attend.
enum class TileKind : uint8_t {
  kFull,      ///< all of them: no mask work
  kBanded,    ///< `Band`: four integers
  kInterval,  ///< `RowIntervals`: one key range for each row
  kBitmap,    ///< `Bitmap`: one bit for each pair
};

/// Row r of the tile sees its columns [max(lo, r + a), min(hi, r + b)), all within [0, 64).
struct Band {
  int32_t lo, hi, a, b;
  friend bool operator==(const Band&, const Band&) = default;
};

/// Row r of the tile sees its columns [lo[r], hi[r]); empty when lo >= hi.
struct RowIntervals {
  uint8_t lo[kTile], hi[kTile];
};

/// Row r of the tile sees column c when bit c of rows[r] is set.
struct Bitmap {
  uint64_t rows[kTile];
};

/// Consecutive tiles of one row (by-query view: key tiles) or column (by-key view: query tiles).
struct TileRun {
  int32_t first;  ///< first tile
  int32_t count;  ///< tiles; more than one only for kFull
  TileKind kind;
  int32_t mask;  ///< index into bands(), row_intervals() or bitmaps(); -1 for kFull
};

/// The tiles that a pattern leaves alive, for one scope: what kernels walk. Masks are always in
/// (query row, key column) orientation, in both views. A tile appears once, or once for each of
/// several disjoint masks; a pair is in exactly one. Runs of a row are ascending in `first`.
/// Immutable and shared by heads, layers, steps and threads.
class BlockPlan {
 public:
  int64_t q_len() const { return q_len_; }
  int64_t kv_len() const { return kv_len_; }
  int64_t q_tiles() const { return (q_len_ + kTile - 1) / kTile; }
  int64_t k_tiles() const { return (kv_len_ + kTile - 1) / kTile; }

  /// Key tiles that query tile `t` visits.
  std::span<const TileRun> keys_of(int64_t t) const { return row(by_query_, query_begin_, t); }
  /// Query tiles that visit key tile `t`.
  std::span<const TileRun> queries_of(int64_t t) const { return row(by_key_, key_begin_, t); }

  const Band& band(int32_t i) const { return bands_[i]; }
  const RowIntervals& row_intervals(int32_t i) const { return row_intervals_[i]; }
  const Bitmap& bitmap(int32_t i) const { return bitmaps_[i]; }

  /// Key rows that queries [first, first + count) stand at: Pattern::aligned_key of each.
  void aligned_keys(int64_t first, int count, int64_t* keys) const;

  /// Tiles visited by query tile `t`, the unit of work that schedules balance.
  int64_t live_tiles(int64_t t) const;

  struct Counts {
    int64_t pairs = 0;                                       ///< allowed (query, key) pairs
    int64_t full = 0, banded = 0, interval = 0, bitmap = 0;  ///< tile visits of each kind
    int64_t empty = 0;  ///< tiles of the grid that are not visited
  };
  const Counts& counts() const { return counts_; }

  /// Memory held by the plan.
  int64_t bytes() const;

 private:
  friend class PlanBuilder;  // block_plan.cpp
  static std::span<const TileRun> row(const std::vector<TileRun>& runs,
                                      const std::vector<int64_t>& begin, int64_t t) {
    return {runs.data() + begin[t], runs.data() + begin[t + 1]};
  }
  /// Queries from `first_row` on stand at key row + shift, up to the next entry.
  struct RowShift {
    int64_t first_row, shift;
  };
  int64_t q_len_ = 0, kv_len_ = 0;
  std::vector<RowShift> row_shifts_;
  std::vector<TileRun> by_query_, by_key_;
  std::vector<int64_t> query_begin_, key_begin_;  // [tiles + 1]
  std::vector<Band> bands_;
  std::vector<RowIntervals> row_intervals_;
  std::vector<Bitmap> bitmaps_;
  Counts counts_;
};

/// Builds the plan of `pattern` in `scope`. Patterns made of intervals (windows, causal, chunks,
/// segments, lengths, and their unions and intersections with globals) take time linear in the live
/// tiles; the others ask about each block or pair. Throws InputError for what `unmet` lists.
std::shared_ptr<const BlockPlan> build_plan(const Pattern& pattern, const PatternScope& scope);

/// Plans of every (batch element, head) of a problem; elements share a plan where they can.
class PlanSet {
 public:
  /// Builds the plans, or takes them from a small process-wide cache (keyed by canonical text,
  /// lengths, alignment and the contents of the inputs).
  static PlanSet build(const Pattern& pattern, int64_t batch, int64_t heads, int64_t q_len,
                       int64_t kv_len, Alignment alignment = Alignment::kBottomRight,
                       const PatternInputs& inputs = {});

  const BlockPlan& plan(int64_t batch, int64_t head) const {
    return *plans_[batch * batch_stride_ + head * head_stride_];
  }
  /// Distinct plans; one when neither batch nor head matters.
  std::span<const std::shared_ptr<const BlockPlan>> plans() const { return plans_; }
  bool empty() const { return plans_.empty(); }
  /// Allowed pairs over all batch elements and heads: 4·pairs·D is the forward's work.
  int64_t pairs(int64_t batch, int64_t heads) const;

 private:
  std::vector<std::shared_ptr<const BlockPlan>> plans_;
  int64_t batch_stride_ = 0, head_stride_ = 0;
};

}  // namespace fovea
