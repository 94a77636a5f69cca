#include "fovea/nn/blocks.h"

#include <algorithm>

#include <ATen/ops/empty.h>
#include <ATen/ops/full.h>
#include <ATen/ops/tensor.h>

namespace fovea::nn {

Blocks::Blocks(const Packing& packing, int64_t size_) : size(size_) {
  const int32_t* rows = packing.cu_seqlens.const_data_ptr<int32_t>();
  const auto whole = at::TensorOptions().dtype(at::kLong);
  cu_blocks = at::empty({packing.documents + 1}, at::TensorOptions().dtype(at::kInt));
  int32_t* first = cu_blocks.mutable_data_ptr<int32_t>();
  first[0] = 0;
  for (int64_t n = 0; n < packing.documents; ++n) {
    first[n + 1] = first[n] + static_cast<int32_t>((rows[n + 1] - rows[n] + size - 1) / size);
  }
  count = first[packing.documents];
  cu_rows = at::empty({count + 1}, whole);
  block_of = at::empty({packing.tokens}, whole);
  const at::Tensor weight = at::empty({packing.tokens}, at::TensorOptions().dtype(at::kDouble));
  int64_t* begin = cu_rows.mutable_data_ptr<int64_t>();
  begin[0] = 0;
  for (int64_t n = 0; n < packing.documents; ++n) {
    for (int64_t b = first[n]; b < first[n + 1]; ++b) {
      begin[b + 1] = std::min<int64_t>(begin[b] + size, rows[n + 1]);
      const int64_t length = begin[b + 1] - begin[b];
      std::fill_n(block_of.mutable_data_ptr<int64_t>() + begin[b], length, b);
      std::fill_n(weight.mutable_data_ptr<double>() + begin[b], length,
                  1 / static_cast<double>(length));
    }
  }
  mean = make_row_map(block_of, count, weight);
}

Blocks Blocks::before(int64_t count, int64_t size) {
  Blocks blocks;
  blocks.size = size;
  blocks.count = count;
  blocks.cu_blocks = at::tensor({int64_t{0}, count}, at::TensorOptions().dtype(at::kInt));
  blocks.block_of = at::full({1}, count, at::kLong);
  return blocks;
}

}  // namespace fovea::nn
