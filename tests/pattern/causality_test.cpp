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
        "block_ring(2)", "neighbourhood(3)", "global(1)", "global_tokens(2)", "causal|global(1)",
        "window(3,0)|window(0,3)", "per_head(causal, full)"}) {
    const Pattern pattern = Pattern::parse(text);
    EXPECT_FALSE(is_causal(pattern)) << text;
    EXPECT_TRUE(sees_ahead(pattern, 11, 2)) << text;
  }
  EXPECT_FALSE(is_causal(Pattern::parse("chunked(1)"))) << "causal by its number alone";
}

PatternScope scope_of(int64_t length, int64_t head) {
  PatternScope scope;
  scope.q_len = scope.kv_len = length;
  scope.head = head;
  return scope;
}

bool same_for_longer(const Pattern& pattern, int64_t length) {
  for (int64_t head = 0; head < 2; ++head) {
    for (int64_t longer = length + 1; longer < length + 20; ++longer) {
      for (int64_t q = 0; q < length; ++q) {
        for (int64_t k = 0; k < length; ++k) {
          const bool before = pattern.allows(scope_of(length, head), q, k);
          if (before != pattern.allows(scope_of(longer, head), q, k)) return false;
        }
      }
    }
  }
  return true;
}

TEST(Causality, WhatATokenSeesAsOthersFollow) {
  for (const char* text : {"causal", "window(3,0)", "dilated(4,0,2)", "full", "causal&chunked(3)",
                           "causal&block_neighbours(2)", "causal&(window(2)|global(1))",
                           "causal&global_tokens(2)", "per_head(causal, window(2,0))"}) {
    EXPECT_FALSE(depends_on_length(Pattern::parse(text))) << text;
    EXPECT_TRUE(same_for_longer(Pattern::parse(text), 11)) << text;
  }
  for (const char* text : {"random_blocks(2,2,1)&causal", "neighbourhood(3)",
                           "per_head(causal, causal&neighbourhood(5))"}) {
    EXPECT_TRUE(depends_on_length(Pattern::parse(text))) << text;
    EXPECT_FALSE(same_for_longer(Pattern::parse(text), 11)) << text;
  }
}

TEST(Causality, TrailingWindowIsTheKeysOfARow) {
  EXPECT_EQ(trailing_window(Pattern::parse("causal")), 0);
  for (const char* text : {"window(3,0)", "window(0,0)", "window(100,0)"}) {
    const Pattern pattern = Pattern::parse(text);
    ASSERT_TRUE(trailing_window(pattern)) << text;
    for (int64_t k = 0; k < 11; ++k) {
      EXPECT_EQ(pattern.allows(scope_of(11, 0), 10, k), k > 10 - *trailing_window(pattern)) << text;
    }
  }
  for (const char* text : {"full", "window(3)", "window(3,1)", "dilated(4,0,2)", "causal&window(3)",
                           "per_head(causal, causal)"}) {
    EXPECT_FALSE(trailing_window(Pattern::parse(text))) << text;
  }
}

}  // namespace
}  // namespace fovea
