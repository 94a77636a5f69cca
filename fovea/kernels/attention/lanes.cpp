#include "fovea/kernels/attention/lanes.h"

#include <algorithm>

namespace fovea::kernels {
namespace {

/// Bits [lo, hi) of a word, 0 <= lo, hi <= 64.
uint64_t bit_range(int lo, int hi) {
  if (lo >= hi) return 0;
  const uint64_t below_hi = hi >= 64 ? ~uint64_t{0} : (uint64_t{1} << hi) - 1;
  return below_hi & ~((uint64_t{1} << lo) - 1);
}

/// Transposes a 64x64 bit matrix in place: swaps ever smaller off-diagonal blocks (Hacker's
/// Delight, §7-3).
void transpose_bits(uint64_t* m) {
  uint64_t mask = 0x00000000FFFFFFFFu;
  for (int size = 32; size > 0; size >>= 1, mask ^= mask << size) {
    for (int r = 0; r < 64; r = ((r | size) + 1) & ~size) {
      const uint64_t swap = ((m[r] >> size) ^ m[r | size]) & mask;
      m[r] ^= swap << size;
      m[r | size] ^= swap;
    }
  }
}

}  // namespace

void fill_key_lanes(const BlockPlan& plan, const TileRun& run, int rows, int cols, KeyLanes* out) {
  uint64_t* lanes = out->lanes;
  switch (run.kind) {
    case TileKind::kFull:
      for (int c = 0; c < kTile; ++c) lanes[c] = bit_range(0, rows);
      break;
    case TileKind::kBanded: {
      // Row r sees max(lo, r + a) <= c < min(hi, r + b), so column c is seen by
      // c - b < r <= c - a.
      const Band band = plan.band(run.mask);
      for (int c = 0; c < kTile; ++c) {
        const bool inside = c >= band.lo && c < band.hi;
        const int first = std::clamp(c - band.b + 1, 0, rows);
        const int last = std::clamp(c - band.a + 1, 0, rows);
        lanes[c] = inside ? bit_range(first, last) : 0;
      }
      break;
    }
    case TileKind::kInterval: {
      const RowIntervals& intervals = plan.row_intervals(run.mask);
      for (int r = 0; r < kTile; ++r) {
        lanes[r] = r < rows ? bit_range(intervals.lo[r], intervals.hi[r]) : 0;
      }
      transpose_bits(lanes);
      break;
    }
    case TileKind::kBitmap: {
      const Bitmap& bitmap = plan.bitmap(run.mask);
      for (int r = 0; r < kTile; ++r) lanes[r] = r < rows ? bitmap.rows[r] : 0;
      transpose_bits(lanes);
      break;
    }
  }
  int begin = 0, end = cols;
  while (begin < end && lanes[begin] == 0) ++begin;
  while (end > begin && lanes[end - 1] == 0) --end;
  out->begin = begin;
  out->end = end;
}

}  // namespace fovea::kernels
