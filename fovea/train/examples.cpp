#include "fovea/train/examples.h"

#include <algorithm>

#include <ATen/ops/empty.h>

#include "fovea/core/status.h"

namespace fovea::train {

Truncate parse_truncate(const std::string& name) {
  if (name == "head") return Truncate::kHead;
  if (name == "tail") return Truncate::kTail;
  if (name == "both") return Truncate::kBoth;
  throw InputError("truncate \"" + name + "\" is unknown; expected head, tail or both");
}

int64_t truncate_ids(std::vector<int32_t>& ids, int64_t max_length, Truncate how) {
  const int64_t removed = static_cast<int64_t>(ids.size()) - max_length;
  if (removed <= 0) return 0;
  int64_t kept_head = max_length;
  if (how == Truncate::kTail) kept_head = 0;
  if (how == Truncate::kBoth) kept_head = (max_length + 1) / 2;
  ids.erase(ids.begin() + kept_head, ids.begin() + kept_head + removed);
  return removed;
}

void Examples::add(std::span<const int32_t> ids, int64_t label, int64_t removed) {
  if (wide_) {
    wide_tokens_.insert(wide_tokens_.end(), ids.begin(), ids.end());
  } else {
    for (const int32_t id : ids) narrow_tokens_.push_back(static_cast<uint16_t>(id));
  }
  begins_.push_back(offset_);
  lengths_.push_back(static_cast<int32_t>(ids.size()));
  labels_.push_back(label);
  offset_ += static_cast<int64_t>(ids.size());
  if (removed > 0) ++truncated_;
  truncated_tokens_ += removed;
}

models::PackedBatch Examples::pack(std::span<const int64_t> examples) const {
  int64_t total = 0;
  for (const int64_t e : examples) total += lengths_[static_cast<size_t>(e)];
  models::PackedBatch batch;
  batch.tokens = at::empty({total}, at::kLong);
  batch.cu_seqlens = at::empty({static_cast<int64_t>(examples.size()) + 1}, at::kInt);
  int64_t* out = batch.tokens.mutable_data_ptr<int64_t>();
  int32_t* bounds = batch.cu_seqlens.mutable_data_ptr<int32_t>();
  int32_t position = 0;
  *bounds++ = 0;
  for (const int64_t e : examples) {
    const int64_t begin = begins_[static_cast<size_t>(e)];
    const int32_t length = lengths_[static_cast<size_t>(e)];
    out = wide_ ? std::copy_n(wide_tokens_.begin() + begin, length, out)
                : std::copy_n(narrow_tokens_.begin() + begin, length, out);
    *bounds++ = position += length;
  }
  return batch;
}

at::Tensor Examples::targets(std::span<const int64_t> examples) const {
  at::Tensor targets = at::empty({static_cast<int64_t>(examples.size())}, at::kLong);
  int64_t* out = targets.mutable_data_ptr<int64_t>();
  for (const int64_t e : examples) *out++ = label(e);
  return targets;
}

models::PackedBatch pack_ids(std::span<const std::vector<int32_t>> documents) {
  int64_t total = 0;
  for (const auto& ids : documents) total += static_cast<int64_t>(ids.size());
  models::PackedBatch batch;
  batch.tokens = at::empty({total}, at::kLong);
  batch.cu_seqlens = at::empty({static_cast<int64_t>(documents.size()) + 1}, at::kInt);
  int64_t* out = batch.tokens.mutable_data_ptr<int64_t>();
  int32_t* bounds = batch.cu_seqlens.mutable_data_ptr<int32_t>();
  int32_t position = 0;
  *bounds++ = 0;
  for (const auto& ids : documents) {
    out = std::copy(ids.begin(), ids.end(), out);
    *bounds++ = position += static_cast<int32_t>(ids.size());
  }
  return batch;
}

}  // namespace fovea::train
