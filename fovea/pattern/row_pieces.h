#pragma once

#include <cstdint>
#include <vector>

#include "fovea/pattern/pattern.h"

namespace fovea {

// Beyond every position; sums of a few do not overflow.
constexpr int64_t kNoBound = int64_t{1} << 40;

// Query row r of [r0, r1) sees keys [max(lo, r + a), min(hi, r + b)), which is never empty.
//
// Every pattern is a list of pieces, which may overlap, and the common part of two pieces is a
// piece: a whole tile row is evaluated at once, and a window is one piece however wide.
struct RowPiece {
  int64_t r0, r1;
  int64_t lo, hi;
  int64_t a, b;

  int64_t lower(int64_t r) const { return lo > r + a ? lo : r + a; }
  int64_t upper(int64_t r) const { return hi < r + b ? hi : r + b; }

  // Drops the rows at either end that see nothing; false when no row is left. Exact, because the
  // width min(hi, r + b) - max(lo, r + a) is concave in r.
  bool tighten();
};

// Pieces of query rows [q0, q1) of the scope, in no particular order.
std::vector<RowPiece> row_pieces(const Pattern& pattern, const PatternScope& scope, int64_t q0,
                                 int64_t q1);

}  // namespace fovea
