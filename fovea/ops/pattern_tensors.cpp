#include "fovea/ops/pattern_tensors.h"

#include "fovea/ops/tensor_bridge.h"

namespace fovea::ops {

using at::Tensor;

void PatternTensors::set_segments(const Tensor& cu_seqlens_q, const Tensor& cu_seqlens_k) {
  inputs_.cu_seqlens_q = keep(cu_seqlens_q, "cu_seqlens_q", 1);
  inputs_.cu_seqlens_k = keep(cu_seqlens_k, "cu_seqlens_k", 1);
}

void PatternTensors::set(const MaybeTensor& key_lengths, const MaybeTensor& intervals,
                         const MaybeTensor& block_mask, const MaybeTensor& global_tokens) {
  if (key_lengths) inputs_.key_lengths = keep(*key_lengths, "key_lengths", 1);
  if (intervals) inputs_.intervals = keep(*intervals, "intervals", 2);
  if (global_tokens) inputs_.global_tokens = keep(*global_tokens, "global_tokens", 1);
  if (!block_mask) return;
  TORCH_CHECK(
      block_mask->dim() == 2 && block_mask->device().is_cpu() &&
          (block_mask->scalar_type() == at::kBool || block_mask->scalar_type() == at::kByte),
      name_, ": expected block_mask as a 2-dimensional bool or uint8 CPU tensor, got ",
      block_mask->scalar_type(), " ", block_mask->sizes());
  block_mask_ = block_mask->contiguous();
  inputs_.block_mask = {static_cast<const uint8_t*>(block_mask_.const_data_ptr()),
                        static_cast<size_t>(block_mask_.numel())};
  inputs_.block_mask_columns = block_mask_.size(1);
}

std::span<const int32_t> PatternTensors::keep(const Tensor& tensor, const char* what,
                                              int64_t dims) {
  TORCH_CHECK(tensor.dim() == dims, name_, ": expected ", what, " with ", dims,
              " dimension(s), got shape ", tensor.sizes());
  values_.push_back(int32_values(tensor, what));
  return values_.back();
}

}  // namespace fovea::ops
