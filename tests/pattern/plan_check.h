#pragma once

#include <algorithm>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "fovea/pattern/block_plan.h"

namespace fovea::testing {

/// Marks of one tile in a dense [q_len, kv_len] count of visits.
inline void mark_tile(const BlockPlan& plan, const TileRun& run, int64_t q_tile, int64_t k_tile,
                      std::vector<int>& dense) {
  for (int r = 0; r < kTile; ++r) {
    const int64_t q = q_tile * kTile + r;
    if (q >= plan.q_len()) break;
    for (int c = 0; c < kTile; ++c) {
      const int64_t k = k_tile * kTile + c;
      if (k >= plan.kv_len()) break;
      bool seen = false;
      switch (run.kind) {
        case TileKind::kFull:
          seen = true;
          break;
        case TileKind::kBanded: {
          const Band& b = plan.band(run.mask);
          seen = c >= std::max(b.lo, r + b.a) && c < std::min(b.hi, r + b.b);
          break;
        }
        case TileKind::kInterval: {
          const RowIntervals& i = plan.row_intervals(run.mask);
          seen = c >= i.lo[r] && c < i.hi[r];
          break;
        }
        case TileKind::kBitmap:
          seen = plan.bitmap(run.mask).rows[r] >> c & 1;
          break;
      }
      dense[q * plan.kv_len() + k] += seen;
    }
  }
}

/// Checks both views of the plan, its order, its counts and its masks against `allows`.
inline void expect_plan_is_pattern(const Pattern& pattern, const PatternScope& scope) {
  SCOPED_TRACE(pattern.to_string() + " " + std::to_string(scope.q_len) + "x" +
               std::to_string(scope.kv_len) +
               (scope.alignment == Alignment::kTopLeft ? " top-left" : ""));
  const auto plan = build_plan(pattern, scope);
  const int64_t pairs = scope.q_len * scope.kv_len;
  std::vector<int> expected(pairs), by_query(pairs), by_key(pairs);
  int64_t allowed = 0;
  for (int64_t q = 0; q < scope.q_len; ++q) {
    for (int64_t k = 0; k < scope.kv_len; ++k) {
      allowed += expected[q * scope.kv_len + k] = pattern.allows(scope, q, k);
    }
  }
  BlockPlan::Counts counts;
  for (int64_t t = 0; t < plan->q_tiles(); ++t) {
    int64_t next = 0, live = 0;
    for (const TileRun& run : plan->keys_of(t)) {
      ASSERT_GE(run.first, next);
      ASSERT_GE(run.count, 1);
      ASSERT_LE(run.first + run.count, plan->k_tiles());
      if (run.kind != TileKind::kFull) {
        ASSERT_EQ(run.count, 1);
      }
      for (int64_t c = run.first; c < run.first + run.count; ++c) {
        mark_tile(*plan, run, t, c, by_query);
      }
      next = run.first + run.count;
      live += run.count;
      (run.kind == TileKind::kFull       ? counts.full
       : run.kind == TileKind::kBanded   ? counts.banded
       : run.kind == TileKind::kInterval ? counts.interval
                                         : counts.bitmap) += run.count;
    }
    ASSERT_EQ(plan->live_tiles(t), live);
  }
  for (int64_t c = 0; c < plan->k_tiles(); ++c) {
    int64_t next = 0;
    for (const TileRun& run : plan->queries_of(c)) {
      ASSERT_GE(run.first, next);
      ASSERT_LE(run.first + run.count, plan->q_tiles());
      for (int64_t t = run.first; t < run.first + run.count; ++t) {
        mark_tile(*plan, run, t, c, by_key);
      }
      next = run.first + run.count;
    }
  }
  ASSERT_EQ(by_query, expected);
  ASSERT_EQ(by_key, expected);
  ASSERT_EQ(plan->counts().pairs, allowed);
  for (const int64_t first : {int64_t{0}, scope.q_len / 3}) {
    std::vector<int64_t> keys(scope.q_len - first), wanted;
    plan->aligned_keys(first, static_cast<int>(keys.size()), keys.data());
    for (int64_t q = first; q < scope.q_len; ++q) wanted.push_back(pattern.aligned_key(scope, q));
    ASSERT_EQ(keys, wanted);
  }
  ASSERT_EQ(plan->counts().full, counts.full);
  ASSERT_EQ(plan->counts().banded, counts.banded);
  ASSERT_EQ(plan->counts().interval, counts.interval);
  ASSERT_EQ(plan->counts().bitmap, counts.bitmap);
  ASSERT_EQ(plan->counts().empty, plan->q_tiles() * plan->k_tiles() - counts.full - counts.banded -
                                      counts.interval - counts.bitmap);
}

}  // namespace fovea::testing
