#include <string>
#include <vector>

#include "fovea/attention/conditions.h"
#include "fovea/attention/launch.h"

namespace fovea {
namespace {

std::string either(int64_t extent) { return extent == 1 ? "1" : "1 or " + std::to_string(extent); }

/// A bias [B|1, H|1, …]: `last` keys or distances, in the type of lse or in `other_type`.
void expect_bias(Conditions& c, const char* name, const TensorView& t, const AttentionProblem& p,
                 int64_t batch, int64_t rows, int64_t last, DType other_type) {
  if (t.empty()) return;
  c.expect_data(name, t);
  const int64_t heads = p.q.shape[1];
  const auto fits = [](int64_t extent, int64_t whole) { return extent == 1 || extent == whole; };
  if (!fits(t.shape[0], batch) || !fits(t.shape[1], heads) || !fits(t.shape[2], rows) ||
      t.shape[3] != last) {
    c.add(std::string(name) + " [" + either(batch) + ", " + either(heads) + ", " + either(rows) +
              ", " + std::to_string(last) + "]",
          shape_text(t, 4));
  }
  const DType computed = p.q.dtype == DType::kF64 ? DType::kF64 : DType::kF32;
  if (t.dtype != computed && t.dtype != other_type) {
    c.add(std::string(name) + " of " + name_of(computed), name_of(t.dtype));
  }
}

void expect_finite(Conditions& c, const char* name, const double* values, int64_t heads) {
  for (int64_t h = 0; values && h < heads; ++h) {
    if (std::isfinite(values[h])) continue;
    return c.add(std::string("finite ") + name,
                 std::to_string(values[h]) + " for head " + std::to_string(h));
  }
}

void expect_score_mod(Conditions& c, const AttentionProblem& p) {
  const ScoreMod& mod = p.score_mod;
  if (!std::isfinite(mod.scale)) c.add("a finite scale", std::to_string(mod.scale));
  if (!(mod.softcap >= 0 && std::isfinite(mod.softcap))) {
    c.add("a finite softcap >= 0", std::to_string(mod.softcap));
  }
  if (!(mod.negative_slope >= 0 && mod.negative_slope <= 1)) {
    c.add("a negative_slope in [0, 1]", std::to_string(mod.negative_slope));
  }
  expect_bias(c, "additive", mod.additive, p, 1, 1, p.q.shape[3],
              p.q.dtype == DType::kF64 ? DType::kF64 : DType::kF32);
  if (!mod.additive.empty() && (mod.cosine || mod.scales || mod.scale != 0)) {
    c.add("neither scale nor scales nor cosine with additive scores", "one of them");
  }
  expect_bias(c, "bias", mod.bias, p, p.q.shape[0], p.q.shape[2], p.k.shape[2], p.q.dtype);
  const int64_t distances = mod.distance_bias.shape[3];
  if (!mod.distance_bias.empty() && distances % 2 == 0) {
    c.add("an odd number of distances in distance_bias, -m … m", std::to_string(distances));
  }
  expect_bias(c, "distance_bias", mod.distance_bias, p, 1, 1, distances,
              p.q.dtype == DType::kF64 ? DType::kF64 : DType::kF32);
  expect_finite(c, "alibi_slopes", mod.alibi_slopes, p.q.shape[1]);
  expect_finite(c, "scales", mod.scales, p.q.shape[1]);
}

void expect_plans(Conditions& c, const AttentionProblem& p) {
  if (p.plans == nullptr || p.plans->empty()) return c.add("plans of the pattern", "none");
  const auto lengths = [](int64_t q_len, int64_t kv_len) {
    return "q_len " + std::to_string(q_len) + ", kv_len " + std::to_string(kv_len);
  };
  const int64_t q_len = p.q.shape[2], kv_len = p.k.shape[2];
  for (const auto& plan : p.plans->plans()) {
    if (plan->q_len() == q_len && plan->kv_len() == kv_len) continue;
    c.add("plans for " + lengths(q_len, kv_len), lengths(plan->q_len(), plan->kv_len()));
  }
}

/// q, k, v among themselves, with the plans and with the score modifications.
void expect_problem(Conditions& c, const AttentionProblem& p) {
  const TensorView &q = p.q, &k = p.k, &v = p.v;
  c.expect_operands(q, k, v);
  c.expect_shape("k", k, "[B, Hkv, Sk, D]", 4, q.shape[0], k.shape[1], k.shape[2], q.shape[3]);
  c.expect_shape("v", v, "[B, Hkv, Sk, Dv]", 4, q.shape[0], k.shape[1], k.shape[2], v.shape[3]);
  if (k.shape[1] > 0 ? q.shape[1] % k.shape[1] != 0 : q.shape[1] != 0) {
    c.add("query heads a multiple of key heads",
          std::to_string(q.shape[1]) + " and " + std::to_string(k.shape[1]));
  }
  constexpr int64_t kMaxLength = int64_t{1} << 32;  // row numbers are words of the dropout counter
  if (q.shape[2] >= kMaxLength || k.shape[2] >= kMaxLength) {
    c.add("lengths below 2^32", shape_text(q, 4) + " and " + shape_text(k, 4));
  }
  if (!(p.dropout_p >= 0 && p.dropout_p < 1)) {
    c.add("dropout_p in [0, 1)", std::to_string(p.dropout_p));
  }
  expect_score_mod(c, p);
  expect_plans(c, p);
}

void expect_row_values(Conditions& c, const char* name, const TensorView& t,
                       const AttentionProblem& p) {
  const TensorView& q = p.q;
  c.expect_type(name, t, q.dtype == DType::kF64 ? DType::kF64 : DType::kF32);
  c.expect_shape(name, t, "[B, Hq, Sq]", 3, q.shape[0], q.shape[1], q.shape[2], 1);
}

void expect_outputs(Conditions& c, const AttentionProblem& p, const AttentionOutputs& out) {
  const TensorView& q = p.q;
  c.expect_data("o", out.o);
  c.expect_type("o", out.o, q.dtype);
  c.expect_shape("o", out.o, "[B, Hq, Sq, Dv]", 4, q.shape[0], q.shape[1], q.shape[2],
                 p.v.shape[3]);
  c.expect_data("lse", out.lse);
  expect_row_values(c, "lse", out.lse, p);
}

/// The gradient of a bias, where it is wanted.
void expect_bias_gradient(Conditions& c, const char* name, const TensorView& t,
                          const TensorView& bias, const AttentionProblem& p) {
  if (t.empty()) return;
  if (bias.empty()) return c.add(std::string("no ") + name + " without the bias", "one");
  c.expect_data(name, t);
  c.expect_type(name, t, p.q.dtype == DType::kF64 ? DType::kF64 : DType::kF32);
  c.expect_shape(name, t, "of the bias", 4, bias.shape[0], bias.shape[1], bias.shape[2],
                 bias.shape[3]);
}

void expect_like(Conditions& c, const char* name, const TensorView& t, const TensorView& like) {
  c.expect_data(name, t);
  c.expect_type(name, t, like.dtype);
  c.expect_shape(name, t, "[B, H, S, D]", 4, like.shape[0], like.shape[1], like.shape[2],
                 like.shape[3]);
}

}  // namespace

std::vector<std::string> unmet_conditions(const AttentionProblem& problem,
                                          const AttentionOutputs& outputs) {
  Conditions c("attention");
  expect_problem(c, problem);
  expect_outputs(c, problem, outputs);
  return c.take();
}

std::vector<std::string> unmet_conditions(const AttentionProblem& problem,
                                          const AttentionOutputs& outputs,
                                          const AttentionStatistics& statistics) {
  Conditions c("attention_statistics");
  expect_problem(c, problem);
  c.expect_data("lse", outputs.lse);
  expect_row_values(c, "lse", outputs.lse, problem);
  c.expect_data("row_entropy", statistics.row_entropy);
  expect_row_values(c, "row_entropy", statistics.row_entropy, problem);
  c.expect_data("column_mass", statistics.column_mass);
  c.expect_type("column_mass", statistics.column_mass, outputs.lse.dtype);
  c.expect_shape("column_mass", statistics.column_mass, "[B, Hq, Sk]", 3, problem.q.shape[0],
                 problem.q.shape[1], problem.k.shape[2], 1);
  return c.take();
}

std::vector<std::string> unmet_conditions(const AttentionProblem& problem,
                                          const AttentionOutputs& outputs,
                                          const AttentionGradients& gradients) {
  Conditions c("attention_backward");
  expect_problem(c, problem);
  expect_outputs(c, problem, outputs);
  expect_like(c, "d_o", gradients.d_o, outputs.o);
  if (!gradients.d_lse.empty()) expect_row_values(c, "d_lse", gradients.d_lse, problem);
  expect_like(c, "d_q", gradients.d_q, problem.q);
  expect_like(c, "d_k", gradients.d_k, problem.k);
  expect_like(c, "d_v", gradients.d_v, problem.v);
  const ScoreMod& mod = problem.score_mod;
  expect_bias_gradient(c, "d_bias", gradients.d_bias, mod.bias, problem);
  expect_bias_gradient(c, "d_distance_bias", gradients.d_distance_bias, mod.distance_bias, problem);
  expect_bias_gradient(c, "d_additive", gradients.d_additive, mod.additive, problem);
  if (gradients.d_sinks && !mod.sinks) c.add("no d_sinks without sinks", "one");
  if (gradients.d_scales && !mod.scales) c.add("no d_scales without scales", "one");
  return c.take();
}

}  // namespace fovea
