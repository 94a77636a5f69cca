// Merging partial results of attention: torch operations on one number a row, differentiable any
// number of times.
#include <limits>
#include <optional>
#include <tuple>
#include <vector>

#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/ops/logaddexp.h>
#include <ATen/ops/logsumexp.h>
#include <ATen/ops/stack.h>
#include <torch/library.h>

#include "fovea/ops/attention.h"

namespace fovea::ops {
namespace {

using at::Tensor;
using Pair = std::tuple<Tensor, Tensor>;

void check_parts(at::TensorList o, at::TensorList lse) {
  const char* name = "fovea::attention_merge";
  TORCH_CHECK(!o.empty() && o.size() == lse.size(), name,
              ": expected as many o as lse, at least one, got ", o.size(), " and ", lse.size());
  const int64_t dims = o[0].dim();
  TORCH_CHECK(dims == 3 || dims == 4, name,
              ": expected o [B, H, S, Dv], or [T, H, Dv] of packed documents, got ", o[0].sizes());
  std::vector<c10::SymInt> rows = o[0].sym_sizes().slice(0, 3).vec();
  if (dims == 3) rows = {rows[1], rows[0]};
  for (size_t i = 0; i < o.size(); ++i) {
    TORCH_CHECK(o[i].sym_sizes().equals(o[0].sym_sizes()) &&
                    lse[i].sym_sizes().equals(c10::SymIntArrayRef(rows)),
                name, ": expected parts of one shape, o ", o[0].sym_sizes(), " and lse ",
                c10::SymIntArrayRef(rows), ", got ", o[i].sym_sizes(), " and ", lse[i].sym_sizes());
  }
}

// With l the log denominators: lse = log Σ exp l (and the sink's), o = Σ exp(l - lse) o. A row that
// no part has seen takes l = 0 on the way, so that neither it nor its gradient is NaN.
Pair attention_merge_composite(at::TensorList o, at::TensorList lse,
                               const std::optional<Tensor>& sinks) {
  check_parts(o, lse);
  const double none = -std::numeric_limits<double>::infinity();
  const Tensor parts = at::stack(lse);
  const Tensor dead = parts.eq(none).all(0);
  Tensor total = at::logsumexp(parts.masked_fill(dead, 0.0), 0);
  if (sinks) total = at::logaddexp(total, sinks->to(total.scalar_type()).unsqueeze(-1));
  Tensor weights = parts.sub(total).exp();
  if (o[0].dim() == 3) weights = weights.transpose(1, 2);  // packed: rows of o are [T, H]
  Tensor merged = o[0].mul(weights[0].unsqueeze(-1));
  for (size_t i = 1; i < o.size(); ++i) {
    merged = merged.add(o[i].mul(weights[static_cast<int64_t>(i)].unsqueeze(-1)));
  }
  return {merged.to(o[0].scalar_type()), total.masked_fill(dead, none)};
}

}  // namespace

Pair attention_merge(at::TensorList o, at::TensorList lse, const Tensor& sinks) {
  static const auto op =
      c10::Dispatcher::singleton()
          .findSchemaOrThrow("fovea::attention_merge", "")
          .typed<Pair(at::TensorList, at::TensorList, const std::optional<Tensor>&)>();
  return op.call(o, lse, sinks.defined() ? std::optional<Tensor>(sinks) : std::nullopt);
}

TORCH_LIBRARY_IMPL(fovea, CompositeImplicitAutograd, m) {
  m.impl("attention_merge", attention_merge_composite);
}
TORCH_LIBRARY_IMPL(fovea, FuncTorchBatchedDecomposition, m) {  // torch.func.vmap
  m.impl("attention_merge", attention_merge_composite);
}

}  // namespace fovea::ops
