// Plans of whole problems: what is shared, what the cache is keyed by, and kinds of tiles.
#include <thread>

#include "tests/pattern/plan_check.h"
#include <gmock/gmock.h>

#include "fovea/core/status.h"

namespace fovea {
namespace {

using testing::expect_plan_is_pattern;
using ::testing::HasSubstr;

BlockPlan::Counts counts_of(const std::string& text, int64_t q_len, int64_t kv_len) {
  PatternScope scope;
  scope.q_len = q_len;
  scope.kv_len = kv_len;
  return build_plan(Pattern::parse(text), scope)->counts();
}

TEST(BlockPlan, KindsOfTiles) {
  // 3 x 3 tiles with a tail of 2 rows and keys.
  const auto full = counts_of("full", 130, 130);
  EXPECT_EQ(full.full, 9);
  EXPECT_EQ(full.pairs, 130 * 130);
  const auto causal = counts_of("causal", 130, 130);
  EXPECT_EQ(causal.full, 3);
  EXPECT_EQ(causal.banded, 3);
  EXPECT_EQ(causal.empty, 3);
  const auto window = counts_of("window(64,64)", 640, 640);
  EXPECT_EQ(window.full, 10);
  EXPECT_EQ(window.banded, 18);
  EXPECT_EQ(window.interval + window.bitmap, 0);
  // Rows of two chunks meet in a tile: row intervals.
  EXPECT_EQ(counts_of("chunked(32)", 64, 64).interval, 1);
  EXPECT_EQ(counts_of("chunked(64)", 128, 128).full, 2);
  EXPECT_EQ(counts_of("dilated(10,10,2)", 64, 64).bitmap, 1);
  // Joins that fill or straighten a tile are seen as such.
  EXPECT_EQ(counts_of("window(63,0)|window(0,63)", 64, 64).full, 1);
  EXPECT_EQ(counts_of("window(5,0)|window(0,63)", 64, 64).banded, 1);
  EXPECT_EQ(counts_of("global(1)|full", 200, 200).full, 16);
  EXPECT_EQ(counts_of("window(3,5)|window(9,2)", 300, 300).interval, 0);
}

TEST(BlockPlan, RunsOfFullTilesAreOne) {
  PatternScope scope;
  scope.q_len = scope.kv_len = 1 << 20;
  const auto plan = build_plan(Pattern(), scope);
  ASSERT_EQ(plan->keys_of(0).size(), 1u);
  EXPECT_EQ(plan->keys_of(16383)[0].count, 16384);
  ASSERT_EQ(plan->queries_of(5).size(), 1u);
  EXPECT_EQ(plan->queries_of(5)[0].count, 16384);
  EXPECT_EQ(plan->counts().pairs, int64_t{1} << 40);
  const auto causal = build_plan(Pattern::parse("causal"), scope);
  EXPECT_EQ(causal->queries_of(5).size(), 2u);
  EXPECT_EQ(causal->counts().pairs, (int64_t{1} << 19) * ((int64_t{1} << 20) + 1));
  EXPECT_LT(causal->bytes(), 4 << 20);
}

TEST(BlockPlan, IntervalsOfManyRowsAreFullTogether) {
  // Causal as intervals: the same tiles as the pattern, full runs and bands included.
  for (int n : {64, 130, 640}) {
    std::vector<int32_t> intervals;
    for (int q = 0; q < n; ++q) intervals.insert(intervals.end(), {0, q + 1});
    PatternInputs inputs;
    inputs.intervals = intervals;
    const PatternScope scope{n, n, Alignment::kBottomRight, 0, 0, &inputs};
    const auto plan = build_plan(Pattern::parse("intervals"), scope);
    const auto causal = build_plan(Pattern::parse("causal"), scope);
    EXPECT_EQ(plan->counts().full, causal->counts().full);
    EXPECT_EQ(plan->counts().banded, causal->counts().banded);
    EXPECT_EQ(plan->counts().pairs, causal->counts().pairs);
    EXPECT_EQ(plan->keys_of(plan->q_tiles() - 1).size(),
              causal->keys_of(plan->q_tiles() - 1).size());
    // One row that sees nothing leaves no tile full.
    intervals[2 * (n - 1) + 1] = 0;
    EXPECT_EQ(build_plan(Pattern::parse("intervals"), scope)->keys_of(plan->q_tiles() - 1)[0].kind,
              TileKind::kInterval);
    expect_plan_is_pattern(Pattern::parse("intervals"), scope);
  }
}

TEST(BlockPlan, AMillionTokensOfWindowAreSmall) {
  PatternScope scope;
  scope.q_len = scope.kv_len = 1 << 20;
  const auto plan = build_plan(Pattern::parse("window(128,128)"), scope);
  const int64_t n = 1 << 20;
  EXPECT_EQ(plan->counts().pairs, 257 * n - 128 * 129);
  EXPECT_LT(plan->bytes(), 4 << 20);
}

TEST(BlockPlan, EmptyProblems) {
  EXPECT_EQ(counts_of("full", 0, 100).pairs, 0);
  EXPECT_EQ(counts_of("causal|global(1)", 100, 0).pairs, 0);
  EXPECT_EQ(counts_of("neighbourhood(3)", 0, 0).pairs, 0);
}

TEST(BlockPlan, HugeNumbersDoNotOverflow) {
  for (const char* text :
       {"window(2147483647,2147483647)", "dilated(2147483647,2147483647,2147483647)",
        "dilated(2147483647,2147483647,1)", "chunked(2147483647)",
        "block_neighbours(2147483647,2147483647,2147483647)", "block_ring(2147483646)",
        "neighbourhood(2147483647)", "global(2147483647)", "global_tokens(2147483647)",
        "random_blocks(2147483647,2147483647,9223372036854775807)"}) {
    for (auto [q_len, kv_len] : {std::pair<int64_t, int64_t>{70, 70}, {70, 30}, {30, 70}}) {
      expect_plan_is_pattern(Pattern::parse(text),
                             {q_len, kv_len, Alignment::kBottomRight, 0, 0, nullptr});
    }
  }
}

TEST(BlockPlan, ManyPiecesGoRowByRow) {
  // More pairs of pieces than are joined at once.
  for (const char* text : {"dilated(200,200,2)|dilated(200,200,3)",
                           "dilated(200,200,2)&dilated(200,200,3)|window(2,0)",
                           "(dilated(150,150,2)|window(30,9))&dilated(199,199,1)",
                           "(window(30,9)|dilated(150,150,2)|intervals)&dilated(199,199,1)",
                           "dilated(199,3,1)&dilated(150,150,2)"}) {
    std::vector<int32_t> intervals;
    for (int q = 0; q < 190; ++q) intervals.insert(intervals.end(), {q * 37 % 190, q * 53 % 200});
    PatternInputs inputs;
    inputs.intervals = intervals;
    expect_plan_is_pattern(Pattern::parse(text),
                           {190, 190, Alignment::kBottomRight, 0, 0, &inputs});
  }
}

TEST(BlockPlan, RefusesUnmetScopes) {
  PatternScope scope;
  scope.q_len = scope.kv_len = 10;
  EXPECT_THROW(build_plan(Pattern::parse("segments"), scope), InputError);
  EXPECT_THROW(build_plan(Pattern::parse("causal&intervals"), scope), InputError);
  scope.kv_len = -1;
  EXPECT_THROW(build_plan(Pattern(), scope), InputError);
}

TEST(PlanSet, OnePlanWhenNeitherBatchNorHeadMatters) {
  const auto set = PlanSet::build(Pattern::parse("window(3)"), 5, 8, 100, 100);
  EXPECT_EQ(set.plans().size(), 1u);
  EXPECT_EQ(&set.plan(0, 0), &set.plan(4, 7));
  EXPECT_EQ(set.pairs(5, 8), 40 * set.plan(0, 0).counts().pairs);
  const auto again = PlanSet::build(Pattern::parse(" window( 3,3 )"), 2, 1, 100, 100);
  EXPECT_EQ(&set.plan(0, 0), &again.plan(1, 0));  // from the cache
  const auto other = PlanSet::build(Pattern::parse("window(3)"), 5, 8, 100, 101);
  EXPECT_NE(&set.plan(0, 0), &other.plan(0, 0));
  const auto top = PlanSet::build(Pattern::parse("window(3)"), 5, 8, 100, 101, Alignment::kTopLeft);
  EXPECT_NE(&top.plan(0, 0), &other.plan(0, 0));
}

TEST(PlanSet, HeadsShareByText) {
  const auto set =
      PlanSet::build(Pattern::parse("per_head(causal,full)&window(9)"), 2, 4, 100, 100);
  const auto causal = PlanSet::build(Pattern::parse("causal&window(9)"), 1, 1, 100, 100);
  EXPECT_EQ(&set.plan(0, 0), &set.plan(1, 2));
  EXPECT_EQ(&set.plan(0, 1), &set.plan(1, 3));
  EXPECT_EQ(&set.plan(0, 0), &causal.plan(0, 0));
  EXPECT_NE(&set.plan(0, 0), &set.plan(0, 1));
  EXPECT_EQ(set.pairs(2, 4), 4 * (set.plan(0, 0).counts().pairs + set.plan(0, 1).counts().pairs));
}

TEST(PlanSet, KeyLengthsPlanEachBatchElement) {
  std::vector<int32_t> lengths = {70, 10, 70};
  PatternInputs inputs;
  inputs.key_lengths = lengths;
  const Pattern pattern = Pattern::parse("causal&key_lengths");
  const auto set = PlanSet::build(pattern, 3, 2, 80, 80, Alignment::kBottomRight, inputs);
  EXPECT_EQ(&set.plan(0, 0), &set.plan(2, 1));
  EXPECT_NE(&set.plan(0, 0), &set.plan(1, 0));
  for (int64_t b = 0; b < 3; ++b) {
    int64_t pairs = 0;
    for (int64_t q = 0; q < 80; ++q) pairs += std::min<int64_t>(q + 1, lengths[b]);
    EXPECT_EQ(set.plan(b, 0).counts().pairs, pairs);
    expect_plan_is_pattern(pattern, {80, 80, Alignment::kBottomRight, b, 0, &inputs});
  }
}

TEST(PlanSet, CacheLooksAtTheContentOfInputs) {
  const Pattern pattern = Pattern::parse("segments&causal");
  std::vector<int32_t> cu = {0, 30, 100};
  PatternInputs inputs;
  inputs.cu_seqlens_q = inputs.cu_seqlens_k = cu;
  const auto a = PlanSet::build(pattern, 1, 1, 100, 100, Alignment::kBottomRight, inputs);
  const int64_t pairs = a.plan(0, 0).counts().pairs;
  EXPECT_EQ(pairs, 30 * 31 / 2 + 70 * 71 / 2);
  cu[1] = 50;  // the same address, another batch
  const auto b = PlanSet::build(pattern, 1, 1, 100, 100, Alignment::kBottomRight, inputs);
  EXPECT_EQ(b.plan(0, 0).counts().pairs, 50 * 51);
  EXPECT_EQ(a.plan(0, 0).counts().pairs, pairs);
  cu[1] = 30;
  const auto c = PlanSet::build(pattern, 1, 1, 100, 100, Alignment::kBottomRight, inputs);
  EXPECT_EQ(&c.plan(0, 0), &a.plan(0, 0));
}

TEST(PlanSet, CacheLooksAtEveryInput) {
  // Two batches that differ in one tensor have different pairs.
  std::vector<int32_t> intervals = {0, 1, 0, 2}, tokens = {0};
  std::vector<uint8_t> mask = {1, 0, 0, 0};
  const auto pairs = [&](const char* text) {
    PatternInputs inputs;
    inputs.intervals = intervals;
    inputs.global_tokens = tokens;
    inputs.block_mask = mask;
    inputs.block_mask_columns = 2;
    return PlanSet::build(Pattern::parse(text), 1, 1, 2, 2, Alignment::kBottomRight, inputs)
        .plan(0, 0)
        .counts()
        .pairs;
  };
  EXPECT_EQ(pairs("intervals"), 3);
  intervals[3] = 1;
  EXPECT_EQ(pairs("intervals"), 2);
  EXPECT_EQ(pairs("block_mask(1)"), 1);
  mask[3] = 1;
  EXPECT_EQ(pairs("block_mask(1)"), 2);
  EXPECT_EQ(pairs("global_tokens"), 3);
  tokens = {0, 1};
  EXPECT_EQ(pairs("global_tokens"), 4);
}

TEST(PlanSet, BlockMasksOfOtherShapeAreOtherPlans) {
  const std::vector<uint8_t> mask = {1, 0, 0, 1, 1, 0};
  PatternInputs inputs;
  inputs.block_mask = mask;
  inputs.block_mask_columns = 3;
  const Pattern pattern = Pattern::parse("block_mask(2)");
  const auto a = PlanSet::build(pattern, 1, 1, 4, 6, Alignment::kBottomRight, inputs);
  EXPECT_EQ(a.plan(0, 0).counts().pairs, 12);
  inputs.block_mask_columns = 2;
  EXPECT_THROW(PlanSet::build(pattern, 1, 1, 4, 6, Alignment::kBottomRight, inputs), InputError);
}

TEST(PlanSet, NamesEveryUnmetCondition) {
  try {
    PlanSet::build(Pattern::parse("per_head(full,intervals,causal)"), 1, 4, 10, 10);
    FAIL();
  } catch (const InputError& error) {
    EXPECT_THAT(error.what(), HasSubstr("per_head(full,intervals,causal)"));
    EXPECT_THAT(error.what(), HasSubstr("multiple of the 3 patterns"));
    EXPECT_THAT(error.what(), HasSubstr("expected intervals [10, 2]"));
  }
}

TEST(PlanSet, ManyPlansAndThreads) {
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([t] {
      for (int round = 0; round < 3; ++round) {
        for (int64_t n = 1; n < 120; ++n) {  // more than the cache holds
          const int64_t len = (n * 7 + t) % 120 + 1;
          const auto set = PlanSet::build(Pattern::parse("causal"), 1, 1, len, len);
          EXPECT_EQ(set.plan(0, 0).counts().pairs, len * (len + 1) / 2);
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
}

TEST(PlanSet, EmptyBatch) {
  EXPECT_TRUE(PlanSet().empty());
  EXPECT_EQ(PlanSet::build(Pattern(), 0, 4, 10, 10).pairs(0, 4), 0);
}

}  // namespace
}  // namespace fovea
