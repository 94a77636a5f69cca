// CPU kernels of the attention operators: tensors become views, everything else is in attention/.
#include <array>
#include <limits>
#include <utility>
#include <vector>

#include <ATen/ops/empty.h>
#include <torch/library.h>

#include "fovea/attention/attention.h"
#include "fovea/core/status.h"
#include "fovea/ops/attention_call.h"
#include "fovea/ops/pattern_tensors.h"
#include "fovea/ops/precision.h"
#include "fovea/ops/tensor_bridge.h"

namespace fovea::ops {
namespace {

using at::Tensor;

/// One call as the kernels below ops see it: 4-dimensional operands with contiguous rows, and the
/// facts of the pattern, owned.
class Prepared {
 public:
  Prepared(const char* name, const Tensor& q, const Tensor& k, const Tensor& v,
           const AttentionCall& call, const Tensor* cu_q, const Tensor* cu_k)
      : name_(name), q_(rows(q)), k_(rows(k)), v_(rows(v)), inputs_(name) {
    check_operands();
    if (cu_q) inputs_.set_segments(*cu_q, *cu_k);
    inputs_.set(call.key_lengths, call.intervals, call.block_mask, call.global_tokens);
    problem_.q = view_of(q_, "q");
    problem_.k = view_of(k_, "k");
    problem_.v = view_of(v_, "v");
    problem_.precision = float32_precision();
    const double scale = call.scale.value_or(0);
    TORCH_CHECK(!call.scale || scale != 0, name, ": expected a scale other than 0");
    problem_.score_mod.scale = scale;
    collect_score_mod(call);
    TORCH_CHECK(call.dropout_p >= 0 && call.dropout_p < 1, name,
                ": expected dropout_p in [0, 1), got ", call.dropout_p);
    problem_.dropout_p = call.dropout_p;
    problem_.dropout_seed = static_cast<uint64_t>(call.dropout_seed.guard_int(__FILE__, __LINE__));
    if (q_.size(2) != 0 && k_.size(2) != 0) build_plans(call, cu_q != nullptr);
  }

  void forward(const Tensor& o, const Tensor& lse) {
    if (k_.size(2) == 0) {
      o.zero_();
      lse.fill_(-std::numeric_limits<double>::infinity());
    }
    if (nothing_to_do()) return;
    run([&] { return attention_forward(problem_, outputs_of(o, lse)); });
  }

  void statistics(const Tensor& lse, const Tensor& row_entropy, const Tensor& column_mass) {
    if (nothing_to_do()) {
      row_entropy.zero_();
      column_mass.zero_();
      return;
    }
    AttentionOutputs outputs;
    outputs.lse = view_of(lse, "lse");
    const AttentionStatistics statistics = {view_of(row_entropy, "row_entropy"),
                                            view_of(column_mass, "column_mass")};
    run([&] { return attention_statistics(problem_, outputs, statistics); });
  }

  /// Writes d_q, d_k, d_v; returns d_bias, d_distance_bias, d_sinks, d_scales, d_additive in the
  /// shapes and types of theirs, or empty.
  std::array<Tensor, 5> backward(const Tensor& o, const Tensor& lse, const Tensor& d_o,
                                 const Tensor& d_lse, const Tensor& d_q, const Tensor& d_k,
                                 const Tensor& d_v, const AttentionCall& call) {
    const MaybeTensor bias = call.bias_gradient ? call.bias : std::nullopt;
    const auto like = [&](const MaybeTensor& wanted, const Tensor& x) {
      return at::empty(wanted ? x.sizes() : at::IntArrayRef{0}, lse.options());
    };
    const auto for_heads = [&](const std::vector<double>& x) {
      return at::empty({static_cast<int64_t>(x.size())}, lse.options().dtype(at::kDouble));
    };
    const Tensor d_bias = like(bias, bias_), d_distance = like(call.distance_bias, distance_bias_);
    const Tensor d_sinks = for_heads(sinks_), d_scales = for_heads(scales_);
    const Tensor d_additive = like(call.additive, additive_);
    const auto results = [&]() -> std::array<Tensor, 5> {
      const auto as = [&](const Tensor& x, const MaybeTensor& of) {
        return of ? x.to(of->scalar_type()).view(of->sizes()) : x.to(lse.scalar_type());
      };
      return {as(d_bias, bias), as(d_distance, call.distance_bias), as(d_sinks, call.sinks),
              as(d_scales, call.scales), as(d_additive, call.additive)};
    };
    if (nothing_to_do()) {
      for (const Tensor& x : {d_q, d_k, d_v, d_bias, d_distance, d_sinks, d_scales, d_additive}) {
        x.zero_();
      }
      return results();
    }
    AttentionGradients gradients;
    if (bias) gradients.d_bias = view_of(d_bias, "d_bias");
    if (call.distance_bias) gradients.d_distance_bias = view_of(d_distance, "d_distance_bias");
    if (call.additive) gradients.d_additive = view_of(d_additive, "d_additive");
    if (call.sinks) gradients.d_sinks = d_sinks.mutable_data_ptr<double>();
    if (call.scales) gradients.d_scales = d_scales.mutable_data_ptr<double>();
    const Tensor d_o_rows = rows(d_o);
    gradients.d_o = view_of(d_o_rows, "d_o");
    if (d_lse.defined()) gradients.d_lse = view_of(d_lse, "d_lse");
    gradients.d_q = view_of(d_q, "d_q");
    gradients.d_k = view_of(d_k, "d_k");
    gradients.d_v = view_of(d_v, "d_v");
    run([&] { return attention_backward(problem_, outputs_of(o, lse), gradients); });
    return results();
  }

 private:
  static Tensor rows(const Tensor& x) { return with_contiguous_rows(x); }

  static AttentionOutputs outputs_of(const Tensor& o, const Tensor& lse) {
    return {view_of(o, "o"), view_of(lse, "lse")};
  }

  bool nothing_to_do() const { return q_.numel() == 0 || k_.numel() == 0 || v_.numel() == 0; }

  void check_operands() const {
    for (const auto& [x, what] : {std::pair{&k_, "k"}, std::pair{&v_, "v"}}) {
      TORCH_CHECK(x->scalar_type() == q_.scalar_type(), name_,
                  ": expected q, k, v of one type, got ", q_.scalar_type(), " q and ",
                  x->scalar_type(), " ", what);
      TORCH_CHECK(x->size(0) == q_.size(0), name_, ": expected q, k, v of one batch size, got ",
                  q_.sizes(), " q and ", x->sizes(), " ", what);
    }
    TORCH_CHECK(k_.size(1) == v_.size(1) && k_.size(2) == v_.size(2), name_,
                ": expected k and v of the same heads and length, got ", k_.sizes(), " k and ",
                v_.sizes(), " v");
    TORCH_CHECK(q_.size(3) == k_.size(3), name_, ": expected q and k of one head size, got ",
                q_.sizes(), " q and ", k_.sizes(), " k");
    TORCH_CHECK(k_.size(1) > 0 && q_.size(1) % k_.size(1) == 0, name_,
                ": expected query heads that are a multiple of the key heads, got ", q_.size(1),
                " and ", k_.size(1));
  }

  void collect_score_mod(const AttentionCall& call) {
    ScoreMod& mod = problem_.score_mod;
    mod.softcap = call.softcap;
    const at::ScalarType row_type = q_.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
    if (call.bias) {
      bias_ = *call.bias;
      check_mod("bias", bias_, 1, 4);
      while (bias_.dim() < 4) bias_ = bias_.unsqueeze(0);
      bias_ = rows(bias_.scalar_type() == q_.scalar_type() ? bias_ : bias_.to(row_type));
      mod.bias = view_of(bias_, "bias");
    }
    if (call.distance_bias) {
      distance_bias_ = table("distance_bias", *call.distance_bias);
      mod.distance_bias = view_of(distance_bias_, "distance_bias");
    }
    if (call.additive) {
      additive_ = table("additive", *call.additive);
      mod.additive = view_of(additive_, "additive");
    }
    mod.negative_slope = call.negative_slope;
    mod.alibi_slopes = per_head("alibi_slopes", call.alibi_slopes, &slopes_);
    mod.sinks = per_head("sinks", call.sinks, &sinks_);
    mod.scales = per_head("scales", call.scales, &scales_);
    mod.cosine = call.cosine;
    TORCH_CHECK(!call.scale || !call.scales, name_, ": expected scale or scales, got both");
  }

  void check_mod(const char* what, const Tensor& x, int64_t least, int64_t most) const {
    TORCH_CHECK(x.device().is_cpu() && x.is_floating_point() && x.dim() >= least && x.dim() <= most,
                name_, ": expected ", what, " as a floating-point CPU tensor of ", least, " to ",
                most, " dimensions, got ", x.scalar_type(), " ", x.sizes());
  }

  /// [n] or [H|1, n] as [1, H|1, 1, n] in the type of lse.
  Tensor table(const char* what, const Tensor& x) const {
    check_mod(what, x, 1, 2);
    const Tensor wide = rows(x.to(q_.scalar_type() == at::kDouble ? at::kDouble : at::kFloat));
    return (wide.dim() == 1 ? wide.unsqueeze(0) : wide).unsqueeze(1).unsqueeze(0);
  }

  const double* per_head(const char* what, const MaybeTensor& x,
                         std::vector<double>* values) const {
    if (!x) return nullptr;
    check_mod(what, *x, 1, 1);
    TORCH_CHECK(x->size(0) == q_.size(1), name_, ": expected ", what, " of ", q_.size(1),
                " heads, got ", x->size(0));
    const Tensor dense = x->to(at::kDouble).contiguous();
    const double* data = dense.const_data_ptr<double>();
    values->assign(data, data + dense.numel());
    return values->data();
  }

  void build_plans(const AttentionCall& call, bool packed) {
    try {
      Pattern pattern = Pattern::parse(call.pattern);
      if (packed) pattern = pattern.within_segments();
      plans_ = PlanSet::build(pattern, q_.size(0), q_.size(1), q_.size(2), k_.size(2),
                              call.top_left ? Alignment::kTopLeft : Alignment::kBottomRight,
                              inputs_.inputs());
    } catch (const Error& error) {
      TORCH_CHECK(false, name_, ": ", error.what());
    }
    problem_.plans = &plans_;
  }

  template <typename Body>
  void run(Body&& body) const {
    sync_threads();
    Status status;
    try {
      status = body();
    } catch (const Error& error) {
      status = Status(error.code(), error.what());
    }
    TORCH_CHECK(status.ok(), name_, ": ", status.message());
  }

  const char* name_;
  Tensor q_, k_, v_, bias_, distance_bias_, additive_;
  std::vector<double> slopes_, sinks_, scales_;
  PatternTensors inputs_;
  PlanSet plans_;
  AttentionProblem problem_;
};

at::ScalarType lse_type(const Tensor& q) {
  return q.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
}

void check_dims(const char* name, int64_t dims, std::initializer_list<const Tensor*> tensors) {
  for (const Tensor* x : tensors) {
    TORCH_CHECK(x->dim() == dims, name, ": expected ", dims, "-dimensional tensors, got shape ",
                x->sizes());
    TORCH_CHECK(x->device().is_cpu(), name, ": expected CPU tensors, got one on ", x->device());
  }
}

/// [T, H, D] as [1, H, T, D].
Tensor as_batch(const Tensor& packed) { return packed.transpose(0, 1).unsqueeze(0); }

Tensor as_lse(const MaybeTensor& d_lse, const Tensor& lse) {
  return d_lse ? d_lse->to(lse.scalar_type()).contiguous() : Tensor();
}

/// [B, H, S, D] whose memory is [B, S, H, D].
Tensor empty_heads(const Tensor& like, int64_t heads, int64_t rows, int64_t dim) {
  return at::empty({like.size(0), rows, heads, dim}, like.options()).transpose(1, 2);
}

Pair attention_cpu(const Tensor& q, const Tensor& k, const Tensor& v, FOVEA_CALL_PARAMETERS) {
  check_dims("fovea::attention", 4, {&q, &k, &v});
  Prepared prepared("fovea::attention", q, k, v, FOVEA_CALL_VALUE, nullptr, nullptr);
  const Tensor o = empty_heads(q, q.size(1), q.size(2), v.size(3));
  const Tensor lse = at::empty({q.size(0), q.size(1), q.size(2)}, q.options().dtype(lse_type(q)));
  prepared.forward(o, lse);
  return {o, lse};
}

Pair attention_statistics_cpu(const Tensor& q, const Tensor& k, const Tensor& lse,
                              FOVEA_CALL_PARAMETERS) {
  check_dims("fovea::attention_statistics", 4, {&q, &k});
  // The keys also for the values, which nobody reads.
  Prepared prepared("fovea::attention_statistics", q, k, k, FOVEA_CALL_VALUE, nullptr, nullptr);
  const auto rows = [&](int64_t length) {
    return at::empty({q.size(0), q.size(1), length}, q.options().dtype(lse_type(q)));
  };
  const Tensor row_entropy = rows(q.size(2)), column_mass = rows(k.size(2));
  prepared.statistics(lse.to(lse_type(q)).contiguous(), row_entropy, column_mass);
  return {row_entropy, column_mass};
}

Gradients attention_backward_cpu(const Tensor& d_o, const MaybeTensor& d_lse, const Tensor& q,
                                 const Tensor& k, const Tensor& v, const Tensor& o,
                                 const Tensor& lse, FOVEA_BACKWARD_PARAMETERS) {
  const AttentionCall call = FOVEA_BACKWARD_VALUE;
  check_dims("fovea::attention_backward", 4, {&d_o, &q, &k, &v, &o});
  Prepared prepared("fovea::attention_backward", q, k, v, call, nullptr, nullptr);
  const Tensor d_q = empty_heads(q, q.size(1), q.size(2), q.size(3));
  const Tensor d_k = empty_heads(k, k.size(1), k.size(2), k.size(3));
  const Tensor d_v = empty_heads(v, v.size(1), v.size(2), v.size(3));
  const auto [d_bias, d_distance_bias, d_sinks, d_scales, d_additive] =
      prepared.backward(o, lse, d_o.to(q.scalar_type()), as_lse(d_lse, lse), d_q, d_k, d_v, call);
  return {d_q, d_k, d_v, d_bias, d_distance_bias, d_sinks, d_scales, d_additive};
}

Pair attention_varlen_cpu(const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& cu_q,
                          const Tensor& cu_k, FOVEA_CALL_PARAMETERS) {
  check_dims("fovea::attention_varlen", 3, {&q, &k, &v});
  Prepared prepared("fovea::attention_varlen", as_batch(q), as_batch(k), as_batch(v),
                    FOVEA_CALL_VALUE, &cu_q, &cu_k);
  const Tensor o = at::empty({q.size(0), q.size(1), v.size(2)}, q.options());
  const Tensor lse = at::empty({q.size(1), q.size(0)}, q.options().dtype(lse_type(q)));
  prepared.forward(as_batch(o), lse.unsqueeze(0));
  return {o, lse};
}

Gradients attention_varlen_backward_cpu(const Tensor& d_o, const MaybeTensor& d_lse,
                                        const Tensor& q, const Tensor& k, const Tensor& v,
                                        const Tensor& o, const Tensor& lse, const Tensor& cu_q,
                                        const Tensor& cu_k, FOVEA_BACKWARD_PARAMETERS) {
  const AttentionCall call = FOVEA_BACKWARD_VALUE;
  check_dims("fovea::attention_varlen_backward", 3, {&d_o, &q, &k, &v, &o});
  Prepared prepared("fovea::attention_varlen_backward", as_batch(q), as_batch(k), as_batch(v), call,
                    &cu_q, &cu_k);
  const auto empty_as = [](const Tensor& x) { return at::empty(x.sizes(), x.options()); };
  const Tensor d_q = empty_as(q), d_k = empty_as(k), d_v = empty_as(v);
  const Tensor d_lse_rows = as_lse(d_lse, lse);
  const auto [d_bias, d_distance_bias, d_sinks, d_scales, d_additive] =
      prepared.backward(as_batch(o), lse.unsqueeze(0), as_batch(d_o.to(q.scalar_type())),
                        d_lse_rows.defined() ? d_lse_rows.unsqueeze(0) : Tensor(), as_batch(d_q),
                        as_batch(d_k), as_batch(d_v), call);
  return {d_q, d_k, d_v, d_bias, d_distance_bias, d_sinks, d_scales, d_additive};
}

/// Queries, keys and values of [T, Hq + 2 Hkv, D], as [1, H, T, D] views.
std::array<Tensor, 3> split_qkv(const char* name, const Tensor& qkv, int64_t heads) {
  const int64_t rest = qkv.size(1) - heads;
  TORCH_CHECK(heads > 0 && rest > 0 && rest % 2 == 0, name,
              ": expected qkv [T, heads + 2 kv_heads, D], got ", qkv.sizes(),
              " with heads = ", heads);
  return {as_batch(qkv.narrow(1, 0, heads)), as_batch(qkv.narrow(1, heads, rest / 2)),
          as_batch(qkv.narrow(1, heads + rest / 2, rest / 2))};
}

Pair attention_qkv_cpu(const Tensor& qkv, int64_t heads, const Tensor& cu_seqlens,
                       FOVEA_CALL_PARAMETERS) {
  check_dims("fovea::attention_qkv", 3, {&qkv});
  const auto [q, k, v] = split_qkv("fovea::attention_qkv", qkv, heads);
  Prepared prepared("fovea::attention_qkv", q, k, v, FOVEA_CALL_VALUE, &cu_seqlens, &cu_seqlens);
  const Tensor o = at::empty({qkv.size(0), heads, qkv.size(2)}, q.options());
  const Tensor lse = at::empty({heads, qkv.size(0)}, q.options().dtype(lse_type(q)));
  prepared.forward(as_batch(o), lse.unsqueeze(0));
  return {o, lse};
}

QkvGradients attention_qkv_backward_cpu(const Tensor& d_o, const MaybeTensor& d_lse,
                                        const Tensor& qkv, const Tensor& o, const Tensor& lse,
                                        int64_t heads, const Tensor& cu_seqlens,
                                        FOVEA_BACKWARD_PARAMETERS) {
  const AttentionCall call = FOVEA_BACKWARD_VALUE;
  check_dims("fovea::attention_qkv_backward", 3, {&d_o, &qkv, &o});
  const char* name = "fovea::attention_qkv_backward";
  const auto [q, k, v] = split_qkv(name, qkv, heads);
  Prepared prepared(name, q, k, v, call, &cu_seqlens, &cu_seqlens);
  const Tensor d_qkv = at::empty(qkv.sizes(), q.options());
  const auto [d_q, d_k, d_v] = split_qkv(name, d_qkv, heads);
  const Tensor d_lse_rows = as_lse(d_lse, lse);
  const auto [d_bias, d_distance_bias, d_sinks, d_scales, d_additive] = prepared.backward(
      as_batch(o), lse.unsqueeze(0), as_batch(d_o.to(q.scalar_type())),
      d_lse_rows.defined() ? d_lse_rows.unsqueeze(0) : Tensor(), d_q, d_k, d_v, call);
  return {d_qkv, d_bias, d_distance_bias, d_sinks, d_scales, d_additive};
}

}  // namespace

TORCH_LIBRARY_IMPL(fovea, CPU, m) {
  m.impl("attention", attention_cpu);
  m.impl("attention_statistics", attention_statistics_cpu);
  m.impl("attention_backward", attention_backward_cpu);
  m.impl("attention_varlen", attention_varlen_cpu);
  m.impl("attention_varlen_backward", attention_varlen_backward_cpu);
  m.impl("attention_qkv", attention_qkv_cpu);
  m.impl("attention_qkv_backward", attention_qkv_backward_cpu);
}

}  // namespace fovea::ops
