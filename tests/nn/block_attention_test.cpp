// Softmax over chosen and pooled blocks against the oracle, and the properties that all have.
#include "fovea/nn/block_attention.h"

#include <functional>

#include "tests/nn/nn_test_util.h"
#include <ATen/Parallel.h>
#include <ATen/autocast_mode.h>

#include "fovea/core/status.h"
#include "fovea/nn/attention.h"
#include "fovea/nn/hmatrix.h"
#include "fovea/reference/block_attention_reference.h"

namespace fovea::nn {
namespace {

constexpr int64_t kHeads = 4, kKvHeads = 2, kDim = 16, kBlock = 8;
const std::vector<int64_t> kLengths = {37, 1, 64, 8, 90};

struct Inputs {
  at::Tensor q, k, v, gates;  // gates [T, H, 3]
  Packing packing;

  std::vector<at::Tensor> tensors() const { return {q, k, v, gates}; }
  Inputs to(at::ScalarType type) const {
    const auto as = [&](const at::Tensor& x) { return x.detach().to(type).requires_grad_(); };
    return {as(q), as(k), as(v), as(gates), packing};
  }
  Inputs document(int64_t n) const {
    const int64_t begin = packing.cu_seqlens[n].item<int64_t>();
    const int64_t length = packing.cu_seqlens[n + 1].item<int64_t>() - begin;
    const auto part = [&](const at::Tensor& x) {
      return x.detach().narrow(0, begin, length).clone().requires_grad_();
    };
    return {part(q), part(k), part(v), part(gates), packing_of({length})};
  }
};

Inputs random_inputs(const std::vector<int64_t>& lengths, uint64_t seed = 1,
                     int64_t kv_heads = kKvHeads) {
  torch::manual_seed(seed);
  const Packing packing = packing_of(lengths);
  // Values that bfloat16 holds, so that every type makes the same choices.
  const auto random = [&](int64_t heads) {
    return torch::randn({packing.tokens, heads, kDim}).to(torch::kBFloat16).to(torch::kDouble);
  };
  const at::Tensor gates = torch::sigmoid(random(kHeads).narrow(2, 0, 3)).to(torch::kBFloat16);
  return Inputs{random(kHeads), random(kv_heads), random(kv_heads), gates, packing}.to(
      torch::kDouble);
}

using Run = std::function<at::Tensor(const Inputs&)>;
using Values = std::vector<double>;
using Oracle = std::function<Values(const reference::BlockProblem&, const Values& gates)>;

struct Case {
  std::string name;
  bool causal;
  Run run;
  Oracle oracle;
};

std::vector<Case> cases() {
  std::vector<Case> all;
  using Problem = reference::BlockProblem;
  for (const bool causal : {false, true}) {
    const auto add = [&](const std::string& name, Run run, Oracle oracle) {
      all.push_back({name + (causal ? " causal" : ""), causal, std::move(run), std::move(oracle)});
    };
    for (const int64_t blocks : {1, 3, 20}) {
      add(
          "moba" + std::to_string(blocks),
          [=](const Inputs& in) {
            return moba(in.q, in.k, in.v, in.packing, kBlock, blocks, causal);
          },
          [=](const Problem& p, const Values&) { return reference::moba(p, kBlock, blocks); });
    }
    for (const int64_t block : {4, 8, 64}) {
      add(
          "hmatrix" + std::to_string(block),
          [=](const Inputs& in) { return hmatrix(in.q, in.k, in.v, in.packing, block, causal); },
          [=](const Problem& p, const Values&) { return reference::hmatrix(p, block); });
    }
    for (const int64_t blocks : {1, 5}) {
      add(
          "nsa" + std::to_string(blocks),
          [=](const Inputs& in) {
            return nsa(in.q, in.k, in.v, in.gates, in.packing, kBlock, blocks, 11, causal);
          },
          [=](const Problem& p, const Values& gates) {
            return reference::nsa(p, gates, kBlock, blocks, 11);
          });
    }
    add(
        "segment_encoder",
        [=](const Inputs& in) {
          return segment_encoder(in.q, in.k, in.v, in.gates.narrow(2, 0, 1), in.packing, 7, causal);
        },
        [=](const Problem& p, const Values& gates) {
          Values first;
          for (size_t i = 0; i < gates.size(); i += 3) first.push_back(gates[i]);
          return reference::segment_encoder(p, first, 7);
        });
  }
  return all;
}

/// The oracle's result of each document, [T, H, D].
at::Tensor expected(const Case& c, const Inputs& in) {
  std::vector<at::Tensor> documents;
  for (int64_t n = 0; n < in.packing.documents; ++n) {
    const Inputs one = in.document(n);
    const auto values = [](const at::Tensor& x) {
      const at::Tensor dense = x.detach().transpose(0, 1).to(torch::kDouble).contiguous();
      return Values(dense.const_data_ptr<double>(), dense.const_data_ptr<double>() + dense.numel());
    };
    const Values o = c.oracle({kHeads, one.k.size(1), one.packing.tokens, kDim, values(one.q),
                               values(one.k), values(one.v), c.causal},
                              values(one.gates));
    documents.push_back(
        torch::tensor(o, torch::kDouble).view({kHeads, one.packing.tokens, kDim}).transpose(0, 1));
  }
  return torch::cat(documents);
}

/// Of q, k, v and the gates, zeros where they have no part.
std::vector<at::Tensor> gradients(const Case& c, const Inputs& in, const at::Tensor& d_o) {
  const at::Tensor o = c.run(in);
  const std::vector<at::Tensor> inputs = in.tensors();
  auto result = torch::autograd::grad({o}, inputs, {d_o.to(o.scalar_type())}, {}, false,
                                      /*allow_unused=*/true);
  for (size_t i = 0; i < result.size(); ++i) {
    if (!result[i].defined()) result[i] = torch::zeros_like(inputs[i]);
  }
  return result;
}

TEST(BlockAttentionTest, StepsAreTheWholeInEachDocument) {
  const torch::NoGradGuard no_grad;
  const Packing packing = packing_of(kLengths);
  for (const char* text : {"moba(8,3,causal)", "moba(8,1,causal)", "moba(6,20,causal)",
                           "nsa(8,4,11,causal)", "nsa(64,1,1,causal)", "hmatrix(8,causal)",
                           "hmatrix(4,causal)", "segment_encoder(7,causal)"}) {
    torch::manual_seed(4);
    const LayerAttention layer = parse_layers(text, 1)[0];
    Attention module(AttentionOptions()
                         .model_dim(kHeads * kDim)
                         .heads(kHeads)
                         .kv_heads(kKvHeads)
                         .rotary(true)
                         .mechanism(layer.mechanism)
                         .numbers(layer.numbers)
                         .pattern(layer.pattern));
    module->to(torch::kDouble);
    module->eval();
    const at::Tensor x = torch::randn({packing.tokens, kHeads * kDim}, torch::kDouble) * 3;
    const at::Tensor whole = module(x, packing);
    for (const int64_t beginning : {1, 8, 45}) {
      int64_t first = 0;
      for (const int64_t length : kLengths) {
        AttentionState state;
        for (int64_t count = std::min(beginning, length); state.tokens < length; count = 1) {
          const int64_t row = first + state.tokens;
          const at::Tensor y =
              module(x.narrow(0, row, count), Packing::continued(state.tokens, count), &state);
          ASSERT_LT(distance(y, whole.narrow(0, row, count)), 1e-10)
              << text << ", from " << beginning << " on, after " << state.tokens << " of "
              << length;
        }
        first += length;
      }
    }
  }
}

TEST(BlockAttentionTest, IsItsDefinitionInEachDocument) {
  for (const int64_t kv_heads : {kKvHeads, kHeads}) {
    const Inputs in = random_inputs(kLengths, 1, kv_heads);
    for (const Case& c : cases()) {
      SCOPED_TRACE(c.name + ", " + std::to_string(kv_heads) + " key heads");
      const at::Tensor oracle = expected(c, in);
      EXPECT_LT(distance(c.run(in), oracle), 1e-12);
      EXPECT_LT(distance(c.run(in.to(torch::kFloat)), oracle), kF32);
      // Three roundings: of weights, of each part's result and of the merged one.
      EXPECT_LT(distance(c.run(in.to(torch::kBFloat16)), oracle), 3 * 0x1p-8);
    }
  }
}

TEST(BlockAttentionTest, GradientsAreDifferences) {
  const Inputs in = random_inputs({37, 8, 50});
  for (const Case& c : cases()) {
    SCOPED_TRACE(c.name);
    const at::Tensor d_o = torch::randn({in.packing.tokens, kHeads, kDim}, torch::kDouble);
    const auto exact = gradients(c, in, d_o);
    for (size_t i = 0; i < exact.size(); ++i) {
      const at::Tensor u = torch::randn_like(exact[i]);
      const auto shifted = [&](double step) {
        const torch::NoGradGuard no_grad;
        std::vector<at::Tensor> x = in.tensors();
        x[i] = x[i] + step * u;
        return (c.run({x[0], x[1], x[2], x[3], in.packing}) * d_o).sum().item<double>();
      };
      constexpr double kStep = 1e-6;  // cubic error 1e-12 of it, rounding 1e-16 / 1e-6
      const double slope = (shifted(kStep) - shifted(-kStep)) / (2 * kStep);
      EXPECT_NEAR((exact[i] * u).sum().item<double>(), slope,
                  1e-6 * (u.norm() * exact[i].norm()).item<double>() + 1e-12)
          << "gradient " << i;
    }
    expect_same_gradients(gradients(c, in.to(torch::kFloat), d_o), exact, kF32);
    // d_o and every part's operands and results in bfloat16; sums of hundreds of them.
    const at::Tensor rounded = d_o.to(torch::kBFloat16).to(torch::kDouble);
    expect_same_gradients(gradients(c, in.to(torch::kBFloat16), rounded), gradients(c, in, rounded),
                          6 * 0x1p-8);
  }
}

TEST(BlockAttentionTest, PackedDocumentsAreSeparateOnes) {
  const Inputs in = random_inputs(kLengths).to(torch::kFloat);
  for (const Case& c : cases()) {
    SCOPED_TRACE(c.name);
    const at::Tensor d_o = torch::randn({in.packing.tokens, kHeads, kDim});
    const at::Tensor packed = c.run(in);
    const auto packed_gradients = gradients(c, in, d_o);
    int64_t begin = 0;
    for (int64_t n = 0; n < in.packing.documents; ++n) {
      const Inputs one = in.document(n);
      const int64_t length = one.packing.tokens;
      EXPECT_LT(distance(packed.narrow(0, begin, length), c.run(one)), kF32) << "document " << n;
      const auto separate = gradients(c, one, d_o.narrow(0, begin, length));
      std::vector<at::Tensor> part;
      for (const at::Tensor& g : packed_gradients) part.push_back(g.narrow(0, begin, length));
      if (length > 1) expect_same_gradients(part, separate);
      begin += length;
    }
  }
}

TEST(BlockAttentionTest, CausalFormsKeepEveryBitBeforeAChange) {
  for (const at::ScalarType type : {torch::kFloat, torch::kBFloat16}) {
    const Inputs in = random_inputs({30, 150}).to(type);
    for (const int64_t first : {30 + 1, 30 + 77, 30 + 128}) {
      Inputs changed = random_inputs({30, 150}, 9).to(type);
      {
        const torch::NoGradGuard no_grad;
        for (size_t i = 0; i < 4; ++i) {
          changed.tensors()[i].narrow(0, 0, first).copy_(in.tensors()[i].narrow(0, 0, first));
        }
      }
      // A loss before the change.
      at::Tensor d_o = torch::randn({180, kHeads, kDim});
      d_o.narrow(0, first, 180 - first).zero_();
      for (const Case& c : cases()) {
        if (!c.causal) continue;
        SCOPED_TRACE(c.name + ", from " + std::to_string(first));
        EXPECT_TRUE(same_bits(c.run(in).narrow(0, 0, first), c.run(changed).narrow(0, 0, first)));
        const auto a = gradients(c, in, d_o), b = gradients(c, changed, d_o);
        for (size_t i = 0; i < a.size(); ++i) {
          EXPECT_TRUE(same_bits(a[i].narrow(0, 0, first), b[i].narrow(0, 0, first)))
              << "gradient " << i;
          EXPECT_EQ(a[i].narrow(0, first, 180 - first).abs().max().item<double>(), 0);
        }
      }
    }
  }
}

TEST(BlockAttentionTest, BitsDoNotDependOnThreads) {
  const Inputs in = random_inputs({300, 41, 600}).to(torch::kFloat);
  const at::Tensor d_o = torch::randn({in.packing.tokens, kHeads, kDim});
  const int threads = at::get_num_threads();
  for (const Case& c : cases()) {
    SCOPED_TRACE(c.name);
    at::set_num_threads(1);
    const at::Tensor one = c.run(in);
    const auto one_gradients = gradients(c, in, d_o);
    at::set_num_threads(3);
    EXPECT_TRUE(same_bits(one, c.run(in)));
    const auto three_gradients = gradients(c, in, d_o);
    for (size_t i = 0; i < one_gradients.size(); ++i) {
      EXPECT_TRUE(same_bits(one_gradients[i], three_gradients[i])) << "gradient " << i;
    }
  }
  at::set_num_threads(threads);
}

TEST(BlockAttentionTest, IsALayerOfItsMechanism) {
  torch::manual_seed(4);
  const auto options = AttentionOptions().model_dim(64).heads(4).kv_heads(2).rotary(true);
  Attention layer(AttentionOptions(options).mechanism(Mechanism::kMoba).numbers({8, 3}));
  Attention full(options);
  for (auto& p : full->named_parameters()) {
    const torch::NoGradGuard no_grad;
    p.value().copy_(layer->named_parameters()[p.key()]);
  }
  const Packing packing = packing_of({24, 5, 10});  // all blocks: full attention
  const at::Tensor x = torch::randn({39, 64});
  EXPECT_LT(distance(layer(x, packing), full(x, packing)), kF32);
  const Packing longer = packing_of({39});
  EXPECT_GT(distance(layer(x, longer), full(x, longer)), 1e-3);
  // Autocast: choices in float32 all the same. Projections, attention, output: 4 roundings each
  // way.
  at::autocast::set_autocast_enabled(at::kCPU, true);
  at::autocast::set_autocast_dtype(at::kCPU, at::kBFloat16);
  const at::Tensor lower = layer(x, packing);
  at::autocast::clear_cache();
  at::autocast::set_autocast_enabled(at::kCPU, false);
  EXPECT_EQ(lower.scalar_type(), at::kBFloat16);
  EXPECT_LT(distance(lower.to(at::kFloat), full(x, packing)), 8 * 0x1p-8);
}

TEST(BlockAttentionTest, RefusesWhatCannotBe) {
  const auto with = [](std::vector<int64_t> numbers) {
    return AttentionOptions().model_dim(32).heads(2).mechanism(Mechanism::kMoba).numbers(numbers);
  };
  EXPECT_THROW(Attention(with({64})), InputError);
  EXPECT_THROW(Attention(with({0, 3})), InputError);
  EXPECT_THROW(Attention(with({64, 3}).cross(true)), InputError);
  EXPECT_THROW(Attention(with({64, 3}).pattern(Pattern::parse("window(3)"))), InputError);
  EXPECT_THROW(Attention(with({64, 3}).sinks(true)), InputError);
  EXPECT_EQ(Attention(with({}))->options.numbers(), (std::vector<int64_t>{64, 4}));
}

TEST(BlockAttentionTest, LayersWithGatesLearnThem) {
  for (const Mechanism mechanism : {Mechanism::kNsa, Mechanism::kSegmentEncoder}) {
    torch::manual_seed(5);
    Attention layer(AttentionOptions().model_dim(32).heads(2).mechanism(mechanism).numbers(
        mechanism == Mechanism::kNsa ? std::vector<int64_t>{4, 3, 6} : std::vector<int64_t>{5}));
    layer(torch::randn({40, 32}), packing_of({30, 10})).square().sum().backward();
    const auto parameters = layer->named_parameters();
    EXPECT_EQ(parameters["gate.weight"].size(0), 2 * gates_of(mechanism));
    for (const auto& p : parameters) {
      if (p.key() == "qkv.bias") continue;  // keys' biases change nothing
      EXPECT_GT(p.value().grad().abs().min().item<double>(), 0) << name_of(mechanism) << p.key();
    }
  }
}

}  // namespace
}  // namespace fovea::nn
