// Random expressions of the grammar: the plan is the pattern, and the text parses to itself.
#include <numeric>

#include "tests/pattern/plan_check.h"
#include <rapidcheck/gtest.h>

namespace fovea {
namespace {

// At full size from the first case on: small tiles are the exhaustive test's.
int in(int low, int high) { return *rc::gen::resize(100, rc::gen::inRange(low, high)); }

std::string number(int low, int high) { return std::to_string(in(low, high)); }

std::string random_pattern(int depth) {
  if (depth > 0 && in(0, 3) > 0) {
    const std::string a = random_pattern(depth - 1), b = random_pattern(depth - 1);
    switch (in(0, 5)) {
      case 0:
      case 1:
        return "(" + a + ")|(" + b + ")";
      case 2:
      case 3:
        return "(" + a + ")&(" + b + ")";
      default:
        return "per_head(" + a + "," + b + ")";
    }
  }
  switch (in(0, 12)) {
    case 0:
      return "full";
    case 1:
      return "causal";
    case 2:
      return "window(" + number(0, 90) + "," + number(0, 90) + ")";
    case 3:
      return "dilated(" + number(0, 90) + "," + number(0, 90) + "," + number(1, 20) + ")";
    case 4:
      return "chunked(" + number(1, 90) + ")";
    case 5:
      return "block_neighbours(" + number(1, 40) + "," + number(0, 3) + "," + number(0, 3) + ")";
    case 6:
      return "neighbourhood(" + number(1, 160) + ")";
    case 7:
      return "global(" + number(0, 5) + ")";
    case 8:
      return "global_tokens(" + number(0, 160) + "," + number(0, 160) + ")";
    case 9:
      return "random_blocks(" + number(1, 40) + "," + number(0, 4) + "," + number(0, 99) + ")";
    case 10:
      return "intervals";
    default:
      return "key_lengths";
  }
}

std::vector<int32_t> random_cuts(int length, int segments) {
  std::vector<int32_t> cu = {0, length};
  for (int s = 1; s < segments; ++s) cu.push_back(in(0, length + 1));
  std::sort(cu.begin(), cu.end());
  return cu;
}

RC_GTEST_PROP(PlanProperty, PlanIsPattern, ()) {
  const int q_len = in(1, 200), kv_len = in(0, 2) ? q_len : in(1, 200);
  const bool packed = in(0, 2) == 1;
  const int segments = packed ? in(1, 6) : 1;
  Pattern pattern = Pattern::parse(random_pattern(3));
  if (packed) pattern = pattern.within_segments();
  RC_ASSERT(Pattern::parse(pattern.to_string()) == pattern);

  const auto cu_q = random_cuts(q_len, segments), cu_k = random_cuts(kv_len, segments);
  std::vector<int32_t> intervals, lengths;
  for (int q = 0; q < q_len; ++q) {
    const int begin = in(0, kv_len);
    intervals.insert(intervals.end(), {begin, begin + in(-1, 30)});
  }
  for (int s = 0; s < segments; ++s) lengths.push_back(in(0, kv_len + 1));
  PatternInputs inputs;
  inputs.cu_seqlens_q = cu_q;
  inputs.cu_seqlens_k = cu_k;
  inputs.intervals = intervals;
  inputs.key_lengths = lengths;
  const Alignment alignment = in(0, 2) ? Alignment::kTopLeft : Alignment::kBottomRight;
  testing::expect_plan_is_pattern(pattern, {q_len, kv_len, alignment, 0, in(0, 4), &inputs});
  RC_ASSERT(!::testing::Test::HasFailure());
}

}  // namespace
}  // namespace fovea
