// fovea::attention_decode: attention to a cache of keys and values, and quantise_rows
// (attention/decode.h).
#include "fovea/attention/decode.h"

#include <optional>
#include <tuple>
#include <vector>

#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/ops/empty.h>
#include <torch/library.h>

#include "fovea/ops/attention.h"
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

TensorView scales_of(const Tensor& scales, const char* what) {
  TORCH_CHECK(scales.dim() == 3 && scales.device().is_cpu(), "fovea::attention_decode: expected ",
              what, " [B, Hkv, C] on the CPU, got ", scales.sizes(), " on ", scales.device());
  return view_of(scales, what);
}

Pair decode_meta(const Tensor& q, const Tensor&, const Tensor& v, const Tensor&,
                 const std::optional<Tensor>&, bool, int64_t, std::optional<double>,
                 const std::optional<Tensor>&, const std::optional<Tensor>&) {
  return empty_results(q, v);
}

Pair decode_cpu(const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& lengths,
                const std::optional<Tensor>& block_table, bool ring, int64_t window,
                std::optional<double> scale, const std::optional<Tensor>& k_scales,
                const std::optional<Tensor>& v_scales) {
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
  if (k_scales) problem.cache.k_scales = scales_of(*k_scales, "k_scales");
  if (v_scales) problem.cache.v_scales = scales_of(*v_scales, "v_scales");
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

/// Rows [B, H, S, D], or one token's [B, H, D] and so on: any leading dimensions.
Pair empty_quantised(const Tensor& x) {
  TORCH_CHECK(x.dim() >= 1, "fovea::quantise_rows: expected rows, got a number");
  const auto sizes = x.sym_sizes();
  return {at::empty_symint(sizes, x.options().dtype(at::kChar)),
          at::empty_symint(sizes.slice(0, sizes.size() - 1), x.options().dtype(at::kFloat))};
}

Pair quantise_meta(const Tensor& x) { return empty_quantised(x); }

Pair quantise_cpu(const Tensor& x) {
  auto [rows, scales] = empty_quantised(x);
  if (x.numel() == 0) return {rows, scales};
  const int64_t dim = x.size(-1);
  const Tensor flat = x.reshape({1, 1, -1, dim});
  sync_threads();
  const Status status = quantise_rows(view_of(with_contiguous_rows(flat), "x"),
                                      view_of(rows.view(flat.sizes()), "rows"),
                                      view_of(scales.view({1, 1, -1}), "scales"));
  TORCH_CHECK(status.ok(), "fovea::", status.message());
  return {rows, scales};
}

}  // namespace

Pair attention_decode(const Tensor& q, const Tensor& k_cache, const Tensor& v_cache,
                      const Tensor& lengths, bool ring, int64_t window) {
  static const auto op =
      c10::Dispatcher::singleton()
          .findSchemaOrThrow("fovea::attention_decode", "")
          .typed<Pair(const Tensor&, const Tensor&, const Tensor&, const Tensor&,
                      const std::optional<Tensor>&, bool, int64_t, std::optional<double>,
                      const std::optional<Tensor>&, const std::optional<Tensor>&)>();
  return op.call(q, k_cache, v_cache, lengths, std::nullopt, ring, window, std::nullopt,
                 std::nullopt, std::nullopt);
}

TORCH_LIBRARY_IMPL(fovea, CPU, m) {
  m.impl("attention_decode", decode_cpu);
  m.impl("quantise_rows", quantise_cpu);
}
TORCH_LIBRARY_IMPL(fovea, Meta, m) {
  m.impl("attention_decode", decode_meta);
  m.impl("quantise_rows", quantise_meta);
}

}  // namespace fovea::ops
