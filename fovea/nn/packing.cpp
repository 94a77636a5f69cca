#include "fovea/nn/packing.h"

#include <algorithm>
#include <limits>
#include <numeric>

#include <ATen/ops/empty.h>

namespace fovea::nn {

Packing::Packing(const at::Tensor& offsets) {
  TORCH_CHECK(offsets.dim() == 1 && offsets.size(0) >= 1 && offsets.scalar_type() == at::kInt &&
                  offsets.device().is_cpu(),
              "Packing: expected cu_seqlens as int32 [N + 1] on the CPU, got ",
              offsets.scalar_type(), " ", offsets.sizes());
  cu_seqlens = offsets.contiguous();
  documents = offsets.size(0) - 1;
  const int32_t* bounds = cu_seqlens.const_data_ptr<int32_t>();
  TORCH_CHECK(bounds[0] == 0, "Packing: expected cu_seqlens to begin with 0, got ", bounds[0]);
  tokens = bounds[documents];
  min_length = documents == 0 ? 0 : std::numeric_limits<int32_t>::max();
  for (int64_t n = 0; n < documents; ++n) {
    TORCH_CHECK(bounds[n + 1] >= bounds[n], "Packing: expected ascending cu_seqlens, got ",
                bounds[n], " before ", bounds[n + 1], " at ", n);
    const int64_t length = bounds[n + 1] - bounds[n];
    max_length = std::max(max_length, length);
    min_length = std::min(min_length, length);
  }
  positions = at::empty({tokens}, at::TensorOptions().dtype(at::kLong));
  int64_t* position = positions.mutable_data_ptr<int64_t>();
  for (int64_t n = 0; n < documents; ++n) {
    std::iota(position + bounds[n], position + bounds[n + 1], int64_t{0});
  }
}

Packing Packing::dense(int64_t batch, int64_t length) {
  TORCH_CHECK(batch * length <= std::numeric_limits<int32_t>::max(),
              "Packing: expected fewer than 2^31 rows, got ", batch, " x ", length);
  const at::Tensor offsets = at::empty({batch + 1}, at::TensorOptions().dtype(at::kInt));
  for (int64_t n = 0; n <= batch; ++n) {
    offsets.mutable_data_ptr<int32_t>()[n] = static_cast<int32_t>(n * length);
  }
  return Packing(offsets);
}

Packing Packing::continued(int64_t before, int64_t length) {
  Packing packing = dense(1, length);
  packing.positions += before;
  packing.max_length += before;
  return packing;
}

}  // namespace fovea::nn
