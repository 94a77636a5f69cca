#pragma once

#include <cstdint>
#include <vector>

#include "fovea/pattern/pattern.h"

namespace fovea {

// Query row r of [r0, r1) sees keys [max(lo, r + a), min(hi, r + b)), which is never empty.
//
// Every pattern is a list of disjoint pieces, and pieces are closed under intersection and
// difference, so unions and intersections are computed on a whole tile row at once: a window is one
// piece however wide, a union with global(1) three.
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

// Disjoint pieces of query rows [q0, q1) of the scope, in no particular order. The head's pattern
// must have no per_head left (node_of_head) or scope.head set.
std::vector<RowPiece> row_pieces(const Pattern& pattern, const PatternScope& scope, int64_t q0,
                                 int64_t q1);

}  // namespace fovea
