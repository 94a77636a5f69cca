// Plans against `allows`, pair by pair: every pattern, and every union and intersection of two,
// over lengths around a tile, both alignments, packed and not.
#include <numeric>

#include "tests/pattern/plan_check.h"

#include "fovea/core/philox.h"

namespace fovea {
namespace {

using testing::expect_plan_is_pattern;

/// Inputs for every pattern that takes tensors, made for one pair of lengths.
struct Inputs {
  std::vector<int32_t> cu_q, cu_k, lengths, intervals, tokens;
  std::vector<uint8_t> block_mask;
  PatternInputs view;

  Inputs(int64_t q_len, int64_t kv_len, bool packed, uint32_t seed) {
    uint32_t n = 0;
    const auto word = [&](int64_t below) {
      return static_cast<int32_t>(philox4x32({n++, seed, 0, 0}, {7, 9})[0] % below);
    };
    int64_t mask_q = q_len, mask_k = kv_len;
    int segments = 1;
    if (packed) {
      const auto cuts = [&](int64_t len) {  // 4 segments, empty ones included
        std::vector<int32_t> cu = {0, word(len + 1), word(len + 1), word(len + 1),
                                   static_cast<int32_t>(len)};
        std::sort(cu.begin(), cu.end());
        return cu;
      };
      cu_q = cuts(q_len);
      cu_k = q_len == kv_len && seed % 2 ? cu_q : cuts(kv_len);
      segments = 4;
      mask_q = mask_k = 0;
      for (int s = 0; s < 4; ++s) {
        mask_q = std::max<int64_t>(mask_q, cu_q[s + 1] - cu_q[s]);
        mask_k = std::max<int64_t>(mask_k, cu_k[s + 1] - cu_k[s]);
      }
    }
    for (int s = 0; s < segments; ++s) lengths.push_back(word(kv_len + 1));
    for (int64_t q = 0; q < q_len; ++q) {
      const int32_t begin = word(kv_len + 1);
      intervals.insert(intervals.end(), {begin, q % 5 ? begin + word(40) - 3 : begin});
    }
    tokens = {word(kv_len), word(kv_len), word(kv_len), 0};
    const int64_t rows = (mask_q + 15) / 16, columns = (mask_k + 15) / 16;
    for (int64_t i = 0; i < rows * columns; ++i) block_mask.push_back(word(3) == 0);
    view = {.cu_seqlens_q = cu_q,
            .cu_seqlens_k = cu_k,
            .key_lengths = lengths,
            .intervals = intervals,
            .global_tokens = tokens,
            .block_mask = block_mask,
            .block_mask_columns = columns};
  }
};

const std::vector<std::string> kSingles = {
    "full",
    "causal",
    "window(3,5)",
    "window(0,0)",
    "window(70,0)",
    "window(0,200)",
    "dilated(20,10,3)",
    "dilated(100,0,64)",
    "chunked(7)",
    "chunked(64)",
    "block_neighbours(16)",
    "block_neighbours(5,2,0)",
    "block_ring(8)",
    "block_ring(64)",
    "neighbourhood(9)",
    "neighbourhood(80)",
    "global(0)",
    "global(1)",
    "global(66)",
    "global_tokens(2,3,64,90)",
    "global_tokens",
    "random_blocks(16,2,5)",
    "random_blocks(64,1,1)",
    "block_mask(16)",
    "intervals",
    "key_lengths",
};

void check(const std::string& text, int64_t q_len, int64_t kv_len, bool packed, uint32_t seed) {
  const Inputs inputs(q_len, kv_len, packed, seed);
  const Pattern pattern = packed ? Pattern::parse(text).within_segments() : Pattern::parse(text);
  for (Alignment alignment : {Alignment::kBottomRight, Alignment::kTopLeft}) {
    expect_plan_is_pattern(pattern, {q_len, kv_len, alignment, 0, 0, &inputs.view});
    if (::testing::Test::HasFatalFailure()) return;
  }
}

TEST(PlanExhaustive, EveryPattern) {
  const std::pair<int64_t, int64_t> lengths[] = {
      {1, 1}, {1, 150}, {150, 1}, {63, 64}, {64, 64}, {65, 65}, {100, 137}, {137, 100}, {193, 193}};
  for (const std::string& text : kSingles) {
    uint32_t seed = 0;
    for (auto [q_len, kv_len] : lengths) {
      for (bool packed : {false, true}) {
        check(text, q_len, kv_len, packed, ++seed);
        if (HasFatalFailure()) return;
      }
    }
  }
}

TEST(PlanExhaustive, EveryPair) {
  uint32_t seed = 100;
  for (const std::string& a : kSingles) {
    for (const std::string& b : kSingles) {
      for (const char* op : {"|", "&"}) {
        check(a + op + b, 131, 131, seed % 3 == 0, seed);
        if (HasFatalFailure()) return;
        check(a + op + b, 70, 90 + seed % 9, seed % 5 == 0, seed);
        if (HasFatalFailure()) return;
        ++seed;
      }
    }
  }
}

}  // namespace
}  // namespace fovea
