#include "fovea/train/batching.h"

#include <algorithm>
#include <numeric>

#include "fovea/data/random.h"

namespace fovea::train {
namespace {

// Cuts `examples`, in order, into passes of at most `limit` tokens.
std::vector<std::vector<int64_t>> cut(std::span<const int64_t> examples,
                                      std::span<const int32_t> lengths, int64_t limit) {
  std::vector<std::vector<int64_t>> passes;
  int64_t tokens = 0;
  for (const int64_t example : examples) {
    const int64_t length = lengths[static_cast<size_t>(example)];
    if (passes.empty() || tokens + length > limit) {
      passes.emplace_back();
      tokens = 0;
    }
    passes.back().push_back(example);
    tokens += length;
  }
  return passes;
}

void sort_by_length(std::span<int64_t> examples, std::span<const int32_t> lengths) {
  std::stable_sort(examples.begin(), examples.end(), [&](int64_t a, int64_t b) {
    return lengths[static_cast<size_t>(a)] > lengths[static_cast<size_t>(b)];
  });
}

}  // namespace

std::vector<Batch> plan_epoch(std::span<const int32_t> lengths, const BatchingOptions& options,
                              uint64_t seed, int64_t epoch) {
  std::vector<int64_t> order(lengths.size());
  std::iota(order.begin(), order.end(), 0);
  data::Random(seed, static_cast<uint64_t>(epoch)).shuffle(order);
  std::vector<Batch> batches;
  std::vector<int64_t> examples;
  int64_t tokens = 0;
  const auto close = [&] {
    if (examples.empty()) return;
    if (options.bucket) sort_by_length(examples, lengths);
    batches.push_back({cut(examples, lengths, options.micro_tokens),
                       static_cast<int64_t>(examples.size()), tokens});
    examples.clear();
    tokens = 0;
  };
  for (const int64_t example : order) {
    const int64_t length = lengths[static_cast<size_t>(example)];
    const bool many = options.batch_examples > 0 &&
                      static_cast<int64_t>(examples.size()) >= options.batch_examples;
    if (tokens + length > options.batch_tokens || many) close();
    examples.push_back(example);
    tokens += length;
  }
  close();
  return batches;
}

std::vector<std::vector<int64_t>> plan_evaluation(std::span<const int32_t> lengths,
                                                  int64_t micro_tokens) {
  std::vector<int64_t> order(lengths.size());
  std::iota(order.begin(), order.end(), 0);
  sort_by_length(order, lengths);
  return cut(order, lengths, micro_tokens);
}

}  // namespace fovea::train
