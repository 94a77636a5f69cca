#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include <ATen/core/Tensor.h>

#include "fovea/core/tensor_view.h"

namespace fovea::ops {

/// dtype of a tensor that crosses to the kernels; c10::Error for others, naming `what`.
DType dtype_of(const at::Tensor& tensor, const char* what);

/// View of a 3- or 4-dimensional tensor; a 3-dimensional [B, H, S] gets a last extent of 1.
TensorView view_of(const at::Tensor& tensor, const char* what);

/// `tensor` itself where its last dimension is contiguous, else a contiguous copy.
at::Tensor with_contiguous_rows(const at::Tensor& tensor);

/// Values of an int32 or int64 CPU tensor, as int32; c10::Error for other types or large values.
std::vector<int32_t> int32_values(const at::Tensor& tensor, const char* what);

/// core/parallel.h with torch's thread count: a program sets threads in one place.
void parallel_for(int64_t tasks, const std::function<void(int64_t task, int thread)>& body);

/// Makes parallel loops use at::get_num_threads().
void sync_threads();

}  // namespace fovea::ops
