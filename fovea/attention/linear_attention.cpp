#include "fovea/attention/linear_attention.h"

#include <algorithm>
#include <cmath>

#include "fovea/attention/launch.h"
#include "fovea/attention/linear_launch.h"
#include "fovea/attention/scratch.h"

namespace fovea {
namespace {

using kernels::LinearHead;
using kernels::LinearHeadGradients;
using kernels::LinearKernels;

int64_t sequences_of(const LinearAttentionProblem& p) {
  return p.cu_seqlens_q.empty() ? p.q.shape[0] : static_cast<int64_t>(p.cu_seqlens_q.size()) - 1;
}

// ---- conditions --------------------------------------------------------------------------------

void expect_state(Conditions& c, const char* name, const TensorView& t,
                  const LinearAttentionProblem& p) {
  const int64_t columns = p.v.shape[3] + (p.normalise ? 1 : 0);
  c.expect_type(name, t, linear_state_type(p.q.dtype));
  c.expect_shape(name, t, p.normalise ? "[N, H, D, Dv + 1]" : "[N, H, D, Dv]", 4, sequences_of(p),
                 p.q.shape[1], p.q.shape[3], columns);
  const int64_t dense[4] = {t.shape[1] * t.shape[2] * t.shape[3], t.shape[2] * t.shape[3],
                            t.shape[3], 1};
  for (int i = 0; i < 4; ++i) {
    if (t.shape[i] > 1 && t.strides[i] != dense[i]) {
      return c.add(std::string("a contiguous ") + name,
                   "stride " + std::to_string(t.strides[i]) + " of dimension " + std::to_string(i));
    }
  }
}

void expect_sequences(Conditions& c, const LinearAttentionProblem& p) {
  if (p.causal && p.q.shape[2] != p.k.shape[2]) {
    c.add("q and k of one length when causal",
          std::to_string(p.q.shape[2]) + " and " + std::to_string(p.k.shape[2]));
  }
  if (p.cu_seqlens_q.empty() && p.cu_seqlens_k.empty()) return;
  if (p.q.shape[0] != 1) c.add("a batch of 1 with cu_seqlens", std::to_string(p.q.shape[0]));
  expect_bounds(c, "cu_seqlens_q", p.cu_seqlens_q, p.q.shape[2]);
  expect_bounds(c, "cu_seqlens_k", p.cu_seqlens_k, p.k.shape[2]);
  if (p.cu_seqlens_q.size() != p.cu_seqlens_k.size()) {
    c.add("as many documents of q as of k", std::to_string(p.cu_seqlens_q.size()) + " and " +
                                                std::to_string(p.cu_seqlens_k.size()) + " bounds");
  } else if (p.causal &&
             !std::equal(p.cu_seqlens_q.begin(), p.cu_seqlens_q.end(), p.cu_seqlens_k.begin())) {
    c.add("the same documents of q and k when causal", "different bounds");
  }
}

void expect_problem(Conditions& c, const LinearAttentionProblem& p) {
  const TensorView &q = p.q, &k = p.k, &v = p.v;
  c.expect_operands(q, k, v);
  c.expect_shape("k", k, "[B, H, Sk, D]", 4, q.shape[0], q.shape[1], k.shape[2], q.shape[3]);
  c.expect_shape("v", v, "[B, H, Sk, Dv]", 4, q.shape[0], q.shape[1], k.shape[2], v.shape[3]);
  expect_sequences(c, p);
  if (!p.decay.empty()) {
    if (!p.causal) c.add("no decay unless causal", "a decay");
    c.expect_type("decay", p.decay, linear_state_type(p.q.dtype));
    const bool by_channel = p.decay.shape[3] != 1;
    c.expect_shape("decay", p.decay, by_channel ? "[B, H, S, D]" : "[B, H, S]", by_channel ? 4 : 3,
                   q.shape[0], q.shape[1], k.shape[2], by_channel ? q.shape[3] : 1);
    if (by_channel && p.decay.strides[3] != 1) {
      c.add("a contiguous last dimension of decay", "stride " + std::to_string(p.decay.strides[3]));
    }
  }
  if (!p.beta.empty()) {
    if (!p.causal) c.add("no delta writes unless causal", "a beta");
    if (p.normalise) c.add("no normaliser with delta writes", "normalise");
    c.expect_type("beta", p.beta, linear_state_type(p.q.dtype));
    c.expect_shape("beta", p.beta, "[B, H, S]", 3, q.shape[0], q.shape[1], k.shape[2], 1);
  }
  if (!p.initial_state.empty()) expect_state(c, "initial_state", p.initial_state, p);
  if (!std::isfinite(p.scale) || (p.normalise && p.scale != 1)) {
    c.add(p.normalise ? "a scale of 1 with the normaliser" : "a finite scale",
          std::to_string(p.scale));
  }
  if (!(p.eps >= 0 && std::isfinite(p.eps))) c.add("a finite eps >= 0", std::to_string(p.eps));
}

void expect_outputs(Conditions& c, const LinearAttentionProblem& p,
                    const LinearAttentionOutputs& out) {
  const TensorView& q = p.q;
  c.expect_data("o", out.o);
  c.expect_type("o", out.o, q.dtype);
  c.expect_shape("o", out.o, "[B, H, Sq, Dv]", 4, q.shape[0], q.shape[1], q.shape[2], p.v.shape[3]);
  if (p.normalise) {
    c.expect_data("denominator", out.denominator);
    c.expect_type("denominator", out.denominator, linear_state_type(p.q.dtype));
    c.expect_shape("denominator", out.denominator, "[B, H, Sq]", 3, q.shape[0], q.shape[1],
                   q.shape[2], 1);
  }
  if (!out.final_state.empty()) expect_state(c, "final_state", out.final_state, p);
}

void expect_like(Conditions& c, const char* name, const TensorView& t, const TensorView& like) {
  c.expect_data(name, t);
  c.expect_type(name, t, like.dtype);
  c.expect_shape(name, t, "[B, H, S, D]", 4, like.shape[0], like.shape[1], like.shape[2],
                 like.shape[3]);
}

void expect_gradients(Conditions& c, const LinearAttentionProblem& p,
                      const LinearAttentionOutputs& out, const LinearAttentionGradients& g) {
  expect_like(c, "d_o", g.d_o, out.o);
  expect_like(c, "d_q", g.d_q, p.q);
  expect_like(c, "d_k", g.d_k, p.k);
  expect_like(c, "d_v", g.d_v, p.v);
  const auto expect_of = [&](const std::string& name, const TensorView& x, const TensorView& d_x) {
    if (x.empty() != d_x.empty()) {
      c.add(x.empty() ? "no d_" + name + " without a " + name : "d_" + name + " with a " + name,
            d_x.empty() ? "none" : "one");
    } else if (!x.empty()) {
      expect_like(c, ("d_" + name).c_str(), d_x, x);
    }
  };
  expect_of("decay", p.decay, g.d_decay);
  expect_of("beta", p.beta, g.d_beta);
  if (!g.d_final_state.empty()) expect_state(c, "d_final_state", g.d_final_state, p);
  if (!g.d_initial_state.empty()) expect_state(c, "d_initial_state", g.d_initial_state, p);
}

// ---- heads -------------------------------------------------------------------------------------

/// One head of one sequence as a task.
struct Task {
  int64_t sequence, head, batch;
  int64_t q_begin, q_len, k_begin, kv_len;
};

std::vector<Task> make_tasks(const LinearAttentionProblem& p) {
  std::vector<Task> tasks;
  const bool packed = !p.cu_seqlens_q.empty();
  for (int64_t n = 0; n < sequences_of(p); ++n) {
    Task task = {n, 0, packed ? 0 : n, 0, p.q.shape[2], 0, p.k.shape[2]};
    if (packed) {
      task.q_begin = p.cu_seqlens_q[n];
      task.q_len = p.cu_seqlens_q[n + 1] - task.q_begin;
      task.k_begin = p.cu_seqlens_k[n];
      task.kv_len = p.cu_seqlens_k[n + 1] - task.k_begin;
    }
    for (task.head = 0; task.head < p.q.shape[1]; ++task.head) tasks.push_back(task);
  }
  std::stable_sort(tasks.begin(), tasks.end(), [](const Task& x, const Task& y) {
    return x.q_len + x.kv_len > y.q_len + y.kv_len;
  });
  return tasks;
}

template <typename T>
T* state_of(const TensorView& t, const Task& task) {
  if (t.empty()) return nullptr;
  return static_cast<T*>(t.data) +
         (task.sequence * t.shape[1] + task.head) * t.shape[2] * t.shape[3];
}

template <typename T>
LinearHead<T> head_of(const LinearAttentionProblem& p, const LinearAttentionOutputs& out,
                      const Task& task) {
  LinearHead<T> head;
  head.q_len = task.q_len;
  head.kv_len = task.kv_len;
  head.head_dim = static_cast<int>(p.q.shape[3]);
  head.value_dim = static_cast<int>(p.v.shape[3]);
  head.dtype = p.q.dtype;
  head.map = p.map;
  head.causal = p.causal;
  head.normalise = p.normalise;
  head.scale = static_cast<T>(p.scale);
  head.eps = static_cast<T>(p.eps);
  head.q = rows_at(p.q, task.batch, task.head, task.q_begin);
  head.k = rows_at(p.k, task.batch, task.head, task.k_begin);
  head.v = rows_at(p.v, task.batch, task.head, task.k_begin);
  head.o = rows_at(out.o, task.batch, task.head, task.q_begin);
  head.decay = values_at<const T>(p.decay, task.batch, task.head, task.k_begin);
  head.decay_by_channel = !p.decay.empty() && p.decay.shape[3] != 1;
  head.beta = values_at<const T>(p.beta, task.batch, task.head, task.k_begin);
  head.denominator = values_at<T>(p.normalise ? out.denominator : TensorView{}, task.batch,
                                  task.head, task.q_begin);
  head.initial_state = state_of<T>(p.initial_state, task);
  head.final_state = state_of<T>(out.final_state, task);
  return head;
}

/// Runs `body(head, task)` for every head of every sequence, with `scratch_of(head)` elements of
/// scratch each.
template <typename T, typename ScratchOf, typename Body>
void for_each_head(const LinearAttentionProblem& p, const LinearAttentionOutputs& out,
                   double flop_per_step, const ScratchOf& scratch_of, const Body& body) {
  const std::vector<Task> tasks = make_tasks(p);
  const double steps =
      static_cast<double>(p.q.shape[0] * p.q.shape[1]) * static_cast<double>(p.k.shape[2]);
  run_tasks(static_cast<int64_t>(tasks.size()), steps * flop_per_step, [&](int64_t i) {
    const Task& task = tasks[static_cast<size_t>(i)];
    LinearHead<T> head = head_of<T>(p, out, task);
    const auto size = static_cast<size_t>(scratch_of(head));
    Scratch scratch(Scratch::bytes_of<T>(size));
    head.scratch = scratch.take<T>(0);
    body(head, task);
  });
}

/// Multiply-adds of one step of one head through the state, times two.
double flop_per_step(const LinearAttentionProblem& p) {
  return (p.beta.empty() ? 4.0 : 6.0) * static_cast<double>(p.q.shape[3] * p.v.shape[3]);
}

template <typename T>
int64_t forward_scratch(const LinearHead<T>& head) {
  return kernels::linear_scratch(head.head_dim, head.value_dim);
}
template <typename T>
int64_t backward_scratch(const LinearHead<T>& head) {
  return head.beta.data ? kernels::linear_delta_scratch(head.head_dim, head.value_dim, head.kv_len)
                        : forward_scratch(head);
}

template <typename T>
void forward(const LinearAttentionProblem& p, const LinearAttentionOutputs& out,
             const LinearKernels<T>& kernels) {
  for_each_head<T>(p, out, flop_per_step(p), forward_scratch<T>,
                   [&](const LinearHead<T>& head, const Task&) { kernels.forward(head); });
}

template <typename T>
void step(const LinearAttentionProblem& p, const LinearAttentionOutputs& out,
          const LinearKernels<T>& kernels) {
  for_each_head<T>(p, out, flop_per_step(p), forward_scratch<T>,
                   [&](const LinearHead<T>& head, const Task&) { kernels.step(head); });
}

template <typename T>
void backward(const LinearAttentionProblem& p, const LinearAttentionOutputs& out,
              const LinearAttentionGradients& g, const LinearKernels<T>& kernels) {
  const auto body = [&](const LinearHead<T>& head, const Task& task) {
    LinearHeadGradients<T> gradients;
    gradients.d_o = rows_at(g.d_o, task.batch, task.head, task.q_begin);
    gradients.d_q = rows_at(g.d_q, task.batch, task.head, task.q_begin);
    gradients.d_k = rows_at(g.d_k, task.batch, task.head, task.k_begin);
    gradients.d_v = rows_at(g.d_v, task.batch, task.head, task.k_begin);
    gradients.d_decay = values_at<T>(g.d_decay, task.batch, task.head, task.k_begin);
    gradients.d_beta = values_at<T>(g.d_beta, task.batch, task.head, task.k_begin);
    gradients.d_final_state = state_of<T>(g.d_final_state, task);
    gradients.d_initial_state = state_of<T>(g.d_initial_state, task);
    kernels.backward(head, gradients);
  };
  for_each_head<T>(p, out, 3 * flop_per_step(p), backward_scratch<T>, body);
}

}  // namespace

std::vector<std::string> unmet_conditions(const LinearAttentionProblem& problem,
                                          const LinearAttentionOutputs& outputs) {
  Conditions c("linear_attention");
  expect_problem(c, problem);
  expect_outputs(c, problem, outputs);
  return c.take();
}

Status linear_attention_forward(const LinearAttentionProblem& problem,
                                const LinearAttentionOutputs& outputs) {
  if (const auto unmet = unmet_conditions(problem, outputs); !unmet.empty()) return invalid(unmet);
  return run_linear(problem.q.dtype, !problem.beta.empty(),
                    [&](const auto& kernels) { forward(problem, outputs, kernels); });
}

Status linear_attention_step(const LinearAttentionProblem& problem,
                             const LinearAttentionOutputs& outputs) {
  Conditions c("linear_attention_step");
  expect_problem(c, problem);
  expect_outputs(c, problem, outputs);
  if (!problem.causal || problem.q.shape[2] != 1 || !problem.cu_seqlens_q.empty()) {
    c.add("a causal problem of one row a sequence, not packed",
          std::to_string(problem.q.shape[2]) + " rows");
  }
  if (problem.initial_state.empty() || outputs.final_state.empty()) {
    c.add("an initial and a final state", "none");
  }
  if (const auto unmet = c.take(); !unmet.empty()) return invalid(unmet);
  return run_linear(problem.q.dtype, !problem.beta.empty(),
                    [&](const auto& kernels) { step(problem, outputs, kernels); });
}

Status linear_attention_backward(const LinearAttentionProblem& problem,
                                 const LinearAttentionOutputs& outputs,
                                 const LinearAttentionGradients& gradients) {
  Conditions c("linear_attention_backward");
  expect_problem(c, problem);
  expect_outputs(c, problem, outputs);
  expect_gradients(c, problem, outputs, gradients);
  if (const auto unmet = c.take(); !unmet.empty()) return invalid(unmet);
  return run_linear(problem.q.dtype, !problem.beta.empty(),
                    [&](const auto& kernels) { backward(problem, outputs, gradients, kernels); });
}

}  // namespace fovea
