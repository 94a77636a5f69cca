// CPU and Meta kernels of linear attention: tensors become views, everything else is in attention/.
#include <algorithm>
#include <iterator>
#include <vector>

#include <ATen/ops/empty.h>
#include <torch/library.h>

#include "fovea/attention/linear_attention.h"
#include "fovea/core/status.h"
#include "fovea/ops/linear_attention_call.h"
#include "fovea/ops/tensor_bridge.h"

namespace fovea::ops {
namespace {

using at::Tensor;
using MaybeTensor = std::optional<Tensor>;

at::ScalarType state_type(const Tensor& q) {
  return q.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
}

bool packed(const LinearCall& call) { return call.cu_seqlens_q.has_value(); }

void check_dims(const char* name, const LinearCall& call,
                std::initializer_list<const Tensor*> tensors) {
  TORCH_CHECK(call.cu_seqlens_q.has_value() == call.cu_seqlens_k.has_value(), name,
              ": expected both cu_seqlens_q and cu_seqlens_k or neither");
  const int64_t dims = packed(call) ? 3 : 4;
  for (const Tensor* x : tensors) {
    TORCH_CHECK(x->dim() == dims, name, ": expected ", dims, "-dimensional tensors",
                packed(call) ? " with cu_seqlens" : "", ", got one of ", x->dim());
    TORCH_CHECK(x->is_meta() || x->device().is_cpu(), name, ": expected CPU tensors, got one on ",
                x->device());
  }
  const int64_t decay_dims = packed(call) ? 2 : 3;
  TORCH_CHECK(!call.decay || call.decay->dim() == decay_dims || call.decay->dim() == dims, name,
              ": expected decay ",
              packed(call) ? "[T, H] or [T, H, D]" : "[B, H, S] or [B, H, S, D]", ", got one of ",
              call.decay->dim(), " dimensions");
  TORCH_CHECK(!call.beta || call.beta->dim() == decay_dims, name, ": expected beta ",
              packed(call) ? "[T, H]" : "[B, H, S]", ", got one of ", call.beta->dim(),
              " dimensions");
  TORCH_CHECK(!call.initial_state || call.initial_state->dim() == 4, name,
              ": expected initial_state [N, H, D, Dv + normalise], got one of ",
              call.initial_state->dim(), " dimensions");
}

/// [T, H, …] as [1, H, T, …]; [B, H, S, …] as it is.
Tensor as_batch(const Tensor& x, const LinearCall& call) {
  return packed(call) ? x.transpose(0, 1).unsqueeze(0) : x;
}

// ---- results, also for Meta --------------------------------------------------------------------

/// As `x` with `dim` columns: packed rows densely, others with memory laid out [B, S, H, D].
Tensor empty_rows(const Tensor& x, const c10::SymInt& dim, const LinearCall& call) {
  if (packed(call)) {
    return at::empty_symint({x.sym_size(0), x.sym_size(1), dim}, x.options());
  }
  return at::empty_symint({x.sym_size(0), x.sym_size(2), x.sym_size(1), dim}, x.options())
      .transpose(1, 2);
}

Tensor empty_state(const Tensor& q, const Tensor& v, const LinearCall& call) {
  const c10::SymInt sequences = packed(call) ? call.cu_seqlens_q->sym_size(0) - 1 : q.sym_size(0);
  return at::empty_symint(
      {sequences, q.sym_size(1), q.sym_size(-1), v.sym_size(-1) + (call.normalise ? 1 : 0)},
      q.options().dtype(state_type(q)));
}

LinearOutputs empty_outputs(const Tensor& q, const Tensor& v, const LinearCall& call) {
  const auto options = q.options().dtype(state_type(q));
  Tensor denominator;
  if (!call.normalise) {
    denominator = at::empty({0}, options);
  } else if (packed(call)) {
    denominator = at::empty_symint({q.sym_size(1), q.sym_size(0)}, options);
  } else {
    denominator = at::empty_symint({q.sym_size(0), q.sym_size(1), q.sym_size(2)}, options);
  }
  return {empty_rows(q, v.sym_size(-1), call), denominator, empty_state(q, v, call)};
}

LinearGradients empty_gradients(const Tensor& q, const Tensor& k, const Tensor& v,
                                const LinearCall& call) {
  const auto like = [&](const MaybeTensor& x) {
    return x ? at::empty_symint(x->sym_sizes(), x->options()) : at::empty({0}, q.options());
  };
  return {empty_rows(q, q.sym_size(-1), call),
          empty_rows(k, k.sym_size(-1), call),
          empty_rows(v, v.sym_size(-1), call),
          like(call.decay),
          like(call.beta),
          like(call.initial_state)};
}

LinearOutputs linear_attention_meta(const Tensor& q, const Tensor& k, const Tensor& v,
                                    FOVEA_LINEAR_PARAMETERS) {
  const LinearCall call = FOVEA_LINEAR_VALUE;
  check_dims("fovea::linear_attention", call, {&q, &k, &v});
  return empty_outputs(q, v, call);
}

LinearGradients linear_attention_backward_meta(const Tensor& d_o, const MaybeTensor&,
                                               const Tensor& q, const Tensor& k, const Tensor& v,
                                               const Tensor& o, const Tensor&,
                                               FOVEA_LINEAR_PARAMETERS) {
  const LinearCall call = FOVEA_LINEAR_VALUE;
  check_dims("fovea::linear_attention_backward", call, {&d_o, &q, &k, &v, &o});
  return empty_gradients(q, k, v, call);
}

// ---- CPU ---------------------------------------------------------------------------------------

FeatureMap parse_map(const char* name, const std::string& text) {
  for (const FeatureMap map : kFeatureMaps) {
    if (text == name_of(map)) return map;
  }
  TORCH_CHECK(false, name, ": expected feature_map identity, elu+1 or relu, got \"", text, '"');
}

/// One call as the kernels below ops see it.
class Prepared {
 public:
  Prepared(const char* name, const Tensor& q, const Tensor& k, const Tensor& v,
           const LinearCall& call)
      : name_(name),
        call_(call),
        q_(rows(q)),
        k_(rows(k)),
        v_(rows(v)),
        state_type_(state_type(q)) {
    problem_.q = view_of(q_, "q");
    problem_.k = view_of(k_, "k");
    problem_.v = view_of(v_, "v");
    if (call.decay) {
      decay_ = as_batch(call.decay->to(state_type_), call);
      if (decay_.dim() == 4) decay_ = with_contiguous_rows(decay_);
      problem_.decay = view_of(decay_, "decay");
    }
    if (call.beta) {
      beta_ = as_batch(call.beta->to(state_type_), call);
      problem_.beta = view_of(beta_, "beta");
    }
    if (call.initial_state) {
      initial_state_ = dense(*call.initial_state);
      problem_.initial_state = view_of(initial_state_, "initial_state");
    }
    if (packed(call)) {
      bounds_q_ = int32_values(*call.cu_seqlens_q, "cu_seqlens_q");
      bounds_k_ = int32_values(*call.cu_seqlens_k, "cu_seqlens_k");
      problem_.cu_seqlens_q = bounds_q_;
      problem_.cu_seqlens_k = bounds_k_;
    }
    problem_.map = parse_map(name, call.map);
    problem_.causal = call.causal;
    problem_.normalise = call.normalise;
    problem_.scale = call.scale;
    problem_.eps = call.eps;
  }

  /// Four-dimensional, with contiguous rows.
  Tensor rows(const Tensor& x) const { return with_contiguous_rows(as_batch(x, call_)); }
  Tensor dense(const Tensor& state) const { return state.to(state_type_).contiguous(); }

  LinearAttentionOutputs outputs(const Tensor& o, const Tensor& denominator) const {
    LinearAttentionOutputs out;
    out.o = view_of(o, "o");
    if (call_.normalise) {
      out.denominator =
          view_of(packed(call_) ? denominator.unsqueeze(0) : denominator, "denominator");
    }
    return out;
  }

  const LinearAttentionProblem& problem() const { return problem_; }

  template <typename Body>
  void run(const Body& body) const {
    sync_threads();
    const Status status = body();
    TORCH_CHECK(status.ok(), name_, ": ", status.message());
  }

 private:
  const char* name_;
  const LinearCall& call_;
  Tensor q_, k_, v_, decay_, beta_, initial_state_;
  at::ScalarType state_type_;
  std::vector<int32_t> bounds_q_, bounds_k_;
  LinearAttentionProblem problem_;
};

LinearOutputs linear_attention_cpu(const Tensor& q, const Tensor& k, const Tensor& v,
                                   FOVEA_LINEAR_PARAMETERS) {
  const char* name = "fovea::linear_attention";
  const LinearCall call = FOVEA_LINEAR_VALUE;
  check_dims(name, call, {&q, &k, &v});
  const Prepared prepared(name, q, k, v, call);
  auto [o, denominator, final_state] = empty_outputs(q, v, call);
  LinearAttentionOutputs out = prepared.outputs(as_batch(o, call), denominator);
  out.final_state = view_of(final_state, "final_state");
  prepared.run([&] { return linear_attention_forward(prepared.problem(), out); });
  return {o, denominator, final_state};
}

LinearGradients linear_attention_backward_cpu(const Tensor& d_o, const MaybeTensor& d_final_state,
                                              const Tensor& q, const Tensor& k, const Tensor& v,
                                              const Tensor& o, const Tensor& denominator,
                                              FOVEA_LINEAR_PARAMETERS) {
  const char* name = "fovea::linear_attention_backward";
  const LinearCall call = FOVEA_LINEAR_VALUE;
  check_dims(name, call, {&d_o, &q, &k, &v, &o});
  const Prepared prepared(name, q, k, v, call);
  auto [d_q, d_k, d_v, d_decay, d_beta, d_initial] = empty_gradients(q, k, v, call);
  if (call.decay) d_decay = at::empty(call.decay->sizes(), q.options().dtype(state_type(q)));
  if (call.beta) d_beta = at::empty(call.beta->sizes(), q.options().dtype(state_type(q)));
  if (call.initial_state) d_initial = empty_state(q, v, call);

  const Tensor d_o_rows = prepared.rows(d_o.to(q.scalar_type())), o_rows = prepared.rows(o);
  LinearAttentionGradients g;
  g.d_o = view_of(d_o_rows, "d_o");
  g.d_q = view_of(as_batch(d_q, call), "d_q");
  g.d_k = view_of(as_batch(d_k, call), "d_k");
  g.d_v = view_of(as_batch(d_v, call), "d_v");
  if (call.decay) g.d_decay = view_of(as_batch(d_decay, call), "d_decay");
  if (call.beta) g.d_beta = view_of(as_batch(d_beta, call), "d_beta");
  if (call.initial_state) g.d_initial_state = view_of(d_initial, "d_initial_state");
  Tensor d_final;
  if (d_final_state) {
    d_final = prepared.dense(*d_final_state);
    g.d_final_state = view_of(d_final, "d_final_state");
  }
  const LinearAttentionOutputs out = prepared.outputs(o_rows, denominator);
  prepared.run([&] { return linear_attention_backward(prepared.problem(), out, g); });
  if (call.decay) d_decay = d_decay.to(call.decay->scalar_type());
  if (call.beta) d_beta = d_beta.to(call.beta->scalar_type());
  if (call.initial_state) d_initial = d_initial.to(call.initial_state->scalar_type());
  return {d_q, d_k, d_v, d_decay, d_beta, d_initial};
}

// ---- one step ----------------------------------------------------------------------------------

std::tuple<Tensor, Tensor> step_results(const Tensor& q, const Tensor& v, const LinearCall& call) {
  return {at::empty_symint({q.sym_size(0), q.sym_size(1), v.sym_size(2)}, q.options()),
          empty_state(q, v, call)};
}

std::tuple<Tensor, Tensor> linear_attention_step_meta(FOVEA_STEP_PARAMETERS) {
  return step_results(q, v, step_call(q, k, v, state, decay, beta, map, normalise, scale, eps));
}

std::tuple<Tensor, Tensor> linear_attention_step_cpu(FOVEA_STEP_PARAMETERS) {
  const LinearCall call = step_call(q, k, v, state, decay, beta, map, normalise, scale, eps);
  const Prepared prepared("fovea::linear_attention_step", q.unsqueeze(2), k.unsqueeze(2),
                          v.unsqueeze(2), call);
  const auto [o, next] = step_results(q, v, call);
  const Tensor denominator = at::empty({q.size(0), q.size(1), 1}, q.options().dtype(state_type(q)));
  LinearAttentionOutputs out = prepared.outputs(o.unsqueeze(2), denominator);
  out.final_state = view_of(next, "state");
  prepared.run([&] { return linear_attention_step(prepared.problem(), out); });
  return {o, next};
}

}  // namespace

LinearCall step_call(const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& state,
                     const MaybeTensor& decay, const MaybeTensor& beta, std::string_view map,
                     bool normalise, double scale, double eps) {
  const char* name = "fovea::linear_attention_step";
  for (const Tensor* x : {&q, &k, &v}) {
    TORCH_CHECK(x->dim() == 3, name, ": expected q, k and v of 3 dimensions [B, H, D], got one of ",
                x->dim());
  }
  TORCH_CHECK(state.dim() == 4, name, ": expected state [B, H, D, Dv + normalise], got one of ",
              state.dim(), " dimensions");
  TORCH_CHECK(!decay || decay->dim() == 2 || decay->dim() == 3, name,
              ": expected decay [B, H] or [B, H, D], got one of ", decay->dim(), " dimensions");
  TORCH_CHECK(!beta || beta->dim() == 2, name, ": expected beta [B, H], got one of ", beta->dim(),
              " dimensions");
  const auto row = [](const MaybeTensor& x) {
    return x ? MaybeTensor(x->unsqueeze(2)) : std::nullopt;
  };
  return {row(decay),       row(beta),       state,     std::nullopt, std::nullopt,
          std::string(map), /*causal=*/true, normalise, scale,        eps};
}

TORCH_LIBRARY_IMPL(fovea, CPU, m) {
  m.impl("linear_attention_step", linear_attention_step_cpu);
  m.impl("linear_attention", linear_attention_cpu);
  m.impl("linear_attention_backward", linear_attention_backward_cpu);
}

TORCH_LIBRARY_IMPL(fovea, Meta, m) {
  m.impl("linear_attention_step", linear_attention_step_meta);
  m.impl("linear_attention", linear_attention_meta);
  m.impl("linear_attention_backward", linear_attention_backward_meta);
}

}  // namespace fovea::ops
