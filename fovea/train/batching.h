#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace fovea::train {

/// What one optimizer update sees, and the pieces it is computed in.
struct Batch {
  std::vector<std::vector<int64_t>> micro_batches;  ///< example numbers
  int64_t examples = 0;
  int64_t tokens = 0;
};

struct BatchingOptions {
  int64_t batch_tokens = 0;    ///< an update takes examples until the next would exceed this
  int64_t micro_tokens = 0;    ///< bound of one forward pass; a longer example is alone in its pass
  int64_t batch_examples = 0;  ///< bound of examples in an update; 0 = none
  bool bucket = true;          ///< passes of an update hold examples of similar length
};

/// Order and grouping of one epoch: a pure function of lengths, options, seed and epoch, so that a
/// checkpoint needs only (epoch, batch number) to continue at the same place. Each example occurs
/// exactly once. Bucketing by length happens inside an update: it evens the passes out without
/// making an update's examples alike, and packed passes have no padding to save.
std::vector<Batch> plan_epoch(std::span<const int32_t> lengths, const BatchingOptions& options,
                              uint64_t seed, int64_t epoch);

/// Passes over all examples, longest first, for evaluation.
std::vector<std::vector<int64_t>> plan_evaluation(std::span<const int32_t> lengths,
                                                  int64_t micro_tokens);

}  // namespace fovea::train
