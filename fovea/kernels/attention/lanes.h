#pragma once

#include <cstdint>

#include "fovea/pattern/block_plan.h"

namespace fovea::kernels {

/// Which queries see which key of a partial tile, the one form that every engine masks with: bit r
/// of `lanes[c]` is set when query row r sees key column c. Rows [begin, end) are the keys that
/// any query sees; begin == end when none.
struct KeyLanes {
  uint64_t lanes[kTile];
  int begin, end;
};

/// Fills `out` from the mask of `run` (not kFull) for a tile of `rows` queries and `cols` keys.
void fill_key_lanes(const BlockPlan& plan, const TileRun& run, int rows, int cols, KeyLanes* out);

}  // namespace fovea::kernels
