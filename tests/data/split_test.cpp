#include "fovea/data/split.h"

#include <algorithm>
#include <map>

#include <gtest/gtest.h>

#include "fovea/core/status.h"
#include "fovea/data/random.h"

namespace fovea::data {
namespace {

TEST(SplitByLabel, KeepsSharesAndCoversEachExampleOnce) {
  std::vector<std::string> labels(103, "a");
  labels.insert(labels.end(), 10, "b");
  labels.insert(labels.end(), 2, "c");
  labels.emplace_back("d");
  const Split split = split_by_label(labels, 0.2, 1);
  std::map<std::string, int> valid;
  for (const int64_t i : split.valid) ++valid[labels[static_cast<size_t>(i)]];
  EXPECT_EQ(valid["a"], 21);
  EXPECT_EQ(valid["b"], 2);
  EXPECT_EQ(valid["c"], 1);
  EXPECT_EQ(valid["d"], 0);
  std::vector<int64_t> all = split.train;
  all.insert(all.end(), split.valid.begin(), split.valid.end());
  std::sort(all.begin(), all.end());
  ASSERT_EQ(all.size(), labels.size());
  for (size_t i = 0; i < all.size(); ++i) EXPECT_EQ(all[i], static_cast<int64_t>(i));
  EXPECT_TRUE(std::is_sorted(split.valid.begin(), split.valid.end()));
}

TEST(SplitByLabel, DependsOnSeedOnly) {
  const std::vector<std::string> labels(100, "a");
  EXPECT_EQ(split_by_label(labels, 0.1, 1).valid, split_by_label(labels, 0.1, 1).valid);
  EXPECT_NE(split_by_label(labels, 0.1, 1).valid, split_by_label(labels, 0.1, 2).valid);
  EXPECT_THROW(split_by_label(labels, 0, 1), InputError);
  EXPECT_THROW(split_by_label(labels, 1, 1), InputError);
}

TEST(Random, BelowIsUniform) {
  Random random(5);
  std::vector<int> counts(6);
  constexpr int kDraws = 60'000;
  for (int i = 0; i < kDraws; ++i) ++counts[random.below(6)];
  for (const int count : counts) EXPECT_NEAR(count, kDraws / 6, 5 * 92);  // 92 = one sigma
}

}  // namespace
}  // namespace fovea::data
