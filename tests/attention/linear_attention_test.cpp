// Linear attention on every engine of the machine against the oracle, and what it promises.
#include "fovea/attention/linear_attention.h"

#include <cstring>
#include <limits>

#include "tests/support/engines.h"
#include "tests/support/linear_attention_problem.h"
#include <gmock/gmock.h>

namespace fovea::testing {
namespace {

using ::testing::HasSubstr;

void expect_within(const char* what, const Tensor& got, const LinearExpectation::Bounded& wanted,
                   bool rounded) {
  const std::vector<double> values = got.values();
  if (wanted.value.empty()) return;
  ASSERT_EQ(values.size(), wanted.value.size()) << what;
  for (size_t i = 0; i < values.size(); ++i) {
    ASSERT_LE(std::fabs(values[i] - wanted.value[i]),
              wanted.bound[i] + (rounded ? wanted.rounded[i] : 0))
        << what << " element " << i << ": " << values[i] << ", oracle " << wanted.value[i];
  }
}

void run(const LinearTensors& t) {
  Status status = linear_attention_forward(t.problem(), t.outputs());
  ASSERT_TRUE(status.ok()) << status.message();
  status = linear_attention_backward(t.problem(), t.outputs(), t.gradients());
  ASSERT_TRUE(status.ok()) << status.message();
}

void check(const LinearTensors& t, const LinearExpectation& expected) {
  run(t);
  const bool rounded = rounds_operands(t.c.dtype, t.c.delta);
  const auto expect = [&](const char* what, const Tensor& got,
                          const LinearExpectation::Bounded& wanted) {
    expect_within(what, got, wanted, rounded);
  };
  expect("o", t.o, expected.o);
  expect("denominator", t.denominator, expected.denominator);
  expect("final_state", t.final, expected.final);
  expect("d_q", t.d_q, expected.d_q);
  expect("d_k", t.d_k, expected.d_k);
  expect("d_v", t.d_v, expected.d_v);
  expect("d_decay", t.d_decay, expected.d_decay);
  expect("d_beta", t.d_beta, expected.d_beta);
  expect("d_initial_state", t.d_initial, expected.d_initial);
}

/// A problem of integers, scale 1, against the oracle's results in the storage type.
void run_unscaled(const LinearTensors& t) {
  LinearAttentionProblem p = t.problem();
  p.scale = 1;
  ASSERT_TRUE(linear_attention_forward(p, t.outputs()).ok());
  ASSERT_TRUE(linear_attention_backward(p, t.outputs(), t.gradients()).ok());
  reference::LinearProblem oracle = t.oracle();
  oracle.scale = 1;
  const auto forward = reference::linear_attention_forward(oracle);
  const auto g = reference::linear_attention_backward(oracle, t.d_o.values(), t.d_final.values());
  const auto expect = [&](const char* what, const Tensor& got, const std::vector<double>& wanted) {
    const std::vector<double> values = got.values();
    const bool bf16 = got.view().dtype == DType::kBF16;
    for (size_t i = 0; i < values.size(); ++i) {
      const auto exact = static_cast<float>(wanted[i]);
      ASSERT_EQ(values[i], bf16 ? static_cast<float>(BFloat16(exact)) : exact) << what << " " << i;
    }
  };
  expect("o", t.o, forward.o);
  expect("final_state", t.final, forward.final_state);
  expect("d_q", t.d_q, g.d_q);
  expect("d_k", t.d_k, g.d_k);
  expect("d_v", t.d_v, g.d_v);
  expect("d_initial_state", t.d_initial, g.d_initial_state);
}

/// Every storage type on every engine (of f64 there is one).
void check_everywhere(LinearCase c) {
  for (const DType dtype : {DType::kF32, DType::kBF16, DType::kF16, DType::kF64}) {
    c.dtype = dtype;
    const LinearTensors t(c);
    const LinearExpectation expected(t);
    for (const Isa isa : runnable_isas()) {
      if (dtype == DType::kF64 && isa != Isa::kScalar) continue;
      const ForcedIsa forced(isa);
      SCOPED_TRACE(c.to_string() + " on " + name_of(isa));
      check(t, expected);
      if (::testing::Test::HasFatalFailure()) return;
    }
  }
}

/// A problem as calls of one row each, the state in place of the initial one.
void step_through(const LinearTensors& t, Status (&one_step)(const LinearAttentionProblem&,
                                                             const LinearAttentionOutputs&)) {
  const auto row = [](TensorView& view, int64_t s) {
    if (view.empty()) return;
    view.data = static_cast<char*>(view.data) + s * view.strides[2] * size_of(view.dtype);
    view.shape[2] = 1;
  };
  for (int64_t s = 0; s < t.c.q_len; ++s) {
    LinearAttentionProblem p = t.problem();
    LinearAttentionOutputs out = t.outputs();
    out.final_state = p.initial_state;
    for (TensorView* x : {&p.q, &p.k, &p.v, &p.decay, &p.beta, &out.o, &out.denominator}) {
      row(*x, s);
    }
    const Status status = one_step(p, out);
    ASSERT_TRUE(status.ok()) << status.message();
  }
}

TEST(LinearAttention, MatchesOracleOfEveryKind) {
  for (const FeatureMap map : {FeatureMap::kIdentity, FeatureMap::kEluPlusOne, FeatureMap::kRelu}) {
    for (const bool normalise : {false, true}) {
      for (const bool states : {false, true}) {
        LinearCase c;
        c.map = map;
        c.normalise = normalise;
        c.states = states;
        for (const DecayKind decay :
             {DecayKind::kNone, DecayKind::kHead, DecayKind::kStep, DecayKind::kChannel}) {
          c.decay = decay;
          check_everywhere(c);
        }
        c.decay = DecayKind::kNone;
        c.causal = false;
        c.q_len = 41;
        check_everywhere(c);
        if (HasFatalFailure()) return;
      }
    }
  }
}

LinearCase delta_case() {
  LinearCase c;
  c.delta = true;
  c.normalise = false;
  c.map = FeatureMap::kIdentity;
  c.states = true;
  return c;
}

TEST(LinearAttention, DeltaWritesMatchTheOracle) {
  for (const DecayKind decay :
       {DecayKind::kNone, DecayKind::kHead, DecayKind::kStep, DecayKind::kChannel}) {
    LinearCase c = delta_case();
    c.decay = decay;
    // 257 and more: the backward keeps a state every 256 steps.
    for (const int64_t length : {1, 15, 16, 17, 33, 70, 290}) {
      if (length > 70 && decay != DecayKind::kStep) continue;
      c.q_len = c.kv_len = length;
      c.states = length != 33;
      check_everywhere(c);
      if (HasFatalFailure()) return;
    }
    for (const auto& [head_dim, value_dim] : {std::pair{8, 40}, {24, 8}, {128, 72}}) {
      c = delta_case();
      c.decay = decay;
      c.batch = 2;
      c.head_dim = head_dim;
      c.value_dim = value_dim;
      c.q_len = c.kv_len = 37;
      c.pad = 3;
      c.offset = 5;
      c.bshd = true;
      check_everywhere(c);
      if (HasFatalFailure()) return;
    }
    c = delta_case();
    c.decay = decay;
    c.bounds = {0, 1, 1, 34, 69, 70};
    check_everywhere(c);
    if (HasFatalFailure()) return;
  }
}

TEST(LinearAttention, MatchesOracleAtEveryLength) {
  for (const int64_t length : {1, 2, 15, 16, 17, 31, 32, 33, 63, 64, 65, 127, 257}) {
    LinearCase c;
    c.q_len = c.kv_len = length;
    for (const DecayKind decay : {DecayKind::kStep, DecayKind::kChannel}) {
      c.decay = decay;
      check_everywhere(c);
    }
    c.decay = DecayKind::kNone;
    c.causal = false;
    c.q_len = 37;
    check_everywhere(c);
    if (HasFatalFailure()) return;
  }
}

TEST(LinearAttention, MatchesOracleAtEveryHeadSize) {
  const int64_t sizes[][2] = {{8, 8}, {24, 40}, {64, 64}, {72, 16}, {8, 256}, {256, 8}, {128, 96}};
  for (const auto& [head_dim, value_dim] : sizes) {
    LinearCase c;
    c.batch = 2;
    c.heads = 1;
    c.q_len = c.kv_len = 50;
    c.head_dim = head_dim;
    c.value_dim = value_dim;
    c.states = true;
    for (const DecayKind decay : {DecayKind::kStep, DecayKind::kChannel}) {
      c.decay = decay;
      check_everywhere(c);
    }
    if (HasFatalFailure()) return;
  }
}

// Products of small integers are exact, rounded operands or not: every result is the oracle's,
// rounded once, whatever a chunk is.
TEST(LinearAttention, IntegersAreExact) {
  for (const int64_t length : {1, 2, 15, 16, 17, 31, 32, 33, 63, 64, 65, 70}) {
    for (const auto& [head_dim, value_dim] : {std::pair{16, 16}, {24, 40}, {64, 8}}) {
      for (const bool causal : {true, false}) {
        for (const DType dtype : {DType::kF32, DType::kBF16}) {
          LinearCase c;
          c.dtype = dtype;
          c.q_len = length;
          c.kv_len = causal ? length : 37;
          c.head_dim = head_dim;
          c.value_dim = value_dim;
          c.map = FeatureMap::kIdentity;
          c.causal = causal;
          c.normalise = false;
          c.states = true;
          LinearTensors t(c);
          // q · k, and with one of values in a column a state's sums, stay below bf16's 256.
          for (Tensor* x : {&t.q, &t.k, &t.v, &t.d_o, &t.initial, &t.d_final}) {
            LinearTensors::map(*x, [](double value) { return std::round(value); });
          }
          for (const Isa isa : runnable_isas()) {
            const ForcedIsa forced(isa);
            SCOPED_TRACE(c.to_string() + " on " + name_of(isa));
            run_unscaled(t);
          }
          if (HasFatalFailure()) return;
        }
      }
    }
  }
}

TEST(LinearAttention, ReadsStridedAndMisalignedRows) {
  LinearCase c;
  c.batch = 2;
  c.pad = 3;
  c.offset = 5;
  c.bshd = true;
  for (const DecayKind decay : {DecayKind::kStep, DecayKind::kChannel}) {
    c.decay = decay;
    check_everywhere(c);
  }
}

TEST(LinearAttention, KeepsPackedDocumentsApart) {
  for (const bool causal : {true, false}) {
    LinearCase c;
    c.causal = causal;
    c.states = true;
    c.bounds = {0, 1, 1, 34, 69, 70};
    if (causal) c.decay = DecayKind::kChannel;
    check_everywhere(c);
  }
  // NaN of one document stays in it.
  LinearCase c;
  c.bounds = {0, 20, 70};
  LinearTensors t(c);
  for (int64_t s = 0; s < 20; ++s) {
    for (Tensor* x : {&t.q, &t.k, &t.v, &t.d_o}) {
      x->fill_row(0, 1, s, std::numeric_limits<double>::quiet_NaN());
    }
  }
  run(t);
  for (int64_t s = 20; s < 70; ++s) {
    for (const Tensor* x : {&t.o, &t.d_q, &t.d_k, &t.d_v}) {
      EXPECT_TRUE(std::isfinite(x->get(0, 1, s, 3)));
    }
  }
}

TEST(LinearAttention, BitsDoNotDependOnThreads) {
  LinearCase c;
  c.batch = 3;
  c.heads = 4;
  c.q_len = c.kv_len = 600;
  c.decay = DecayKind::kStep;
  c.states = true;
  for (const bool delta : {false, true}) {
    c.delta = delta;
    c.normalise = !delta;
    const LinearTensors one(c), many(c);
    {
      const ForcedThreads threads(1);
      run(one);
    }
    const ForcedThreads threads(4);
    run(many);
    const auto same = [](const Tensor& x, const Tensor& y) {
      return std::memcmp(x.bytes().data(), y.bytes().data(), x.bytes().size()) == 0;
    };
    EXPECT_TRUE(same(one.o, many.o));
    EXPECT_TRUE(same(one.final, many.final));
    EXPECT_TRUE(same(one.d_q, many.d_q));
    EXPECT_TRUE(same(one.d_k, many.d_k));
    EXPECT_TRUE(same(one.d_v, many.d_v));
    EXPECT_TRUE(same(one.d_decay, many.d_decay));
    EXPECT_TRUE(same(one.d_beta, many.d_beta) || !delta);
  }
}

// Steps from j on change nothing before j, to the bit; and no output before j has a gradient there.
TEST(LinearAttention, SeesNoFuture) {
  for (const Isa isa : runnable_isas()) {
    const ForcedIsa forced(isa);
    for (const int64_t j : {1, 16, 37, 64}) {
      for (const auto& [delta, decay, dtype] : {std::tuple{false, DecayKind::kStep, DType::kF32},
                                                {true, DecayKind::kStep, DType::kF32},
                                                {false, DecayKind::kChannel, DType::kF32},
                                                {true, DecayKind::kChannel, DType::kF32},
                                                {false, DecayKind::kNone, DType::kBF16},
                                                {false, DecayKind::kChannel, DType::kBF16}}) {
        LinearCase c = delta ? delta_case() : LinearCase();
        c.decay = decay;
        c.dtype = dtype;
        c.states = false;
        LinearTensors before(c), after(c);
        for (int64_t s = j; s < c.q_len; ++s) {
          for (Tensor* x : {&after.q, &after.k, &after.v}) {
            x->fill_row(0, 1, s, (0.5 + static_cast<double>(s)) / (delta ? 300 : 1));
          }
          if (delta) after.beta.put(0, 1, s, 0, 0.25);
          for (LinearTensors* x : {&before, &after}) x->d_o.fill_row(0, 1, s, 0);
        }
        run(before);
        run(after);
        for (int64_t s = 0; s < c.q_len; ++s) {
          for (int64_t d = 0; d < c.head_dim; ++d) {
            if (s < j) {
              ASSERT_EQ(before.o.get(0, 1, s, d), after.o.get(0, 1, s, d));
              ASSERT_EQ(before.d_k.get(0, 1, s, d), after.d_k.get(0, 1, s, d));
              ASSERT_EQ(before.d_v.get(0, 1, s, d), after.d_v.get(0, 1, s, d));
            } else {
              ASSERT_EQ(before.d_v.get(0, 1, s, d), 0);
            }
          }
        }
      }
    }
  }
}

// Generation: steps of one token whose state is updated in place, by the step and by calls of
// length 1.
TEST(LinearAttention, StepByStepIsTheWhole) {
  for (const DecayKind decay :
       {DecayKind::kNone, DecayKind::kHead, DecayKind::kStep, DecayKind::kChannel}) {
    for (const bool delta : {false, true}) {
      for (const DType dtype : {DType::kF32, DType::kBF16, DType::kF64}) {
        LinearCase c = delta ? delta_case() : LinearCase();
        c.decay = decay;
        c.states = true;
        c.dtype = dtype;
        c.value_dim = 136;  // whole groups of vectors, and a rest
        const LinearTensors whole(c);
        const LinearExpectation expected(whole);
        for (const Isa isa : runnable_isas()) {
          if (dtype == DType::kF64 && isa != Isa::kScalar) continue;
          const ForcedIsa forced(isa);
          SCOPED_TRACE(c.to_string() + " on " + name_of(isa));
          for (auto* one_step : {&linear_attention_step, &linear_attention_forward}) {
            const LinearTensors t(c);
            step_through(t, *one_step);
            const bool rounded =
                one_step == &linear_attention_forward && rounds_operands(dtype, delta);
            expect_within("o", t.o, expected.o, rounded);
            expect_within("denominator", t.denominator, expected.denominator, rounded);
            expect_within("state", t.initial, expected.final, rounded);
          }
          if (HasFatalFailure()) return;
        }
      }
    }
  }
}

// Every key and value is 1: the state is the geometric sum of the decay, Σ_{i < n} e^{ig}.
TEST(LinearAttention, NeitherOverflowsNorVanishesOverAMillionSteps) {
  constexpr int64_t kSteps = 1048576;
  LinearCase c;
  c.heads = 1;
  c.q_len = c.kv_len = kSteps;
  c.head_dim = c.value_dim = 8;
  c.map = FeatureMap::kIdentity;
  c.normalise = false;
  const auto check = [&](DecayKind kind, std::initializer_list<double> decays) {
    c.decay = kind;
    LinearTensors t(c);
    for (Tensor* x : {&t.q, &t.k, &t.v, &t.d_o}) {
      LinearTensors::map(*x, [](double) { return 1; });
    }
    for (const double decay : decays) {
      LinearTensors::map(t.decay, [&](double) { return decay; });
      run(t);
      // Each of n/16 chunks rounds its factor (the exponential to 1.5 u), the product and the sum,
      // all of which may err to the same side every time.
      const double g = t.decay.get(0, 0, 0, 0), u = eps(DType::kF32);
      const double bound = u * (8 + 2.5 * kSteps / 16.0);
      const auto sum = [&](int64_t n) {
        return g == 0 ? static_cast<double>(n)
                      : std::expm1(static_cast<double>(n) * g) / std::expm1(g);
      };
      for (const int64_t s : {int64_t{0}, int64_t{15}, int64_t{16}, kSteps / 2, kSteps - 1}) {
        const double wanted = 0.75 * 8 * sum(s + 1), gradient = 0.75 * 8 * sum(kSteps - s);
        EXPECT_NEAR(t.o.get(0, 0, s, 0), wanted, bound * wanted) << decay << " step " << s;
        EXPECT_NEAR(t.d_v.get(0, 0, s, 0), gradient, bound * gradient) << decay << " step " << s;
        EXPECT_TRUE(std::isfinite(t.d_decay.get(0, 0, s, 0))) << decay << " step " << s;
      }
    }
  };
  check(DecayKind::kHead, {0.0, -1e-6, -0.7, -90.0});
  check(DecayKind::kChannel, {-1e-6, -90.0});
}

TEST(LinearAttention, ADecayOfMinusInfinityForgets) {
  for (const DecayKind kind : {DecayKind::kStep, DecayKind::kChannel}) {
    LinearCase c;
    c.decay = kind;
    LinearTensors t(c), rest(c);
    constexpr int64_t kCut = 37;
    for (int64_t s = 0; s < kCut; ++s) {
      for (Tensor* x : {&rest.k, &rest.v}) x->fill_row(0, 1, s, 7);
    }
    for (LinearTensors* x : {&t, &rest}) {
      x->decay.fill_row(0, 1, kCut, -std::numeric_limits<double>::infinity());
    }
    run(t);
    run(rest);
    for (int64_t s = kCut; s < c.q_len; ++s) {
      ASSERT_TRUE(std::isfinite(t.o.get(0, 1, s, 0)));
      ASSERT_EQ(t.o.get(0, 1, s, 0), rest.o.get(0, 1, s, 0));
    }
  }
}

TEST(LinearAttention, NothingSeenGivesZero) {
  LinearCase c;
  c.kv_len = 0;
  c.causal = false;
  const LinearTensors t(c);
  LinearAttentionProblem p = t.problem();
  p.eps = 0;
  ASSERT_TRUE(linear_attention_forward(p, t.outputs()).ok());
  EXPECT_EQ(t.o.get(0, 1, 3, 5), 0);
  EXPECT_EQ(t.final.get(0, 1, 3, 5), 0);
}

TEST(LinearAttention, NamesEveryUnmetCondition) {
  LinearCase c;
  c.decay = DecayKind::kStep;
  const LinearTensors t(c);
  LinearAttentionProblem p = t.problem();
  p.causal = false;
  p.scale = 2;
  p.v.shape[3] = 12;
  const int32_t bounds[] = {0, 50, 60};
  p.cu_seqlens_q = p.cu_seqlens_k = bounds;
  const Status status = linear_attention_forward(p, t.outputs());
  EXPECT_EQ(status.code(), ErrorCode::kInvalidInput);
  for (const char* part :
       {"linear_attention: expected no decay unless causal, got a decay",
        "expected a scale of 1 with the normaliser, got 2.000000",
        "expected last extent of v a multiple of 8 in [8, 256], got 12",
        "expected cu_seqlens_q that ascends from 0 to 70, got one from 0 to 60"}) {
    EXPECT_THAT(status.message(), HasSubstr(part));
  }
  LinearAttentionGradients g = t.gradients();
  g.d_decay = {};
  EXPECT_THAT(linear_attention_backward(t.problem(), t.outputs(), g).message(),
              HasSubstr("expected d_decay with a decay, got none"));
}

}  // namespace
}  // namespace fovea::testing
