#include <string>
#include <vector>

#include "fovea/attention/launch.h"

namespace fovea {
namespace {

std::string shape_text(const TensorView& t, int dims) {
  std::string text = "[";
  for (int i = 0; i < dims; ++i) {
    if (i > 0) text += ", ";
    text += std::to_string(t.shape[i]);
  }
  text += ']';
  return text;
}

/// Collects what is wrong, each as "<function>: expected …, got …".
class Conditions {
 public:
  explicit Conditions(const char* function) : function_(function) {}

  void expect(bool met, const std::string& expected, const std::string& got) {
    if (!met) unmet_.push_back(std::string(function_) + ": expected " + expected + ", got " + got);
  }

  void expect_shape(const char* name, const TensorView& t, int64_t b, int64_t h, int64_t s,
                    int64_t d, const char* letters) {
    const TensorView wanted = {nullptr, t.dtype, {b, h, s, d}, {}};
    const bool met =
        t.shape[0] == b && t.shape[1] == h && t.shape[2] == s && (t.shape[3] == d || d == 0);
    expect(met, std::string(name) + ' ' + letters + " = " + shape_text(wanted, d ? 4 : 3),
           shape_text(t, d ? 4 : 3));
  }

  void expect_type(const char* name, const TensorView& t, DType dtype) {
    expect(t.dtype == dtype, std::string(name) + " of " + name_of(dtype), name_of(t.dtype));
  }

  void expect_data(const char* name, const TensorView& t) {
    const bool elements = t.shape[0] > 0 && t.shape[1] > 0 && t.shape[2] > 0 && t.shape[3] > 0;
    expect(!elements || t.data != nullptr, std::string(name) + " with data", "a null pointer");
    expect(t.shape[3] <= 1 || t.strides[3] == 1,
           std::string(name) + " with a contiguous last dimension",
           "stride " + std::to_string(t.strides[3]));
  }

  std::vector<std::string> take() { return std::move(unmet_); }

 private:
  const char* function_;
  std::vector<std::string> unmet_;
};

void expect_operand(Conditions& c, const char* name, const TensorView& t) {
  c.expect_data(name, t);
  const int64_t d = t.shape[3];
  c.expect(d >= 8 && d <= 256 && d % 8 == 0,
           std::string("last extent of ") + name + " a multiple of 8 in [8, 256]",
           std::to_string(d) + " in " + name + ' ' + shape_text(t, 4));
}

/// q, k, v among themselves and with the plans.
void expect_problem(Conditions& c, const AttentionProblem& p) {
  const TensorView &q = p.q, &k = p.k, &v = p.v;
  expect_operand(c, "q", q);
  expect_operand(c, "k", k);
  expect_operand(c, "v", v);
  c.expect(q.dtype == DType::kF32 || q.dtype == DType::kBF16 || q.dtype == DType::kF64,
           "q of f32, bf16 or f64", name_of(q.dtype));
  c.expect_type("k", k, q.dtype);
  c.expect_type("v", v, q.dtype);
  c.expect_shape("k", k, q.shape[0], k.shape[1], k.shape[2], q.shape[3], "[B, Hkv, Sk, D]");
  c.expect_shape("v", v, q.shape[0], k.shape[1], k.shape[2], v.shape[3], "[B, Hkv, Sk, Dv]");
  c.expect(k.shape[1] > 0 ? q.shape[1] % k.shape[1] == 0 : q.shape[1] == 0,
           "query heads a multiple of key heads",
           std::to_string(q.shape[1]) + " and " + std::to_string(k.shape[1]));
  c.expect(q.shape[2] < (int64_t{1} << 32) && k.shape[2] < (int64_t{1} << 32), "lengths below 2^32",
           shape_text(q, 4) + " and " + shape_text(k, 4));
  c.expect(p.dropout_p >= 0 && p.dropout_p < 1, "dropout_p in [0, 1)", std::to_string(p.dropout_p));
  c.expect(std::isfinite(p.score_mod.scale), "a finite scale", std::to_string(p.score_mod.scale));

  if (p.plans == nullptr || p.plans->empty()) {
    c.expect(false, "plans of the pattern", "none");
    return;
  }
  for (const auto& plan : p.plans->plans()) {
    c.expect(
        plan->q_len() == q.shape[2] && plan->kv_len() == k.shape[2],
        "plans for q_len " + std::to_string(q.shape[2]) + ", kv_len " + std::to_string(k.shape[2]),
        "q_len " + std::to_string(plan->q_len()) + ", kv_len " + std::to_string(plan->kv_len()));
  }
}

void expect_outputs(Conditions& c, const AttentionProblem& p, const AttentionOutputs& out) {
  const TensorView& q = p.q;
  c.expect_data("o", out.o);
  c.expect_type("o", out.o, q.dtype);
  c.expect_shape("o", out.o, q.shape[0], q.shape[1], q.shape[2], p.v.shape[3], "[B, Hq, Sq, Dv]");
  c.expect_data("lse", out.lse);
  c.expect_type("lse", out.lse, q.dtype == DType::kF64 ? DType::kF64 : DType::kF32);
  c.expect_shape("lse", out.lse, q.shape[0], q.shape[1], q.shape[2], 0, "[B, Hq, Sq]");
}

void expect_like(Conditions& c, const char* name, const TensorView& t, const TensorView& like) {
  c.expect_data(name, t);
  c.expect_type(name, t, like.dtype);
  c.expect_shape(name, t, like.shape[0], like.shape[1], like.shape[2], like.shape[3],
                 "[B, H, S, D]");
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
                                          const AttentionGradients& gradients) {
  Conditions c("attention_backward");
  expect_problem(c, problem);
  expect_outputs(c, problem, outputs);
  expect_like(c, "d_o", gradients.d_o, outputs.o);
  if (!gradients.d_lse.empty()) {
    const TensorView& lse = outputs.lse;
    c.expect_type("d_lse", gradients.d_lse, lse.dtype);
    c.expect_shape("d_lse", gradients.d_lse, lse.shape[0], lse.shape[1], lse.shape[2], 0,
                   "[B, Hq, Sq]");
  }
  expect_like(c, "d_q", gradients.d_q, problem.q);
  expect_like(c, "d_k", gradients.d_k, problem.k);
  expect_like(c, "d_v", gradients.d_v, problem.v);
  return c.take();
}

}  // namespace fovea
