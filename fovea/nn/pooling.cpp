#include "fovea/nn/pooling.h"

#include <ATen/ops/arange.h>
#include <ATen/ops/constant_pad_nd.h>
#include <ATen/ops/index_select.h>
#include <ATen/ops/segment_reduce.h>
#include <ATen/ops/zeros.h>

#include "fovea/core/status.h"
#include "fovea/nn/choice.h"
#include "fovea/nn/linear.h"
#include "fovea/ops/attention.h"

namespace fovea::nn {
namespace {

at::Tensor reduce(const at::Tensor& x, const char* how, const Packing& packing) {
  const at::Tensor lengths = packing.cu_seqlens.diff().to(at::kLong);
  return at::segment_reduce(x, how, lengths, {}, {}, 0, /*unsafe=*/true);
}

/// softmax over a document's scores times its rows, as attention of one query a document: with
/// q = (1, 0, …) and k = (score, 0, …) the product q·k is the score.
at::Tensor attend(const at::Tensor& x, const at::Tensor& scores, const Packing& packing) {
  constexpr int64_t kWidth = 8;  // the smallest head size
  const int64_t heads = scores.size(1);
  const at::Tensor k = at::constant_pad_nd(scores.unsqueeze(2), {0, kWidth - 1});
  const at::Tensor q = at::zeros({packing.documents, heads, kWidth}, k.options());
  q.select(2, 0).fill_(1);
  const at::Tensor v = x.view({x.size(0), heads, x.size(1) / heads}).to(k.scalar_type());
  const at::Tensor one_each =
      at::arange(packing.documents + 1, at::TensorOptions().dtype(at::kInt));
  ops::AttentionArguments arguments;
  arguments.scale = 1;
  const at::Tensor o =
      std::get<0>(ops::attention_varlen(q, k, v, one_each, packing.cu_seqlens, "full", arguments));
  return o.view({packing.documents, x.size(1)});
}

}  // namespace

PoolingType parse_pooling(const std::string& name) {
  return parse_choice<PoolingType>("pooling", name,
                                   {{"mean", PoolingType::kMean},
                                    {"max", PoolingType::kMax},
                                    {"first", PoolingType::kFirst},
                                    {"last", PoolingType::kLast},
                                    {"attention", PoolingType::kAttention}});
}

PoolingImpl::PoolingImpl(PoolingType type, int64_t model_dim, int64_t heads)
    : type_(type), heads_(heads) {
  if (type != PoolingType::kAttention) return;
  if (heads < 1 || model_dim % heads != 0 || model_dim / heads % 8 != 0 ||
      model_dim / heads > 256) {
    throw InputError("Pooling: expected model_dim / heads a multiple of 8 up to 256, found " +
                     std::to_string(model_dim) + " / " + std::to_string(heads));
  }
  score_ = register_module("score", make_linear(model_dim, heads));
}

at::Tensor PoolingImpl::forward(const at::Tensor& x, const Packing& packing) {
  TORCH_CHECK(x.dim() == 2 && x.size(0) == packing.tokens, "Pooling: expected x [", packing.tokens,
              ", E], got ", x.sizes());
  TORCH_CHECK(packing.documents == 0 || packing.min_length > 0,
              "Pooling: expected no empty documents");
  const at::Tensor& bounds = packing.cu_seqlens;
  switch (type_) {
    case PoolingType::kMean:
      return reduce(x, "mean", packing);
    case PoolingType::kMax:
      return reduce(x, "max", packing);
    case PoolingType::kFirst:
      return x.index_select(0, bounds.slice(0, 0, packing.documents));
    case PoolingType::kLast:
      return x.index_select(0, bounds.slice(0, 1, packing.documents + 1) - 1);
    case PoolingType::kAttention:
      return attend(x, score_(x), packing);
  }
  return {};
}

}  // namespace fovea::nn
