#include "fovea/train/batching.h"

#include <algorithm>
#include <map>
#include <numeric>

#include <gtest/gtest.h>

namespace fovea::train {
namespace {

std::vector<int32_t> some_lengths(int n) {
  std::vector<int32_t> lengths;
  for (int i = 0; i < n; ++i) lengths.push_back(1 + (i * 7919) % 97);
  lengths[static_cast<size_t>(n / 2)] = 500;  // longer than a pass, longer than a batch
  return lengths;
}

BatchingOptions options() { return {.batch_tokens = 300, .micro_tokens = 120}; }

int64_t tokens_of(const std::vector<int64_t>& pass, const std::vector<int32_t>& lengths) {
  return std::accumulate(pass.begin(), pass.end(), int64_t{0}, [&](int64_t sum, int64_t e) {
    return sum + lengths[static_cast<size_t>(e)];
  });
}

TEST(Batching, EachExampleOncePerEpoch) {
  const auto lengths = some_lengths(203);
  for (const bool bucket : {true, false}) {
    BatchingOptions o = options();
    o.bucket = bucket;
    std::map<int64_t, int> seen;
    for (const Batch& batch : plan_epoch(lengths, o, 3, 1)) {
      int64_t examples = 0, tokens = 0;
      for (const auto& pass : batch.micro_batches) {
        for (const int64_t e : pass) ++seen[e];
        examples += static_cast<int64_t>(pass.size());
        tokens += tokens_of(pass, lengths);
      }
      EXPECT_EQ(batch.examples, examples);
      EXPECT_EQ(batch.tokens, tokens);
    }
    EXPECT_EQ(seen.size(), lengths.size());
    for (const auto& [example, times] : seen) EXPECT_EQ(times, 1) << example;
  }
}

TEST(Batching, BoundsHoldExceptForSingleLongExamples) {
  const auto lengths = some_lengths(203);
  for (const Batch& batch : plan_epoch(lengths, options(), 3, 0)) {
    if (batch.examples > 1) {
      EXPECT_LE(batch.tokens, 300);
    }
    for (const auto& pass : batch.micro_batches) {
      ASSERT_FALSE(pass.empty());
      if (pass.size() > 1) {
        EXPECT_LE(tokens_of(pass, lengths), 120);
      }
    }
  }
}

TEST(Batching, ABatchEndsOnlyWhereTheNextExampleDoesNotFit) {
  const auto lengths = some_lengths(203);
  BatchingOptions o = options();
  o.bucket = false;  // passes then keep the order in which examples were taken
  const auto plan = plan_epoch(lengths, o, 3, 0);
  for (size_t i = 1; i < plan.size(); ++i) {
    const int64_t next = plan[i].micro_batches.front().front();
    EXPECT_GT(plan[i - 1].tokens + lengths[static_cast<size_t>(next)], 300);
  }
}

TEST(Batching, ExamplesOfABatchCanBeBounded) {
  BatchingOptions o = options();
  o.batch_examples = 2;
  for (const Batch& batch : plan_epoch(some_lengths(50), o, 3, 0)) EXPECT_LE(batch.examples, 2);
}

TEST(Batching, OrderDependsOnSeedAndEpochOnly) {
  const auto lengths = some_lengths(100);
  const auto order = [&](uint64_t seed, int64_t epoch) {
    std::vector<int64_t> all;
    for (const Batch& batch : plan_epoch(lengths, options(), seed, epoch)) {
      for (const auto& pass : batch.micro_batches) all.insert(all.end(), pass.begin(), pass.end());
    }
    return all;
  };
  EXPECT_EQ(order(5, 2), order(5, 2));
  EXPECT_NE(order(5, 2), order(5, 3));
  EXPECT_NE(order(5, 2), order(6, 2));
}

TEST(Batching, BucketsPutSimilarLengthsIntoOnePass) {
  const auto lengths = some_lengths(203);
  for (const Batch& batch : plan_epoch(lengths, options(), 3, 0)) {
    int32_t shortest_before = 1 << 30;
    for (const auto& pass : batch.micro_batches) {
      for (const int64_t e : pass) {
        EXPECT_LE(lengths[static_cast<size_t>(e)], shortest_before);
        shortest_before = lengths[static_cast<size_t>(e)];
      }
    }
  }
}

TEST(Batching, EvaluationCoversAllOnce) {
  const auto lengths = some_lengths(77);
  std::vector<int64_t> all;
  for (const auto& pass : plan_evaluation(lengths, 120)) {
    if (pass.size() > 1) {
      EXPECT_LE(tokens_of(pass, lengths), 120);
    }
    all.insert(all.end(), pass.begin(), pass.end());
  }
  std::sort(all.begin(), all.end());
  std::vector<int64_t> expected(77);
  std::iota(expected.begin(), expected.end(), 0);
  EXPECT_EQ(all, expected);
}

TEST(Batching, NothingMakesNoBatch) { EXPECT_TRUE(plan_epoch({}, options(), 1, 0).empty()); }

}  // namespace
}  // namespace fovea::train
