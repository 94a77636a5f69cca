#include "fovea/nn/summary_tokens.h"

#include <vector>

#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <c10/core/GradMode.h>

namespace fovea::nn {

SummaryTokensImpl::SummaryTokensImpl(int64_t count, int64_t model_dim) : count_(count) {
  const at::NoGradGuard no_grad;
  const at::Tensor weight = at::empty({count, model_dim}, at::TensorOptions().dtype(at::kFloat));
  weight_ = register_parameter("weight", weight.normal_());
}

Packing SummaryTokensImpl::around(const Packing& packing) const {
  const at::Tensor added =
      at::arange(packing.documents + 1, packing.cu_seqlens.options()).mul_(count_);
  return Packing(packing.cu_seqlens + added);
}

at::Tensor SummaryTokensImpl::insert(const at::Tensor& x, const Packing& packing) {
  const int32_t* bounds = packing.cu_seqlens.const_data_ptr<int32_t>();
  const at::Tensor weight = weight_.to(x.scalar_type());
  std::vector<at::Tensor> rows;
  for (int64_t n = 0; n < packing.documents; ++n) {
    rows.push_back(weight);
    rows.push_back(x.slice(0, bounds[n], bounds[n + 1]));
  }
  return rows.empty() ? x : at::cat(rows);
}

at::Tensor SummaryTokensImpl::strip(const at::Tensor& x, const Packing& packing) const {
  const int32_t* bounds = packing.cu_seqlens.const_data_ptr<int32_t>();
  const at::Tensor rows = at::empty({packing.tokens}, at::TensorOptions().dtype(at::kLong));
  int64_t* row = rows.mutable_data_ptr<int64_t>();
  for (int64_t n = 0; n < packing.documents; ++n) {
    for (int64_t t = bounds[n]; t < bounds[n + 1]; ++t) *row++ = t + (n + 1) * count_;
  }
  return x.index_select(0, rows);
}

LayerAttention with_summary(LayerAttention attention, int64_t count) {
  if (count > 0 && attention.mechanism == Mechanism::kSoftmax && attention.memory.none()) {
    attention.pattern = Pattern::parse("(" + attention.pattern.to_string() + ")|global(" +
                                       std::to_string(count) + ")");
  }
  return attention;
}

}  // namespace fovea::nn
