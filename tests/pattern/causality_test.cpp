#include "fovea/pattern/causality.h"

#include <gtest/gtest.h>

namespace fovea {
namespace {

bool sees_ahead(const Pattern& pattern, int64_t length, int64_t heads) {
  for (int64_t head = 0; head < heads; ++head) {
    PatternScope scope;
    scope.q_len = scope.kv_len = length;
    scope.head = head;
    for (int64_t q = 0; q < length; ++q) {
      for (int64_t k = q + 1; k < length; ++k) {
        if (pattern.allows(scope, q, k)) return true;
      }
    }
  }
  return false;
}

TEST(Causality, StructureAgreesWithTheDefinition) {
  for (const char* text : {"causal", "window(3,0)", "dilated(4,0,2)", "causal&window(5)",
                           "window(5)&causal|window(1,0)", "causal&(window(2)|global(1))",
                           "per_head(causal, window(2,0))", "random_blocks(2,2,1)&causal"}) {
    const Pattern pattern = Pattern::parse(text);
    EXPECT_TRUE(is_causal(pattern)) << text;
    EXPECT_FALSE(sees_ahead(pattern, 11, 2)) << text;
  }
  for (const char* text :
       {"full", "window(3)", "window(0,1)", "dilated(4,2,2)", "chunked(3)", "block_neighbours(2)",
        "neighbourhood(3)", "global(1)", "global_tokens(2)", "causal|global(1)",
        "window(3,0)|window(0,3)", "per_head(causal, full)"}) {
    const Pattern pattern = Pattern::parse(text);
    EXPECT_FALSE(is_causal(pattern)) << text;
    EXPECT_TRUE(sees_ahead(pattern, 11, 2)) << text;
  }
  EXPECT_FALSE(is_causal(Pattern::parse("chunked(1)"))) << "causal by its number alone";
}

}  // namespace
}  // namespace fovea
