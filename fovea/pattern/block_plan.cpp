// Plans are made one tile row at a time. The row's pieces (row_pieces.h) are swept from left to
// right: tiles that a piece covers become one run of full tiles by arithmetic; a tile that one
// piece cuts is a Band, or row intervals where the piece begins or ends inside the tile; a tile
// that several pieces meet is drawn as 64 words of bits and classified from them.
#include "fovea/pattern/block_plan.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "fovea/pattern/pattern_node.h"
#include "fovea/pattern/row_pieces.h"

namespace fovea {
namespace {

// Bits [lo, hi) of a word, 0 <= lo < hi <= 64.
uint64_t bit_range(int64_t lo, int64_t hi) { return (~uint64_t{0} >> (kTile - (hi - lo))) << lo; }

}  // namespace

class PlanBuilder {
 public:
  PlanBuilder(const Pattern& pattern, const PatternScope& scope)
      : pattern_(pattern), scope_(scope), plan_(std::make_shared<BlockPlan>()) {
    plan_->q_len_ = scope.q_len;
    plan_->kv_len_ = scope.kv_len;
  }

  std::shared_ptr<const BlockPlan> build() {
    BlockPlan& plan = *plan_;
    plan.query_begin_.reserve(plan.q_tiles() + 1);
    plan.query_begin_.push_back(0);
    for (int64_t t = 0; t < plan.q_tiles(); ++t) {
      row0_ = t * kTile;
      row1_ = std::min(row0_ + kTile, plan.q_len_);
      sweep(row_pieces(pattern_, scope_, row0_, row1_));
      plan.query_begin_.push_back(std::ssize(plan.by_query_));
    }
    make_key_view();
    make_row_shifts();
    BlockPlan::Counts& c = plan.counts_;
    c.empty = plan.q_tiles() * plan.k_tiles() - c.full - c.banded - c.interval - c.bitmap;
    plan.by_query_.shrink_to_fit();
    plan.bands_.shrink_to_fit();
    plan.row_intervals_.shrink_to_fit();
    plan.bitmaps_.shrink_to_fit();
    return plan_;
  }

 private:
  // Key tiles [first, end).
  struct TileRange {
    int64_t first = 0, end = 0;
    bool contains(int64_t c) const { return first <= c && c < end; }
  };
  // A piece with the key tiles it meets and, within them, those it covers.
  struct Swept {
    RowPiece piece;
    TileRange met, covered;
  };

  int64_t key_end(int64_t c) const { return std::min((c + 1) * kTile, plan_->kv_len_); }

  // Tiles that hold only keys of [lo, hi).
  TileRange tiles_within(int64_t lo, int64_t hi) const {
    return {(lo + kTile - 1) / kTile, hi >= plan_->kv_len_ ? plan_->k_tiles() : hi / kTile};
  }

  Swept swept(const RowPiece& p) const {
    // The bounds grow with the row, and rows' ranges overlap or touch, so no tile is skipped.
    Swept s{p, {p.lower(p.r0) / kTile, (p.upper(p.r1 - 1) + kTile - 1) / kTile}, {}};
    if (p.r0 == row0_ && p.r1 == row1_) s.covered = tiles_within(p.lower(p.r1 - 1), p.upper(p.r0));
    return s;
  }

  // Tiles covered by pieces that share the rows among them, each row in one: `intervals`.
  TileRange covered_together(const std::vector<RowPiece>& pieces) const {
    uint64_t rows = 0;
    int64_t lo = 0, hi = plan_->kv_len_;
    for (const RowPiece& p : pieces) {
      const uint64_t own = bit_range(p.r0 - row0_, p.r1 - row0_);
      if (rows & own) return {};
      rows |= own;
      lo = std::max(lo, p.lower(p.r1 - 1));
      hi = std::min(hi, p.upper(p.r0));
    }
    return rows == bit_range(0, row1_ - row0_) ? tiles_within(lo, hi) : TileRange{};
  }

  void sweep(const std::vector<RowPiece>& pieces) {
    std::vector<Swept>& all = swept_;
    all.clear();
    for (const RowPiece& p : pieces) all.push_back(swept(p));
    std::sort(all.begin(), all.end(),
              [](const Swept& x, const Swept& y) { return x.met.first < y.met.first; });
    const TileRange together = covered_together(pieces);
    std::vector<const Swept*>& active = active_;
    active.clear();
    size_t next = 0;
    int64_t c = 0;
    while (true) {
      while (next < all.size() && all[next].met.first <= c) active.push_back(&all[next++]);
      std::erase_if(active, [&](const Swept* s) { return s->met.end <= c; });
      if (active.empty()) {
        if (next == all.size()) return;
        c = all[next].met.first;
        continue;
      }
      const auto covers = [&](const Swept* s) { return s->covered.contains(c); };
      const auto full = std::find_if(active.begin(), active.end(), covers);
      if (full != active.end() || together.contains(c)) {
        const int64_t end = full != active.end() ? (*full)->covered.end : together.end;
        add_full(c, end);
        c = end;
        continue;
      }
      if (active.size() == 1) {
        add_cut(active[0]->piece, c);
      } else {
        add_drawn(active, c);
      }
      ++c;
    }
  }

  void add_full(int64_t first, int64_t end) {
    std::vector<TileRun>& runs = plan_->by_query_;
    const bool begins_row = std::ssize(runs) == plan_->query_begin_.back();
    if (!begins_row && runs.back().kind == TileKind::kFull &&
        runs.back().first + runs.back().count == first) {
      runs.back().count += static_cast<int32_t>(end - first);
    } else {
      runs.push_back(
          {static_cast<int32_t>(first), static_cast<int32_t>(end - first), TileKind::kFull, -1});
    }
    plan_->counts_.full += end - first;
    plan_->counts_.pairs += (row1_ - row0_) * (key_end(end - 1) - first * kTile);
  }

  // Index of an equal mask among the last few, or of a new one: regular patterns repeat theirs.
  template <typename Mask>
  static int32_t index_of(std::vector<Mask>& masks, const Mask& mask) {
    constexpr int64_t kRecent = 8;
    const int64_t size = std::ssize(masks);
    for (int64_t i = size - 1; i >= std::max<int64_t>(0, size - kRecent); --i) {
      if (std::memcmp(&masks[i], &mask, sizeof(Mask)) == 0) return static_cast<int32_t>(i);
    }
    masks.push_back(mask);
    return static_cast<int32_t>(size);
  }

  void add_run(int64_t c, TileKind kind, int32_t mask) {
    plan_->by_query_.push_back({static_cast<int32_t>(c), 1, kind, mask});
  }

  void add_band(int64_t c, const Band& band) {
    for (int32_t r = 0; r < row1_ - row0_; ++r) {
      const int32_t lo = std::max(band.lo, r + band.a), hi = std::min(band.hi, r + band.b);
      plan_->counts_.pairs += std::max(hi - lo, 0);
    }
    ++plan_->counts_.banded;
    add_run(c, TileKind::kBanded, index_of(plan_->bands_, band));
  }

  void add_intervals(int64_t c, const RowIntervals& intervals) {
    for (int r = 0; r < kTile; ++r) {
      plan_->counts_.pairs += std::max(intervals.hi[r] - intervals.lo[r], 0);
    }
    ++plan_->counts_.interval;
    add_run(c, TileKind::kInterval, index_of(plan_->row_intervals_, intervals));
  }

  // A tile that only `p` meets and does not cover.
  void add_cut(const RowPiece& p, int64_t c) {
    RowPiece cut = p;
    cut.lo = std::max(p.lo, c * kTile);
    cut.hi = std::min(p.hi, key_end(c));
    if (!cut.tighten()) return;
    // Rows that the four integers alone would let see something.
    RowPiece band_rows = cut;
    band_rows.r0 = row0_;
    band_rows.r1 = row1_;
    band_rows.tighten();
    const int64_t k0 = c * kTile;
    if (band_rows.r0 == cut.r0 && band_rows.r1 == cut.r1) {
      const auto within = [](int64_t x) {
        return static_cast<int32_t>(std::clamp<int64_t>(x, -kTile, kTile));
      };
      add_band(c, {static_cast<int32_t>(cut.lo - k0), static_cast<int32_t>(cut.hi - k0),
                   within(row0_ + cut.a - k0), within(row0_ + cut.b - k0)});
      return;
    }
    RowIntervals intervals{};
    for (int64_t r = cut.r0; r < cut.r1; ++r) {
      intervals.lo[r - row0_] = static_cast<uint8_t>(cut.lower(r) - k0);
      intervals.hi[r - row0_] = static_cast<uint8_t>(cut.upper(r) - k0);
    }
    add_intervals(c, intervals);
  }

  // A tile that several pieces may meet.
  void add_drawn(const std::vector<const Swept*>& active, int64_t c) {
    Bitmap bits{};
    const RowPiece* only = nullptr;
    int met = 0;
    for (const Swept* s : active) {
      RowPiece cut = s->piece;
      cut.lo = std::max(cut.lo, c * kTile);
      cut.hi = std::min(cut.hi, key_end(c));
      if (!cut.tighten()) continue;
      ++met;
      only = &s->piece;
      for (int64_t r = cut.r0; r < cut.r1; ++r) {
        bits.rows[r - row0_] |= bit_range(cut.lower(r) - c * kTile, cut.upper(r) - c * kTile);
      }
    }
    if (met == 1) {
      add_cut(*only, c);
    } else if (met > 1) {
      add_bits(c, bits);
    }
  }

  void add_bits(int64_t c, const Bitmap& bits) {
    const int rows = static_cast<int>(row1_ - row0_);
    const uint64_t whole = bit_range(0, key_end(c) - c * kTile);
    RowIntervals intervals{};
    bool full = true, one_range = true;
    for (int r = 0; r < rows; ++r) {
      const uint64_t row = bits.rows[r];
      full = full && row == whole;
      if (row == 0) continue;
      intervals.lo[r] = static_cast<uint8_t>(std::countr_zero(row));
      intervals.hi[r] = static_cast<uint8_t>(kTile - std::countl_zero(row));
      one_range = one_range && row == bit_range(intervals.lo[r], intervals.hi[r]);
    }
    Band band;
    if (full) {
      add_full(c, c + 1);
    } else if (one_range && fits_band(intervals, rows, band)) {
      add_band(c, band);
    } else if (one_range) {
      add_intervals(c, intervals);
    } else {
      for (uint64_t row : bits.rows) plan_->counts_.pairs += std::popcount(row);
      ++plan_->counts_.bitmap;
      add_run(c, TileKind::kBitmap, index_of(plan_->bitmaps_, bits));
    }
  }

  // The band through the first and last seeing rows, if it is right for every row.
  static bool fits_band(const RowIntervals& rows, int count, Band& band) {
    int first = 0, last = count - 1;
    while (rows.hi[first] == 0) ++first;
    while (rows.hi[last] == 0) --last;
    band = {kTile, 0, -kTile, kTile};
    for (int r = first; r <= last; ++r) {
      band.lo = std::min<int32_t>(band.lo, rows.lo[r]);
      band.hi = std::max<int32_t>(band.hi, rows.hi[r]);
    }
    if (rows.lo[last] > band.lo) band.a = rows.lo[last] - last;
    if (rows.hi[first] < band.hi) band.b = rows.hi[first] - first;
    for (int r = 0; r < count; ++r) {
      const int32_t lo = std::max(band.lo, r + band.a), hi = std::min(band.hi, r + band.b);
      if (rows.hi[r] == 0 ? lo < hi : lo != rows.lo[r] || hi != rows.hi[r]) return false;
    }
    return true;
  }

  // The view by key tile. Full tiles are followed down the rows: only columns where a row's full
  // runs differ from those of the row above open or close a run, so `full` costs one run a column.
  void make_key_view() {
    BlockPlan& plan = *plan_;
    struct Entry {
      int64_t column;
      TileRun run;
    };
    std::vector<Entry> entries;
    std::vector<int32_t> open(plan.k_tiles());
    const auto is_full = [](const TileRun& run) { return run.kind == TileKind::kFull; };
    // Calls f for the columns of the full runs of `x` that are in none of `y`.
    const auto for_difference = [&](std::span<const TileRun> x, std::span<const TileRun> y,
                                    auto f) {
      size_t j = 0;
      for (const TileRun& run : x) {
        if (!is_full(run)) continue;
        const int64_t end = run.first + run.count;
        for (int64_t c = run.first; c < end;) {
          while (j < y.size() && (!is_full(y[j]) || y[j].first + y[j].count <= c)) ++j;
          const int64_t covered = j < y.size() ? std::max<int64_t>(y[j].first, c) : end;
          for (; c < std::min(covered, end); ++c) f(c);
          if (c < end) c = std::min<int64_t>(end, y[j].first + y[j].count);
        }
      }
    };
    std::span<const TileRun> above;
    for (int64_t t = 0; t <= plan.q_tiles(); ++t) {
      const auto runs = t < plan.q_tiles() ? plan.keys_of(t) : std::span<const TileRun>{};
      for_difference(above, runs, [&](int64_t c) {
        entries.push_back({c, {open[c], static_cast<int32_t>(t) - open[c], TileKind::kFull, -1}});
      });
      for_difference(runs, above, [&](int64_t c) { open[c] = static_cast<int32_t>(t); });
      for (const TileRun& run : runs) {
        if (is_full(run)) continue;
        entries.push_back({run.first, {static_cast<int32_t>(t), 1, run.kind, run.mask}});
      }
      above = runs;
    }
    // Entries of a column are already in ascending order: nothing else happens in a column while a
    // full run is open there. A counting sort by column keeps that order.
    plan.key_begin_.assign(plan.k_tiles() + 1, 0);
    for (const Entry& e : entries) ++plan.key_begin_[e.column + 1];
    for (int64_t c = 0; c < plan.k_tiles(); ++c) plan.key_begin_[c + 1] += plan.key_begin_[c];
    std::vector<int64_t> at(plan.key_begin_.begin(), plan.key_begin_.end());
    plan.by_key_.resize(entries.size());
    for (const Entry& e : entries) plan.by_key_[at[e.column]++] = e.run;
  }

  // One entry, or one for each document.
  void make_row_shifts() {
    std::vector<BlockPlan::RowShift>& shifts = plan_->row_shifts_;
    const auto add = [&](int64_t row) {
      if (row >= scope_.q_len) return;
      const int64_t shift = pattern_.aligned_key(scope_, row) - row;
      if (shifts.empty() || shifts.back().shift != shift) shifts.push_back({row, shift});
    };
    add(0);
    if (!pattern_.uses_segments()) return;
    for (const int32_t begin : scope_.inputs->cu_seqlens_q) add(begin);
    shifts.shrink_to_fit();
  }

  const Pattern& pattern_;
  const PatternScope& scope_;
  std::shared_ptr<BlockPlan> plan_;
  int64_t row0_ = 0, row1_ = 0;  // query rows of the tile row being planned
  std::vector<Swept> swept_;
  std::vector<const Swept*> active_;
};

void BlockPlan::aligned_keys(int64_t first, int count, int64_t* keys) const {
  auto next = std::upper_bound(row_shifts_.begin(), row_shifts_.end(), first,
                               [](int64_t row, const RowShift& s) { return row < s.first_row; });
  for (int64_t row = first; row < first + count; ++row) {
    if (next != row_shifts_.end() && next->first_row == row) ++next;
    *keys++ = row + std::prev(next)->shift;
  }
}

int64_t BlockPlan::live_tiles(int64_t t) const {
  int64_t tiles = 0;
  for (const TileRun& run : keys_of(t)) tiles += run.count;
  return tiles;
}

int64_t BlockPlan::bytes() const {
  const auto bytes_of = [](const auto& v) {
    return static_cast<int64_t>(v.capacity() * sizeof(v[0]));
  };
  return static_cast<int64_t>(sizeof(BlockPlan)) + bytes_of(by_query_) + bytes_of(by_key_) +
         bytes_of(query_begin_) + bytes_of(key_begin_) + bytes_of(bands_) +
         bytes_of(row_intervals_) + bytes_of(bitmaps_) + bytes_of(row_shifts_);
}

std::shared_ptr<const BlockPlan> build_plan(const Pattern& pattern, const PatternScope& scope) {
  // One batch element of however many key_lengths says; heads that do not divide are PlanSet's to
  // refuse.
  const int64_t lengths = scope.inputs ? std::ssize(scope.inputs->key_lengths) : 0;
  throw_if_unmet(pattern, pattern.unmet(scope, std::max(lengths, scope.batch + 1), 0));
  return PlanBuilder(pattern, scope).build();
}

}  // namespace fovea
