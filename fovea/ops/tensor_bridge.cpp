#include "fovea/ops/tensor_bridge.h"

#include <limits>

#include <ATen/Parallel.h>

#include "fovea/core/parallel.h"

namespace fovea::ops {

DType dtype_of(const at::Tensor& tensor, const char* what) {
  switch (tensor.scalar_type()) {
    case at::kFloat:
      return DType::kF32;
    case at::kBFloat16:
      return DType::kBF16;
    case at::kHalf:
      return DType::kF16;
    case at::kDouble:
      return DType::kF64;
    case at::kChar:
      return DType::kI8;
    default:
      TORCH_CHECK(false, what, ": expected float32, bfloat16, float16, float64 or int8, got ",
                  tensor.scalar_type());
  }
}

TensorView view_of(const at::Tensor& tensor, const char* what) {
  TensorView view;
  view.data = tensor.data_ptr();
  view.dtype = dtype_of(tensor, what);
  for (int64_t i = 0; i < 4; ++i) {
    view.shape[i] = i < tensor.dim() ? tensor.size(i) : 1;
    view.strides[i] = i < tensor.dim() ? tensor.stride(i) : 1;
  }
  return view;
}

at::Tensor with_contiguous_rows(const at::Tensor& tensor) {
  return tensor.stride(-1) == 1 || tensor.size(-1) <= 1 ? tensor : tensor.contiguous();
}

std::vector<int32_t> int32_values(const at::Tensor& tensor, const char* what) {
  TORCH_CHECK(tensor.device().is_cpu(), what, ": expected a CPU tensor, got one on ",
              tensor.device());
  const at::Tensor dense = tensor.contiguous();
  if (dense.scalar_type() == at::kInt) {
    const int32_t* values = dense.const_data_ptr<int32_t>();
    return {values, values + dense.numel()};
  }
  TORCH_CHECK(dense.scalar_type() == at::kLong, what, ": expected int32 or int64, got ",
              dense.scalar_type());
  std::vector<int32_t> result(dense.numel());
  const int64_t* values = dense.const_data_ptr<int64_t>();
  for (size_t i = 0; i < result.size(); ++i) {
    TORCH_CHECK(values[i] >= std::numeric_limits<int32_t>::min() &&
                    values[i] <= std::numeric_limits<int32_t>::max(),
                what, ": expected values that fit in 32 bits, got ", values[i], " at ", i);
    result[i] = static_cast<int32_t>(values[i]);
  }
  return result;
}

void sync_threads() {
  const int threads = at::get_num_threads();
  if (threads != num_threads()) set_num_threads(threads);
}

void parallel_for(int64_t tasks, const std::function<void(int64_t, int)>& body) {
  sync_threads();
  fovea::parallel_for(tasks, body);
}

}  // namespace fovea::ops
