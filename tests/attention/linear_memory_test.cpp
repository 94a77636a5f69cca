// Memories outside a window on every engine of the machine against the oracle, and what they
// promise.
#include "fovea/attention/linear_memory.h"

#include <limits>

#include "tests/support/attention_problem.h"
#include "tests/support/engines.h"
#include "tests/support/linear_attention_problem.h"
#include "tests/support/tolerance.h"
#include <gmock/gmock.h>

#include "fovea/reference/linear_memory_reference.h"

namespace fovea::testing {
namespace {

struct MemoryCase {
  int64_t batch = 1, heads = 2, kv_heads = 2, len = 70, head_dim = 16, value_dim = 16, left = 1,
          right = 0;
  DType dtype = DType::kF32;
  FeatureMap map = FeatureMap::kEluPlusOne;
  std::vector<int32_t> bounds;
  int64_t pad = 0, offset = 0;
  bool bshd = false;

  std::string to_string() const {
    return "b" + std::to_string(batch) + "_s" + std::to_string(len) + "_d" +
           std::to_string(head_dim) + "_v" + std::to_string(value_dim) + "_left" +
           std::to_string(left) + "_right" + std::to_string(right) + "_" + name_of(dtype) + "_" +
           name_of(map);
  }
};

/// Tensors of a case. o and lse are filled afresh before every forward, which overwrites them.
struct MemoryTensors {
  explicit MemoryTensors(const MemoryCase& the_case)
      : c(the_case),
        q(rows(c.head_dim)),
        k(key_rows(c.head_dim)),
        v(key_rows(c.value_dim)),
        gain(numbers()),
        o(rows(c.value_dim)),
        lse(numbers()),
        d_o(rows(c.value_dim)),
        d_lse(numbers()),
        d_q(rows(c.head_dim)),
        d_k(key_rows(c.head_dim)),
        d_v(key_rows(c.value_dim)),
        d_gain(numbers()) {
    uint32_t i = 100;
    for (Tensor* t : {&q, &k, &v, &gain, &d_o, &d_lse}) t->fill(i++);
    if (c.map == FeatureMap::kIdentity) {  // weights are positive
      for (Tensor* t : {&q, &k}) {
        for (int64_t b = 0; b < c.batch; ++b) {
          for (int64_t h = 0; h < t->view().shape[1]; ++h) {
            for (int64_t s = 0; s < c.len; ++s) {
              for (int64_t d = 0; d < c.head_dim; ++d) {
                t->put(b, h, s, d, std::fabs(t->get(b, h, s, d)));
              }
            }
          }
        }
      }
    }
    begin();
  }
  MemoryTensors(const MemoryTensors&) = delete;

  DType type() const { return c.dtype == DType::kF64 ? DType::kF64 : DType::kF32; }
  Tensor rows(int64_t dim) const {
    return Tensor(c.dtype, c.batch, c.heads, c.len, dim, c.bshd, c.pad, c.offset);
  }
  Tensor key_rows(int64_t dim) const {
    return Tensor(c.dtype, c.batch, c.kv_heads, c.len, dim, c.bshd, c.pad, c.offset);
  }
  Tensor numbers() const { return Tensor(type(), c.batch, c.heads, c.len, 1); }

  /// The window's result; the first token of every 7 has seen nothing.
  void begin() {
    o.fill(200);
    lse.fill(201);
    for (int64_t b = 0; b < c.batch; ++b) {
      for (int64_t h = 0; h < c.heads; ++h) {
        for (int64_t s = 0; s < c.len; ++s) {
          lse.put(b, h, s, 0, lse.get(b, h, s, 0) + 4);  // as large as the memory
          if (s % 7 != 0) continue;
          lse.put(b, h, s, 0, -std::numeric_limits<double>::infinity());
          for (int64_t d = 0; d < c.value_dim; ++d) o.put(b, h, s, d, 0);
        }
      }
    }
  }

  LinearMemoryProblem problem() const {
    LinearMemoryProblem p;
    p.q = q.view();
    p.k = k.view();
    p.v = v.view();
    p.gain = gain.view();
    p.cu_seqlens = c.bounds;
    p.map = c.map;
    p.left = c.left;
    p.right = c.right;
    return p;
  }
  LinearMemoryResult result() const { return {o.view(), lse.view()}; }
  LinearMemoryGradients gradients() const {
    return {d_o.view(), d_lse.view(), d_q.view(), d_k.view(), d_v.view(), d_gain.view()};
  }

  reference::MemoryProblem oracle() const {
    reference::MemoryProblem p;
    p.batch = c.batch;
    p.heads = c.heads;
    p.len = c.len;
    p.head_dim = c.head_dim;
    p.value_dim = c.value_dim;
    p.q = q.values();
    p.k = repeated(k.values());
    p.v = repeated(v.values());
    p.gain = gain.values();
    p.o = o.values();
    p.lse = lse.values();
    p.map = c.map;
    p.left = c.left;
    p.right = c.right;
    p.cu_seqlens.assign(c.bounds.begin(), c.bounds.end());
    return p;
  }

  /// Key heads for each of their query heads, and what those give summed up.
  std::vector<double> repeated(const std::vector<double>& x) const {
    std::vector<double> out;
    const auto block = std::ssize(x) / (c.batch * c.kv_heads);
    for (int64_t i = 0; i < c.batch * c.heads; ++i) {
      const auto from = x.begin() + i / (c.heads / c.kv_heads) * block;
      out.insert(out.end(), from, from + block);
    }
    return out;
  }
  std::vector<double> summed(const std::vector<double>& x) const {
    const auto block = std::ssize(x) / (c.batch * c.heads);
    std::vector<double> out(x.size() * c.kv_heads / c.heads);
    for (int64_t i = 0; i < std::ssize(x); ++i) {
      out[i / block / (c.heads / c.kv_heads) * block + i % block] += x[i];
    }
    return out;
  }

  void run() {
    begin();
    Status status = linear_memory_forward(problem(), result());
    ASSERT_TRUE(status.ok()) << status.message();
    status = linear_memory_backward(problem(), result(), gradients());
    ASSERT_TRUE(status.ok()) << status.message();
  }

  MemoryCase c;
  Tensor q, k, v, gain, o, lse, d_o, d_lse, d_q, d_k, d_v, d_gain;
};

/// What the oracle says, and the sums of absolute values that rounding errors are relative to.
struct Expectation {
  explicit Expectation(MemoryTensors& t) {
    t.begin();
    reference::MemoryProblem p = t.oracle();
    const auto d_o = t.d_o.values(), d_lse = t.d_lse.values();
    forward = reference::linear_memory_forward(p);
    backward = reference::linear_memory_backward(p, d_o, d_lse);
    p.v = absolute(p.v);
    p.o = absolute(p.o);
    sizes = reference::linear_memory_forward(p);
    std::vector<double> most = absolute(d_lse);
    for (size_t i = 0; i < d_o.size(); ++i) {  // the oracle subtracts d_o · o
      most[i / static_cast<size_t>(p.value_dim)] += 2 * std::fabs(d_o[i]) * sizes.o[i];
    }
    d_sizes = reference::linear_memory_backward(p, absolute(d_o), most);
  }

  static std::vector<double> absolute(std::vector<double> x) {
    for (double& value : x) value = std::fabs(value);
    return x;
  }

  reference::MemoryForward forward, sizes;
  reference::MemoryBackward backward, d_sizes;
};

/// Every result is a sum of products of which a size is the sum of absolute values; rounding errors
/// of n terms add like a random walk, 8 stands for map, exponential and logarithm. Operands rounded
/// to bf16 bring half a spacing each: 5 of the forward, for the gradients 4 more, once a side.
/// Storage types of 16 bits round o, and the gradients of keys and queries, once for each side, and
/// the backward reads the rounded o.
void check(MemoryTensors& t, const Expectation& e) {
  const MemoryCase& c = t.c;
  const double factor =
      eps(t.type()) * (8 + std::sqrt(static_cast<double>(c.head_dim + c.value_dim + c.len)));
  const double storage = t.type() == c.dtype ? 0 : eps(c.dtype) / 2;
  const double operand = rounds_operands(c.dtype, false) ? eps(DType::kBF16) / 2 : 0;
  t.run();
  const auto expect = [&](const char* what, const Tensor& got, const std::vector<double>& wanted,
                          const std::vector<double>& size, double stored, int operands) {
    const std::vector<double> values = got.values();
    ASSERT_EQ(values.size(), wanted.size()) << what;
    for (size_t i = 0; i < values.size(); ++i) {
      if (values[i] == wanted[i]) continue;  // -inf
      ASSERT_LE(std::fabs(values[i] - wanted[i]),
                (factor + stored + operands * operand) * size[i] + stored * 0x1p-15)
          << what << " element " << i << ": " << values[i] << ", oracle " << wanted[i];
    }
  };
  std::vector<double> logs;
  for (const double x : e.forward.lse) logs.push_back(1 + std::fabs(x));
  const reference::MemoryBackward &g = e.backward, &sizes = e.d_sizes;
  const double group = static_cast<double>(c.heads / c.kv_heads);  // stored as often
  expect("o", t.o, e.forward.o, e.sizes.o, 2 * storage, 10);
  expect("lse", t.lse, e.forward.lse, logs, 0, 4);
  expect("d_q", t.d_q, g.d_q, sizes.d_q, 3 * storage, 18);
  expect("d_k", t.d_k, t.summed(g.d_k), t.summed(sizes.d_k), (1 + 2 * group) * storage, 18);
  expect("d_v", t.d_v, t.summed(g.d_v), t.summed(sizes.d_v), (1 + 2 * group) * storage, 18);
  expect("d_gain", t.d_gain, g.d_gain, sizes.d_gain, storage, 18);
}

void check_everywhere(MemoryCase c) {
  for (const DType dtype : {DType::kF32, DType::kBF16, DType::kF16, DType::kF64}) {
    c.dtype = dtype;
    MemoryTensors t(c);
    const Expectation expected(t);
    for (const Isa isa : runnable_isas()) {
      if (dtype == DType::kF64 && isa != Isa::kScalar) continue;
      const ForcedIsa forced(isa);
      SCOPED_TRACE(c.to_string() + " on " + name_of(isa));
      check(t, expected);
      if (::testing::Test::HasFatalFailure()) return;
    }
  }
}

TEST(LinearMemory, MatchesOracleForEveryWindow) {
  for (const FeatureMap map : {FeatureMap::kIdentity, FeatureMap::kEluPlusOne, FeatureMap::kRelu}) {
    for (const auto& [left, right] :
         {std::pair{1, 0}, {5, 0}, {0, 3}, {6, 6}, {17, 1}, {40, 50}, {69, 70}, {0, 0}}) {
      MemoryCase c;
      c.map = map;
      c.left = left;
      c.right = right;
      check_everywhere(c);
      if (HasFatalFailure()) return;
    }
  }
}

TEST(LinearMemory, MatchesOracleForSizesAndStrides) {
  for (const int64_t len : {1, 16, 33, 50}) {
    for (const auto& [head_dim, value_dim] : {std::pair{8, 40}, {24, 8}, {128, 72}}) {
      MemoryCase c;
      c.batch = 2;
      c.len = len;
      c.head_dim = head_dim;
      c.value_dim = value_dim;
      c.left = 4;
      c.right = 9;
      c.pad = 3;
      c.offset = 5;
      c.bshd = true;
      check_everywhere(c);
      if (HasFatalFailure()) return;
    }
  }
}

TEST(LinearMemory, KeyHeadsAreShared) {
  for (const int64_t kv_heads : {1, 2}) {
    for (const auto& [left, right] : {std::pair{7, 0}, {0, 7}, {3, 5}}) {
      MemoryCase c;
      c.batch = 2;
      c.heads = 6;
      c.kv_heads = kv_heads;
      c.left = left;
      c.right = right;
      check_everywhere(c);
      if (HasFatalFailure()) return;
    }
  }
}

TEST(LinearMemory, DocumentsDoNotMeet) {
  MemoryCase c;
  c.left = 3;
  c.right = 5;
  c.bounds = {0, 1, 1, 4, 21, 70};
  check_everywhere(c);
}

TEST(LinearMemory, BitsDoNotDependOnThreads) {
  MemoryCase c;
  c.heads = c.kv_heads = 5;
  c.len = 600;
  c.left = 30;
  c.right = 11;
  MemoryTensors one(c), many(c);
  {
    const ForcedThreads threads(1);
    one.run();
  }
  const ForcedThreads threads(4);
  many.run();
  for (auto [x, y] : {std::pair{&one.o, &many.o},
                      {&one.lse, &many.lse},
                      {&one.d_q, &many.d_q},
                      {&one.d_k, &many.d_k},
                      {&one.d_v, &many.d_v},
                      {&one.d_gain, &many.d_gain}}) {
    EXPECT_EQ(x->values(), y->values());
  }
}

// What the window did not see and the memory does not hold is nothing: rows keep their bits. A
// gain of -inf is a memory without weight, a window whose scores are huge leaves it none.
TEST(LinearMemory, WithoutWeightChangesNothing) {
  MemoryCase c;
  c.left = 10;
  for (const double gain : {-std::numeric_limits<double>::infinity(), -200.0}) {
    MemoryTensors t(c);
    for (int64_t h = 0; h < c.heads; ++h) {
      for (int64_t s = 0; s < c.len; ++s) t.gain.put(0, h, s, 0, gain);
    }
    t.begin();
    const auto o = t.o.values(), lse = t.lse.values();
    t.run();
    const auto joined = t.o.values(), joined_lse = t.lse.values();
    for (size_t i = 0; i < lse.size(); ++i) {
      const bool seen = i % 70 % 7 != 0;  // others take what little the memory gives
      if (!seen) continue;
      EXPECT_EQ(joined_lse[i], lse[i]);
      for (size_t d = 0; d < 16; ++d) EXPECT_EQ(joined[i * 16 + d], o[i * 16 + d]);
    }
    for (const Tensor* x : {&t.d_q, &t.d_k, &t.d_v, &t.d_gain}) {
      for (const double value : x->values()) ASSERT_TRUE(std::isfinite(value)) << gain;
    }
  }
}

TEST(LinearMemory, ScoresOfAnySizeStayFinite) {
  MemoryCase c;
  c.left = 10;
  for (const double shift : {-300.0, 300.0}) {
    MemoryTensors t(c);
    t.begin();
    for (int64_t h = 0; h < c.heads; ++h) {
      for (int64_t s = 0; s < c.len; ++s) t.lse.put(0, h, s, 0, t.lse.get(0, h, s, 0) + shift);
    }
    ASSERT_TRUE(linear_memory_forward(t.problem(), t.result()).ok());
    ASSERT_TRUE(linear_memory_backward(t.problem(), t.result(), t.gradients()).ok());
    for (const Tensor* x : {&t.o, &t.d_q, &t.d_k, &t.d_v, &t.d_gain}) {
      for (const double value : x->values()) ASSERT_TRUE(std::isfinite(value)) << shift;
    }
  }
}

TEST(LinearMemory, RefusesWhatDoesNotFit) {
  MemoryTensors t({});
  LinearMemoryProblem p = t.problem();
  p.left = -1;
  EXPECT_THAT(std::string(linear_memory_forward(p, t.result()).message()),
              ::testing::HasSubstr("expected left and right of at least 0, got -1 and 0"));
  p = t.problem();
  p.gain.dtype = DType::kF64;
  EXPECT_FALSE(linear_memory_forward(p, t.result()).ok());
  const std::vector<int32_t> bounds = {0, 90};
  p = t.problem();
  p.cu_seqlens = bounds;
  EXPECT_FALSE(linear_memory_backward(p, t.result(), t.gradients()).ok());
}

}  // namespace
}  // namespace fovea::testing
