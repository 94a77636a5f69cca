// fovea::attention_decode: attention to a cache of keys and values (attention/decode.h).
#include "fovea/attention/decode.h"

#include <optional>
#include <tuple>
#include <vector>

#include <ATen/ops/empty.h>
#include <torch/library.h>

#include "fovea/ops/tensor_bridge.h"

namespace fovea::ops {
namespace {

using at::Tensor;
using Pair = std::tuple<Tensor, Tensor>;

Pair empty_results(const Tensor& q, const Tensor& v) {
  TORCH_CHECK(q.dim() == 4 && v.dim() == 4,
              "fovea::attention_decode: expected 4-dimensional q and caches, got ", q.sym_sizes(),
              " and ", v.sym_sizes());
  const auto row_type = q.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
  return {
      at::empty_symint({q.sym_size(0), q.sym_size(1), q.sym_size(2), v.sym_size(3)}, q.options()),
      at::empty_symint({q.sym_size(0), q.sym_size(1), q.sym_size(2)}, q.options().dtype(row_type))};
}

Pair decode_meta(const Tensor& q, const Tensor&, const Tensor& v, const Tensor&,
                 const std::optional<Tensor>&, bool, int64_t, std::optional<double>) {
  return empty_results(q, v);
}

Pair decode_cpu(const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& lengths,
                const std::optional<Tensor>& block_table, bool ring, int64_t window,
                std::optional<double> scale) {
  auto [o, lse] = empty_results(q, v);
  TORCH_CHECK(k.stride(-1) == 1 && v.stride(-1) == 1,
              "fovea::attention_decode: expected caches with a contiguous last dimension");
  TORCH_CHECK(lengths.dim() == 1 && lengths.size(0) == q.size(0),
              "fovea::attention_decode: expected lengths [", q.size(0), "], got ", lengths.sizes());
  TORCH_CHECK(!scale || *scale != 0, "fovea::attention_decode: expected a scale other than 0");
  const Tensor q_rows = with_contiguous_rows(q);
  const std::vector<int32_t> length_values = int32_values(lengths, "lengths");
  std::vector<int32_t> table;

  DecodeProblem problem;
  problem.q = view_of(q_rows, "q");
  problem.cache.k = view_of(k, "k_cache");
  problem.cache.v = view_of(v, "v_cache");
  problem.cache.ring = ring;
  if (block_table) {
    TORCH_CHECK(block_table->dim() == 2 && block_table->size(0) == q.size(0),
                "fovea::attention_decode: expected block_table [", q.size(0), ", blocks], got ",
                block_table->sizes());
    table = int32_values(*block_table, "block_table");
    problem.cache.block_table = table.data();
    problem.cache.blocks = block_table->size(1);
  }
  problem.lengths = length_values.data();
  problem.window = window;
  problem.scale = scale.value_or(0);
  sync_threads();
  const Status status = attention_decode(problem, view_of(o, "o"), view_of(lse, "lse"));
  TORCH_CHECK(status.ok(), "fovea::", status.message());
  return {o, lse};
}

}  // namespace

TORCH_LIBRARY_IMPL(fovea, CPU, m) { m.impl("attention_decode", decode_cpu); }
TORCH_LIBRARY_IMPL(fovea, Meta, m) { m.impl("attention_decode", decode_meta); }

}  // namespace fovea::ops
