// What each pattern means: worked examples, and definitions written in another way than the code.
#include "fovea/pattern/pattern.h"

#include <functional>
#include <set>

#include <gmock/gmock.h>

#include "fovea/core/status.h"

namespace fovea {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

/// Rows of '#' (may attend) and '.', one for each query.
std::vector<std::string> drawn(const std::string& text, PatternScope scope) {
  const Pattern pattern = Pattern::parse(text);
  EXPECT_THAT(pattern.unmet(scope, 1, 1), IsEmpty());
  std::vector<std::string> rows;
  for (int64_t q = 0; q < scope.q_len; ++q) {
    std::string row;
    for (int64_t k = 0; k < scope.kv_len; ++k) row += pattern.allows(scope, q, k) ? '#' : '.';
    rows.push_back(row);
  }
  return rows;
}

std::vector<std::string> drawn(const std::string& text, int64_t q_len, int64_t kv_len,
                               Alignment alignment = Alignment::kBottomRight) {
  return drawn(text, PatternScope{q_len, kv_len, alignment, 0, 0, nullptr});
}

std::vector<std::string> drawn(const std::string& text, int64_t q_len, int64_t kv_len,
                               const PatternInputs& inputs) {
  return drawn(text, PatternScope{q_len, kv_len, Alignment::kBottomRight, 0, 0, &inputs});
}

TEST(Pattern, TrailingWindowOfOneOnFourTokens) {
  EXPECT_THAT(drawn("window(1,0)", 4, 4), ElementsAre("#...", "##..", ".##.", "..##"));
}

TEST(Pattern, CentredWindow) {
  EXPECT_THAT(drawn("window(1)", 4, 4), ElementsAre("##..", "###.", ".###", "..##"));
  EXPECT_THAT(drawn("window(0,2)", 4, 4), ElementsAre("###.", ".###", "..##", "...#"));
}

TEST(Pattern, FullAndCausal) {
  EXPECT_THAT(drawn("full", 2, 3), ElementsAre("###", "###"));
  EXPECT_THAT(drawn("causal", 3, 3), ElementsAre("#..", "##.", "###"));
}

TEST(Pattern, QueriesAreTheNewestTokensUnlessTopLeft) {
  EXPECT_THAT(drawn("causal", 2, 4), ElementsAre("###.", "####"));
  EXPECT_THAT(drawn("causal", 2, 4, Alignment::kTopLeft), ElementsAre("#...", "##.."));
  EXPECT_THAT(drawn("causal", 4, 2), ElementsAre("..", "..", "#.", "##"));
  EXPECT_THAT(drawn("causal", 4, 2, Alignment::kTopLeft), ElementsAre("#.", "##", "##", "##"));
  EXPECT_THAT(drawn("window(0,0)", 2, 4), ElementsAre("..#.", "...#"));
}

TEST(Pattern, DilatedIsTheWindowsEveryStepthKey) {
  EXPECT_THAT(drawn("dilated(4,2,2)", 6, 6),
              ElementsAre("#.#...", ".#.#..", "#.#.#.", ".#.#.#", "#.#.#.", ".#.#.#"));
  EXPECT_THAT(drawn("dilated(3,3,3)", 4, 4), ElementsAre("#..#", ".#..", "..#.", "#..#"));
}

TEST(Pattern, ChunkedSeesOwnBlockOnly) {
  EXPECT_THAT(drawn("chunked(2)", 5, 5), ElementsAre("##...", "##...", "..##.", "..##.", "....#"));
}

TEST(Pattern, BlockNeighboursSeeAdjacentBlocks) {
  EXPECT_THAT(drawn("block_neighbours(2)", 6, 6),
              ElementsAre("####..", "####..", "######", "######", "..####", "..####"));
  EXPECT_THAT(drawn("block_neighbours(2,1,0)", 6, 6),
              ElementsAre("##....", "##....", "####..", "####..", "..####", "..####"));
}

TEST(Pattern, BlockRingSeesTheHalvesThatDoNotTouchItsOwn) {
  EXPECT_THAT(drawn("block_ring(4)", 12, 12),
              ElementsAre("....####....", "....####....", "......##....", "......##....",
                          "##......####", "##......####", "####......##", "####......##",
                          "....##......", "....##......", "....####....", "....####...."));
}

TEST(Pattern, NeighbourhoodShiftsInwardAtTheEdges) {
  EXPECT_THAT(drawn("neighbourhood(3)", 5, 5),
              ElementsAre("###..", "###..", ".###.", "..###", "..###"));
  EXPECT_THAT(drawn("neighbourhood(4)", 6, 6),
              ElementsAre("####..", "####..", "####..", ".####.", "..####", "..####"));
  EXPECT_THAT(drawn("neighbourhood(9)", 2, 3), ElementsAre("###", "###"));
}

TEST(Pattern, GlobalTokensAttendToAllAndAreAttendedByAll) {
  EXPECT_THAT(drawn("global(1)", 4, 4), ElementsAre("####", "#...", "#...", "#..."));
  EXPECT_THAT(drawn("global(1)", 2, 4), ElementsAre("#...", "#..."));  // queries 2 and 3
  EXPECT_THAT(drawn("global_tokens(2,0)", 4, 4), ElementsAre("####", "#.#.", "####", "#.#."));
  const std::vector<int32_t> tokens = {3, 3};
  PatternInputs inputs;
  inputs.global_tokens = tokens;
  EXPECT_THAT(drawn("global_tokens", 4, 4, inputs), ElementsAre("...#", "...#", "...#", "####"));
}

TEST(Pattern, UnionAndIntersection) {
  EXPECT_THAT(drawn("window(1)|global(1)", 4, 4), ElementsAre("####", "###.", "####", "#.##"));
  EXPECT_THAT(drawn("causal&window(1)|global(1)", 4, 4),
              ElementsAre("####", "##..", "###.", "#.##"));
  EXPECT_THAT(drawn("causal&(window(1)|global(1))", 4, 4),
              ElementsAre("#...", "##..", "###.", "#.##"));
}

TEST(Pattern, TensorsOfABatch) {
  const std::vector<int32_t> intervals = {0, 2, 1, 1, 2, 99}, lengths = {2}, cu_q = {0, 1, 3},
                             cu_k = {0, 2, 4};
  const std::vector<uint8_t> mask = {1, 0, 0, 7};
  PatternInputs inputs;
  inputs.intervals = intervals;
  EXPECT_THAT(drawn("intervals", 3, 3, inputs), ElementsAre("##.", "...", "..#"));
  inputs.key_lengths = lengths;
  EXPECT_THAT(drawn("key_lengths", 2, 3, inputs), ElementsAre("##.", "##."));
  inputs.block_mask = mask;
  inputs.block_mask_columns = 2;
  EXPECT_THAT(drawn("block_mask(2)", 3, 3, inputs), ElementsAre("##.", "##.", "..#"));
  inputs.cu_seqlens_q = cu_q;
  inputs.cu_seqlens_k = cu_k;
  EXPECT_THAT(drawn("segments", 3, 4, inputs), ElementsAre("##..", "..##", "..##"));
  EXPECT_THAT(drawn("segments&causal", 3, 4, inputs), ElementsAre("##..", "..#.", "..##"));
  EXPECT_THAT(drawn("segments|global(1)", 3, 4, inputs), ElementsAre("##..", "..##", "..##"));
}

TEST(Pattern, PerHeadTakesTurns) {
  const Pattern p = Pattern::parse("per_head(causal,window(0,1))");
  for (int64_t head = 0; head < 4; ++head) {
    const PatternScope scope{3, 3, Alignment::kBottomRight, 0, head, nullptr};
    EXPECT_EQ(p.allows(scope, 2, 0), head % 2 == 0);
    EXPECT_EQ(p.allows(scope, 0, 1), head % 2 == 1);
  }
}

/// Same pairs, made by marking instead of asking.
TEST(Pattern, DefinitionsByConstruction) {
  using Mark = std::function<void(int64_t, int64_t)>;
  struct Case {
    const char* text;
    std::function<void(int64_t n, const Mark&)> mark;
  };
  const Case cases[] = {
      {"window(3,2)",
       [](int64_t n, const Mark& mark) {
         for (int64_t i = 0; i < n; ++i) {
           for (int64_t d = -3; d <= 2; ++d) mark(i, i + d);
         }
       }},
      {"dilated(6,3,3)",
       [](int64_t n, const Mark& mark) {
         for (int64_t i = 0; i < n; ++i) {
           for (int64_t m = -2; m <= 1; ++m) mark(i, i + 3 * m);
         }
       }},
      {"chunked(4)",
       [](int64_t n, const Mark& mark) {
         for (int64_t begin = 0; begin < n; begin += 4) {
           for (int64_t i = begin; i < begin + 4; ++i) {
             for (int64_t j = begin; j < begin + 4; ++j) mark(i, j);
           }
         }
       }},
      {"block_neighbours(3,2,1)",
       [](int64_t n, const Mark& mark) {
         for (int64_t i = 0; i < n; ++i) {
           for (int64_t block = i / 3 - 2; block <= i / 3 + 1; ++block) {
             for (int64_t j = 3 * block; j < 3 * block + 3; ++j) mark(i, j);
           }
         }
       }},
      {"neighbourhood(5)",
       [](int64_t n, const Mark& mark) {
         for (int64_t i = 0; i < n; ++i) {
           int64_t left = i - 2, right = i + 2;
           while (left < 0) ++left, ++right;
           while (right >= n) --left, --right;
           for (int64_t j = left; j <= right; ++j) mark(i, j);
         }
       }},
      {"global(2)",
       [](int64_t n, const Mark& mark) {
         for (int64_t i = 0; i < 2; ++i) {
           for (int64_t j = 0; j < n; ++j) mark(i, j), mark(j, i);
         }
       }},
  };
  for (const Case& c : cases) {
    for (int64_t n : {6, 13, 40}) {
      std::vector<std::string> expected(n, std::string(n, '.'));
      c.mark(n, [&](int64_t i, int64_t j) {
        if (0 <= i && i < n && 0 <= j && j < n) expected[i][j] = '#';
      });
      EXPECT_EQ(drawn(c.text, n, n), expected) << c.text << " " << n;
    }
  }
}

TEST(Pattern, RandomBlocksAreDistinctWholeBlocks) {
  const int64_t n = 103, size = 10, blocks = 11;
  const auto rows = drawn("random_blocks(10,3,42)", n, n);
  std::set<std::set<int64_t>> different;
  for (int64_t i = 0; i < n; ++i) {
    std::set<int64_t> chosen;
    for (int64_t j = 0; j < n; ++j) {
      if (rows[i][j] == '#') chosen.insert(j / size);
    }
    EXPECT_EQ(chosen.size(), 3u);
    for (int64_t j = 0; j < n; ++j) EXPECT_EQ(rows[i][j] == '#', chosen.contains(j / size));
    EXPECT_EQ(rows[i], rows[i / size * size]);
    different.insert(chosen);
  }
  EXPECT_GT(different.size(), 7u);
  EXPECT_NE(rows, drawn("random_blocks(10,3,43)", n, n));
  EXPECT_EQ(drawn("random_blocks(10,11,42)", n, n), drawn("full", n, n));
  // Uniform: over many seeds each of 11 blocks is chosen 3/11 of the time; 5 standard deviations.
  std::vector<int> hits(blocks);
  const int seeds = 2000;
  for (int seed = 0; seed < seeds; ++seed) {
    const auto p = Pattern::parse("random_blocks(10,3," + std::to_string(seed) + ")");
    const PatternScope scope{n, n, Alignment::kBottomRight, 0, 0, nullptr};
    for (int64_t b = 0; b < blocks; ++b) hits[b] += p.allows(scope, 25, b * size);
  }
  const double expected = seeds * 3.0 / 11, deviation = std::sqrt(expected * 8 / 11);
  for (int count : hits) EXPECT_NEAR(count, expected, 5 * deviation);
}

TEST(Pattern, PackedIsSeparateForEveryPattern) {
  const std::vector<int32_t> cu_q = {0, 5, 5, 12, 20}, cu_k = {0, 7, 9, 9, 25};
  const std::vector<int32_t> lengths = {6, 1, 0, 9}, tokens = {1, 3};
  std::vector<int32_t> intervals;
  for (int i = 0; i < 20; ++i) intervals.insert(intervals.end(), {i % 4, i % 7 + 3});
  const std::vector<uint8_t> mask = {1, 0, 0, 1, 0, 1, 1, 0};  // 2 x 4 blocks of 4: 8 x 16
  PatternInputs packed{cu_q, cu_k, lengths, intervals, tokens, mask, 4};
  for (const char* text :
       {"full", "causal", "window(2,1)", "dilated(4,4,2)", "chunked(3)", "block_neighbours(2)",
        "block_ring(2)", "neighbourhood(3)", "global(2)", "global_tokens(0,4)", "global_tokens",
        "random_blocks(2,2,7)", "block_mask(4)", "intervals", "key_lengths",
        "window(1,0)|global(1)&causal"}) {
    const Pattern plain = Pattern::parse(text), within = plain.within_segments();
    for (Alignment alignment : {Alignment::kBottomRight, Alignment::kTopLeft}) {
      const PatternScope scope{20, 25, alignment, 0, 0, &packed};
      ASSERT_THAT(within.unmet(scope, 1, 1), IsEmpty()) << text;
      for (int s = 0; s < 4; ++s) {
        PatternInputs one = packed;
        one.key_lengths = packed.key_lengths.subspan(s, 1);
        one.intervals = packed.intervals.subspan(2 * cu_q[s], 2 * (cu_q[s + 1] - cu_q[s]));
        const PatternScope alone{
            cu_q[s + 1] - cu_q[s], cu_k[s + 1] - cu_k[s], alignment, 0, 0, &one};
        for (int64_t q = 0; q < 20; ++q) {
          for (int64_t k = cu_k[s]; k < cu_k[s + 1]; ++k) {
            const bool inside = cu_q[s] <= q && q < cu_q[s + 1];
            EXPECT_EQ(within.allows(scope, q, k),
                      inside && plain.allows(alone, q - cu_q[s], k - cu_k[s]))
                << text << " " << q << " " << k;
          }
        }
      }
    }
  }
}

TEST(Pattern, AlignedKey) {
  EXPECT_EQ(Pattern().aligned_key({3, 5, Alignment::kBottomRight, 0, 0, nullptr}, 0), 2);
  EXPECT_EQ(Pattern().aligned_key({3, 5, Alignment::kTopLeft, 0, 0, nullptr}, 2), 2);
  const std::vector<int32_t> cu_q = {0, 1, 3}, cu_k = {0, 4, 10};
  PatternInputs inputs;
  inputs.cu_seqlens_q = cu_q;
  inputs.cu_seqlens_k = cu_k;
  const Pattern packed = Pattern::parse("segments");
  EXPECT_EQ(packed.aligned_key({3, 10, Alignment::kBottomRight, 0, 0, &inputs}, 0), 3);
  EXPECT_EQ(packed.aligned_key({3, 10, Alignment::kBottomRight, 0, 0, &inputs}, 1), 8);
  EXPECT_EQ(packed.aligned_key({3, 10, Alignment::kTopLeft, 0, 0, &inputs}, 2), 5);
}

TEST(Pattern, UnmetConditionsAreAllNamed) {
  const auto unmet = [](const char* text, const PatternInputs& inputs, int64_t batch = 2,
                        int64_t heads = 4) {
    const PatternScope scope{4, 6, Alignment::kBottomRight, 0, 0, &inputs};
    std::string all;
    for (const std::string& u : Pattern::parse(text).unmet(scope, batch, heads)) all += u + "\n";
    return all;
  };
  PatternInputs none;
  EXPECT_EQ(unmet("window(3)|global(1)", none), "");
  EXPECT_THAT(unmet("per_head(full,causal,full)", none), HasSubstr("multiple of the 3 patterns"));
  EXPECT_THAT(unmet("segments", none), HasSubstr("cu_seqlens_q with at least 2 entries"));
  EXPECT_THAT(unmet("key_lengths", none), HasSubstr("key_lengths [2], one for each batch element"));
  EXPECT_THAT(unmet("intervals", none), HasSubstr("intervals [4, 2], got 0"));
  EXPECT_THAT(unmet("block_mask(2)", none), HasSubstr("block_mask [2, 3] for blocks of 2"));
  const std::string both = unmet("intervals|key_lengths", none);
  EXPECT_THAT(both, HasSubstr("intervals"));
  EXPECT_THAT(both, HasSubstr("key_lengths"));

  const std::vector<int32_t> good_q = {0, 4}, good_k = {0, 6}, descending = {0, 5, 3, 6},
                             late = {1, 6}, three = {0, 3, 6}, lengths = {3, 7}, negative = {-1};
  const auto packed = [&](const std::vector<int32_t>& q, const std::vector<int32_t>& k) {
    PatternInputs inputs;
    inputs.cu_seqlens_q = q;
    inputs.cu_seqlens_k = k;
    return unmet("segments", inputs);
  };
  EXPECT_EQ(packed(good_q, good_k), "");
  EXPECT_THAT(packed(good_q, descending), HasSubstr("got 3 after 5 at index 2"));
  EXPECT_THAT(packed(good_q, late), HasSubstr("to run from 0 to 6, got 1 to 6"));
  EXPECT_THAT(packed(good_q, three), HasSubstr("got 1 and 2"));
  PatternInputs inputs;
  inputs.key_lengths = lengths;
  EXPECT_THAT(unmet("key_lengths", inputs), HasSubstr("between 0 and 6, got 7 at index 1"));
  inputs.global_tokens = negative;
  EXPECT_THAT(unmet("global_tokens", inputs), HasSubstr("at least 0, got -1"));
  const PatternScope huge{int64_t{1} << 40, 1, Alignment::kBottomRight, 0, 0, nullptr};
  EXPECT_EQ(Pattern().unmet(huge, 1, 1).size(), 1u);
}

}  // namespace
}  // namespace fovea
