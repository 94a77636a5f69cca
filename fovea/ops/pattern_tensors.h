#pragma once

// Internal to ops: the tensors that a pattern speaks of, as the layers below take them.

#include <list>
#include <optional>
#include <vector>

#include <ATen/core/Tensor.h>

#include "fovea/pattern/pattern.h"

namespace fovea::ops {

using MaybeTensor = std::optional<at::Tensor>;

/// Checks types and dimensions (c10::Error that begins with `name`) and owns the values; shapes are
/// the pattern's to check. Absent tensors leave empty spans.
class PatternTensors {
 public:
  explicit PatternTensors(const char* name) : name_(name) {}
  PatternTensors(const PatternTensors&) = delete;  // the spans point inside
  PatternTensors& operator=(const PatternTensors&) = delete;

  void set_segments(const at::Tensor& cu_seqlens_q, const at::Tensor& cu_seqlens_k);
  void set(const MaybeTensor& key_lengths, const MaybeTensor& intervals,
           const MaybeTensor& block_mask, const MaybeTensor& global_tokens);

  const PatternInputs& inputs() const { return inputs_; }

 private:
  std::span<const int32_t> keep(const at::Tensor& tensor, const char* what, int64_t dims);

  const char* name_;
  at::Tensor block_mask_;
  std::list<std::vector<int32_t>> values_;  // a list: inputs_ points into its elements
  PatternInputs inputs_;
};

}  // namespace fovea::ops
