#include "fovea/train/examples.h"

#include <numeric>

#include <gtest/gtest.h>

#include "fovea/core/status.h"

namespace fovea::train {
namespace {

std::vector<int32_t> numbers(int n) {
  std::vector<int32_t> ids(static_cast<size_t>(n));
  std::iota(ids.begin(), ids.end(), 0);
  return ids;
}

TEST(TruncateIds, KeepsTheEndAskedFor) {
  std::vector<int32_t> head = numbers(7), tail = numbers(7), both = numbers(7);
  EXPECT_EQ(truncate_ids(head, 5, Truncate::kHead), 2);
  EXPECT_EQ(head, (std::vector<int32_t>{0, 1, 2, 3, 4}));
  EXPECT_EQ(truncate_ids(tail, 5, Truncate::kTail), 2);
  EXPECT_EQ(tail, (std::vector<int32_t>{2, 3, 4, 5, 6}));
  EXPECT_EQ(truncate_ids(both, 5, Truncate::kBoth), 2);
  EXPECT_EQ(both, (std::vector<int32_t>{0, 1, 2, 5, 6}));
  std::vector<int32_t> fits = numbers(5);
  EXPECT_EQ(truncate_ids(fits, 5, Truncate::kTail), 0);
  EXPECT_EQ(fits, numbers(5));
}

TEST(TruncateIds, UnknownWayIsRefused) { EXPECT_THROW(parse_truncate("middle"), InputError); }

TEST(Examples, PacksInTheOrderAskedForAtEitherWidth) {
  for (const int64_t vocab_size : {int64_t{300}, int64_t{65536}, int64_t{65537}}) {
    const auto top = static_cast<int32_t>(vocab_size - 1);
    Examples examples(vocab_size);
    examples.add(std::vector<int32_t>{1, 2, top}, 0, 0);
    examples.add(std::vector<int32_t>{4}, 1, 6);
    examples.add(std::vector<int32_t>{5, 0}, 2, 0);
    EXPECT_EQ(examples.size(), 3);
    EXPECT_EQ(examples.tokens(), 6);
    EXPECT_EQ(examples.truncated(), 1);
    EXPECT_EQ(examples.truncated_tokens(), 6);
    const std::vector<int64_t> order = {2, 0};
    const models::PackedBatch batch = examples.pack(order);
    const int64_t* tokens = batch.tokens.const_data_ptr<int64_t>();
    EXPECT_EQ(std::vector<int64_t>(tokens, tokens + 5), (std::vector<int64_t>{5, 0, 1, 2, top}));
    const int32_t* bounds = batch.cu_seqlens.const_data_ptr<int32_t>();
    EXPECT_EQ(std::vector<int32_t>(bounds, bounds + 3), (std::vector<int32_t>{0, 2, 5}));
    const at::Tensor targets = examples.targets(order);
    EXPECT_EQ(targets.const_data_ptr<int64_t>()[0], 2);
    EXPECT_EQ(targets.const_data_ptr<int64_t>()[1], 0);
  }
}

}  // namespace
}  // namespace fovea::train
