// CPU and Meta kernels of memories outside a window: tensors become views.
#include <iterator>
#include <vector>

#include <ATen/ops/empty.h>
#include <torch/library.h>

#include "fovea/attention/linear_memory.h"
#include "fovea/core/status.h"
#include "fovea/ops/linear_memory_call.h"
#include "fovea/ops/tensor_bridge.h"

namespace fovea::ops {
namespace {

using at::Tensor;

#define FOVEA_MEMORY_PARAMETERS                                                          \
  const Tensor &q, const Tensor &k, const Tensor &v, const Tensor &o, const Tensor &lse, \
      const Tensor &gain, const Tensor &cu_seqlens, int64_t left, int64_t right,         \
      std::string_view map

void check_dims(const char* name, std::initializer_list<const Tensor*> rows, const Tensor& lse,
                const Tensor& gain) {
  for (const Tensor* x : rows) {
    TORCH_CHECK(x->dim() == 3, name,
                ": expected q, k, v and o of packed rows [T, H, D], got one of ", x->dim(),
                " dimensions");
    TORCH_CHECK(x->is_meta() || x->device().is_cpu(), name, ": expected CPU tensors, got one on ",
                x->device());
  }
  TORCH_CHECK(lse.dim() == 2 && gain.dim() == 2, name,
              ": expected lse [H, T] and gain [T, H], got ", lse.dim(), " and ", gain.dim(),
              " dimensions");
}

at::ScalarType state_type(const Tensor& q) {
  return q.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
}

Tensor as_batch(const Tensor& x) { return x.transpose(0, 1).unsqueeze(0); }

FeatureMap parse_map(const char* name, std::string_view text) {
  for (const FeatureMap map : kFeatureMaps) {
    if (text == name_of(map)) return map;
  }
  TORCH_CHECK(false, name, ": expected feature_map identity, elu+1 or relu, got \"", text, '"');
}

/// One call as the kernels below ops see it.
struct Prepared {
  Prepared(const char* name, FOVEA_MEMORY_PARAMETERS)
      : q_rows(as_batch(with_contiguous_rows(q))),
        k_rows(as_batch(with_contiguous_rows(k))),
        v_rows(as_batch(with_contiguous_rows(v))),
        o_rows(as_batch(o)),
        lse_rows(lse.unsqueeze(0)),
        gains(as_batch(gain.to(state_type(q)))),
        bounds(int32_values(cu_seqlens, "cu_seqlens")) {
    problem.q = view_of(q_rows, "q");
    problem.k = view_of(k_rows, "k");
    problem.v = view_of(v_rows, "v");
    problem.gain = view_of(gains, "gain");
    problem.cu_seqlens = bounds;
    problem.map = parse_map(name, map);
    problem.left = left;
    problem.right = right;
    result = {view_of(o_rows, "o"), view_of(lse_rows, "lse")};
  }

  Tensor q_rows, k_rows, v_rows, o_rows, lse_rows, gains;
  std::vector<int32_t> bounds;
  LinearMemoryProblem problem;
  LinearMemoryResult result;
};

void check(const char* name, const Status& status) {
  TORCH_CHECK(status.ok(), name, ": ", status.message());
}

Pair empty_results(const Tensor& o, const Tensor& lse) {
  return {at::empty_symint(o.sym_sizes(), o.options()),
          at::empty_symint(lse.sym_sizes(), lse.options())};
}

MemoryGradients empty_gradients(const Tensor& q, const Tensor& k, const Tensor& v,
                                const Tensor& gain) {
  const auto like = [](const Tensor& x) { return at::empty_symint(x.sym_sizes(), x.options()); };
  return {like(q), like(k), like(v), like(gain)};
}

Pair linear_memory_meta(const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& o,
                        const Tensor& lse, const Tensor& gain, const Tensor&, int64_t, int64_t,
                        std::string_view) {
  check_dims("fovea::linear_memory", {&q, &k, &v, &o}, lse, gain);
  return empty_results(o, lse);
}

MemoryGradients linear_memory_backward_meta(const Tensor& d_o, const MaybeTensor&, const Tensor& q,
                                            const Tensor& k, const Tensor& v, const Tensor& o,
                                            const Tensor& lse, const Tensor& gain, const Tensor&,
                                            int64_t, int64_t, std::string_view) {
  check_dims("fovea::linear_memory_backward", {&d_o, &q, &k, &v, &o}, lse, gain);
  return empty_gradients(q, k, v, gain);
}

Pair linear_memory_cpu(FOVEA_MEMORY_PARAMETERS) {
  const char* name = "fovea::linear_memory";
  check_dims(name, {&q, &k, &v, &o}, lse, gain);
  auto [joined, joined_lse] = empty_results(o, lse);
  joined.copy_(o);
  joined_lse.copy_(lse);
  const Prepared p(name, q, k, v, joined, joined_lse, gain, cu_seqlens, left, right, map);
  sync_threads();
  check(name, linear_memory_forward(p.problem, p.result));
  return {joined, joined_lse};
}

MemoryGradients linear_memory_backward_cpu(const Tensor& d_o, const MaybeTensor& d_lse,
                                           FOVEA_MEMORY_PARAMETERS) {
  const char* name = "fovea::linear_memory_backward";
  check_dims(name, {&d_o, &q, &k, &v, &o}, lse, gain);
  const Prepared p(name, q, k, v, with_contiguous_rows(o), lse, gain, cu_seqlens, left, right, map);
  auto [d_q, d_k, d_v, d_gain] = empty_gradients(q, k, v, gain);
  const Tensor d_gains = at::empty({gain.size(1), gain.size(0)}, p.gains.options());
  const Tensor d_o_rows = as_batch(with_contiguous_rows(d_o.to(q.scalar_type())));
  const Tensor d_lse_rows = d_lse ? d_lse->to(state_type(q)).unsqueeze(0) : Tensor();
  LinearMemoryGradients g;
  g.d_o = view_of(d_o_rows, "d_o");
  if (d_lse) g.d_lse = view_of(d_lse_rows, "d_lse");
  g.d_q = view_of(as_batch(d_q), "d_q");
  g.d_k = view_of(as_batch(d_k), "d_k");
  g.d_v = view_of(as_batch(d_v), "d_v");
  g.d_gain = view_of(d_gains.unsqueeze(0), "d_gain");
  sync_threads();
  check(name, linear_memory_backward(p.problem, p.result, g));
  d_gain.copy_(d_gains.transpose(0, 1));
  return {d_q, d_k, d_v, d_gain};
}

}  // namespace

TORCH_LIBRARY_IMPL(fovea, CPU, m) {
  m.impl("linear_memory", linear_memory_cpu);
  m.impl("linear_memory_backward", linear_memory_backward_cpu);
}

TORCH_LIBRARY_IMPL(fovea, Meta, m) {
  m.impl("linear_memory", linear_memory_meta);
  m.impl("linear_memory_backward", linear_memory_backward_meta);
}

}  // namespace fovea::ops
