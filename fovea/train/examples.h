#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "fovea/models/text_classifier/model.h"

namespace fovea::train {

/// Which end of a document above the length limit stays.
enum class Truncate { kHead, kTail, kBoth };

/// head, tail, both; throws InputError that lists them.
Truncate parse_truncate(const std::string& name);

/// Shortens `ids` to `max_length`; returns how many were removed. kBoth keeps the first half
/// (rounded up) and the last.
int64_t truncate_ids(std::vector<int32_t>& ids, int64_t max_length, Truncate how);

/// Tokenized documents with their labels, two bytes a token where the vocabulary allows.
class Examples {
 public:
  explicit Examples(int64_t vocab_size) : wide_(vocab_size > 65536) {}

  /// Adds a document; `removed` = tokens that truncation took from it.
  void add(std::span<const int32_t> ids, int64_t label, int64_t removed);

  int64_t size() const { return static_cast<int64_t>(lengths_.size()); }
  int64_t tokens() const { return offset_; }
  int64_t truncated() const { return truncated_; }  ///< documents
  int64_t truncated_tokens() const { return truncated_tokens_; }
  std::span<const int32_t> lengths() const { return lengths_; }
  int64_t label(int64_t example) const { return labels_[static_cast<size_t>(example)]; }

  /// Documents packed one after another, in the order given.
  models::PackedBatch pack(std::span<const int64_t> examples) const;

  /// Labels of those documents: int64 [N].
  at::Tensor targets(std::span<const int64_t> examples) const;

 private:
  bool wide_;
  std::vector<uint16_t> narrow_tokens_;
  std::vector<int32_t> wide_tokens_;
  std::vector<int64_t> begins_;
  std::vector<int32_t> lengths_;
  std::vector<int64_t> labels_;
  int64_t offset_ = 0;
  int64_t truncated_ = 0;
  int64_t truncated_tokens_ = 0;
};

/// Documents given as ids, packed one after another.
models::PackedBatch pack_ids(std::span<const std::vector<int32_t>> documents);

}  // namespace fovea::train
