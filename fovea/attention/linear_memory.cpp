// A memory of a window is causal linear attention whose keys lag behind its queries: rows of
// queries and keys that begin `left` apart; the right side is the same with all rows backwards.
#include "fovea/attention/linear_memory.h"

#include <cstring>

#include "fovea/attention/launch.h"
#include "fovea/attention/linear_launch.h"
#include "fovea/attention/scratch.h"

namespace fovea {
namespace {

using kernels::LinearHead;
using kernels::LinearHeadGradients;
using kernels::LinearKernels;

// ---- conditions --------------------------------------------------------------------------------

void expect_rows(Conditions& c, const char* name, const TensorView& t, const TensorView& q) {
  c.expect_data(name, t);
  c.expect_type(name, t, linear_state_type(q.dtype));
  c.expect_shape(name, t, "[B, H, S]", 3, q.shape[0], q.shape[1], q.shape[2], 1);
}

void expect_like(Conditions& c, const char* name, const TensorView& t, const TensorView& like) {
  c.expect_data(name, t);
  c.expect_type(name, t, like.dtype);
  c.expect_shape(name, t, "[B, H, S, D]", 4, like.shape[0], like.shape[1], like.shape[2],
                 like.shape[3]);
}

void expect_problem(Conditions& c, const LinearMemoryProblem& p, const LinearMemoryResult& r) {
  const TensorView& q = p.q;
  c.expect_operands(q, p.k, p.v);
  const int64_t kv_heads = p.k.shape[1];
  c.expect_shape("k", p.k, "[B, Hkv, S, D]", 4, q.shape[0], kv_heads, q.shape[2], q.shape[3]);
  c.expect_shape("v", p.v, "[B, Hkv, S, Dv]", 4, q.shape[0], kv_heads, q.shape[2], p.v.shape[3]);
  if (kv_heads < 1 || q.shape[1] % kv_heads != 0) {
    c.add("heads of k and v that divide those of q",
          std::to_string(kv_heads) + " and " + std::to_string(q.shape[1]));
  }
  expect_rows(c, "gain", p.gain, q);
  TensorView o = q;
  o.shape[3] = p.v.shape[3];
  expect_like(c, "o", r.o, o);
  expect_rows(c, "lse", r.lse, q);
  if (p.left < 0 || p.right < 0) {
    c.add("left and right of at least 0",
          std::to_string(p.left) + " and " + std::to_string(p.right));
  }
  if (p.cu_seqlens.empty()) return;
  if (q.shape[0] != 1) c.add("a batch of 1 with cu_seqlens", std::to_string(q.shape[0]));
  expect_bounds(c, "cu_seqlens", p.cu_seqlens, q.shape[2]);
}

// ---- heads -------------------------------------------------------------------------------------

/// The query heads of one key head in one sequence as a task: their gradients meet.
struct Task {
  int64_t batch, kv_head, begin, len;
  int64_t head = 0;  ///< of the queries
};

std::vector<Task> make_tasks(const LinearMemoryProblem& p) {
  std::vector<Task> tasks;
  const bool packed = !p.cu_seqlens.empty();
  const int64_t sequences = packed ? std::ssize(p.cu_seqlens) - 1 : p.q.shape[0];
  for (int64_t n = 0; n < sequences; ++n) {
    Task task = {n, 0, 0, p.q.shape[2]};
    if (packed) task = {0, 0, p.cu_seqlens[n], p.cu_seqlens[n + 1] - p.cu_seqlens[n]};
    for (task.kv_head = 0; task.kv_head < p.k.shape[1]; ++task.kv_head) tasks.push_back(task);
  }
  std::stable_sort(tasks.begin(), tasks.end(),
                   [](const Task& x, const Task& y) { return x.len > y.len; });
  return tasks;
}

/// One side of a head: query rows q_begin, q_begin + step, … beside key rows k_begin, …; the
/// others of both are strangers to this side.
struct Side {
  int64_t rows, q_begin, k_begin, step;
  int64_t q_rest, k_rest, rest;  ///< where the `rest` rows of either begin that take no part
};

Side left_side(const LinearMemoryProblem& p, const Task& t) {
  const int64_t rest = std::min(p.left == 0 ? t.len : p.left, t.len);
  return {t.len - rest, t.begin + rest, t.begin, 1, t.begin, t.begin + t.len - rest, rest};
}

Side right_side(const LinearMemoryProblem& p, const Task& t) {
  const int64_t rest = std::min(p.right == 0 ? t.len : p.right, t.len);
  const int64_t rows = t.len - rest;
  return {rows, t.begin + rows - 1, t.begin + t.len - 1, -1, t.begin + rows, t.begin, rest};
}

template <typename T>
LinearHead<T> head_of(const LinearMemoryProblem& p, const LinearMemoryResult& r, const Task& task,
                      const Side& side, T* scratch) {
  const int64_t b = task.batch, h = task.head;
  LinearHead<T> head = {};
  head.q_len = head.kv_len = side.rows;
  head.head_dim = static_cast<int>(p.q.shape[3]);
  head.value_dim = static_cast<int>(p.v.shape[3]);
  head.dtype = p.q.dtype;
  head.map = p.map;
  head.causal = head.normalise = true;
  head.q = rows_at(p.q, b, h, side.q_begin, side.step);
  head.k = rows_at(p.k, b, task.kv_head, side.k_begin, side.step);
  head.v = rows_at(p.v, b, task.kv_head, side.k_begin, side.step);
  head.o = rows_at(r.o, b, h, side.q_begin, side.step);
  head.lse = values_at<T>(r.lse, b, h, side.q_begin, side.step);
  head.gain = values_at<const T>(p.gain, b, h, side.q_begin, side.step);
  head.scratch = scratch;
  return head;
}

/// Runs `body(task, scratch, first)` for every head of every sequence; `first` of its key head.
template <typename T, typename Body>
void for_each_head(const LinearMemoryProblem& p, double products, const Body& body) {
  const std::vector<Task> tasks = make_tasks(p);
  const double steps = static_cast<double>(p.q.shape[0] * p.q.shape[1] * p.q.shape[2]);
  const double flop = products * steps * static_cast<double>(p.q.shape[3] * p.v.shape[3]);
  const auto size = static_cast<size_t>(
      kernels::linear_scratch(static_cast<int>(p.q.shape[3]), static_cast<int>(p.v.shape[3])));
  run_tasks(std::ssize(tasks), flop, [&](int64_t i) {
    Scratch scratch(Scratch::bytes_of<T>(size));
    T* panels = scratch.take<T>(0);
    Task task = tasks[static_cast<size_t>(i)];
    const int64_t group = p.q.shape[1] / p.k.shape[1];
    for (int64_t n = 0; n < group; ++n) {
      task.head = task.kv_head * group + n;
      body(task, panels, n == 0);
    }
  });
}

template <typename T>
void forward(const LinearMemoryProblem& p, const LinearMemoryResult& r,
             const LinearKernels<T>& kernels) {
  for_each_head<T>(p, 8, [&](const Task& task, T* scratch, bool) {
    for (const Side& side : {left_side(p, task), right_side(p, task)}) {
      if (side.rows > 0) kernels.forward(head_of<T>(p, r, task, side, scratch));
    }
  });
}

void clear_rows(const TensorView& t, int64_t batch, int64_t head, int64_t begin, int64_t rows) {
  const int64_t bytes = t.shape[3] * size_of(t.dtype);
  for (int64_t i = 0; i < rows; ++i) {
    std::memset(rows_at(t, batch, head, begin + i).data, 0, static_cast<size_t>(bytes));
  }
}

template <typename T>
void backward(const LinearMemoryProblem& p, const LinearMemoryResult& r,
              const LinearMemoryGradients& g, const LinearKernels<T>& kernels) {
  const auto body = [&](const Task& task, T* scratch, bool first) {
    const int64_t b = task.batch, h = task.head;
    const auto run = [&](const Side& side, bool add_q, bool add_k) {
      LinearHeadGradients<T> d = {};
      d.d_o = rows_at(g.d_o, b, h, side.q_begin, side.step);
      d.d_lse = values_at<const T>(g.d_lse, b, h, side.q_begin, side.step);
      d.d_q = rows_at(g.d_q, b, h, side.q_begin, side.step);
      d.d_gain = values_at<T>(g.d_gain, b, h, side.q_begin, side.step);
      d.d_k = rows_at(g.d_k, b, task.kv_head, side.k_begin, side.step);
      d.d_v = rows_at(g.d_v, b, task.kv_head, side.k_begin, side.step);
      d.add_q = add_q;
      d.add_k = add_k;
      kernels.backward(head_of<T>(p, r, task, side, scratch), d);
    };
    const Side left = left_side(p, task), right = right_side(p, task);
    // The first side with rows overwrites them; what it leaves out starts from zeros.
    const Side& rest = left.rows > 0 || right.rows == 0 ? left : right;
    clear_rows(g.d_q, b, h, rest.q_rest, rest.rest);
    clear_rows(g.d_gain, b, h, rest.q_rest, rest.rest);
    if (first) {
      clear_rows(g.d_k, b, task.kv_head, rest.k_rest, rest.rest);
      clear_rows(g.d_v, b, task.kv_head, rest.k_rest, rest.rest);
    }
    if (left.rows > 0) run(left, false, !first);
    if (right.rows > 0) run(right, left.rows > 0, left.rows > 0 || !first);
  };
  for_each_head<T>(p, 24, body);
}

}  // namespace

Status linear_memory_forward(const LinearMemoryProblem& problem, const LinearMemoryResult& result) {
  Conditions c("linear_memory");
  expect_problem(c, problem, result);
  if (const auto unmet = c.take(); !unmet.empty()) return invalid(unmet);
  return run_linear(problem.q.dtype, false,
                    [&](const auto& kernels) { forward(problem, result, kernels); });
}

Status linear_memory_backward(const LinearMemoryProblem& problem, const LinearMemoryResult& result,
                              const LinearMemoryGradients& gradients) {
  Conditions c("linear_memory_backward");
  expect_problem(c, problem, result);
  expect_like(c, "d_o", gradients.d_o, result.o);
  if (!gradients.d_lse.empty()) expect_rows(c, "d_lse", gradients.d_lse, problem.q);
  expect_like(c, "d_q", gradients.d_q, problem.q);
  expect_like(c, "d_k", gradients.d_k, problem.k);
  expect_like(c, "d_v", gradients.d_v, problem.v);
  expect_rows(c, "d_gain", gradients.d_gain, problem.q);
  if (const auto unmet = c.take(); !unmet.empty()) return invalid(unmet);
  return run_linear(problem.q.dtype, false,
                    [&](const auto& kernels) { backward(problem, result, gradients, kernels); });
}

}  // namespace fovea
