// Windows with a memory against their definition, a sum over all pairs, and what they promise.
#include "fovea/nn/window_memory.h"

#include <cmath>
#include <limits>

#include "nn_test_util.h"

#include "fovea/core/status.h"
#include "fovea/nn/attention.h"
#include "fovea/nn/feature_maps.h"
#include "fovea/pattern/causality.h"

namespace fovea::nn {
namespace {

constexpr int64_t kHeads = 4, kKvHeads = 2, kHeadDim = 16;

LayerAttention parsed(const std::string& text) { return parse_layers(text, 1)[0]; }

WindowMemory make(const std::string& text) {
  torch::manual_seed(5);
  const LayerAttention layer = parsed(text);
  WindowMemory module(WindowMemoryOptions()
                          .memory(layer.memory)
                          .window(layer.pattern)
                          .heads(kHeads)
                          .kv_heads(kKvHeads)
                          .head_dim(kHeadDim));
  const torch::NoGradGuard no_grad;
  for (auto& p : module->named_parameters()) {
    if (p.key() != "random_directions") p.value().add_(torch::randn_like(p.value()) / 2);
  }
  module->to(torch::kDouble);
  return module;
}

at::Tensor rows(int64_t tokens, at::ScalarType type = torch::kDouble) {
  return torch::randn({tokens, kHeads + 2 * kKvHeads, kHeadDim}, type);
}

at::Tensor forward(WindowMemory& module, const at::Tensor& qkv, const Packing& packing) {
  return module(qkv, packing, ops::AttentionArguments());
}

/// f(x) [T, H, F] without any constant taken off.
at::Tensor features(WindowMemory& module, const at::Tensor& x, const char* map) {
  auto p = module->named_parameters();
  switch (module->options.memory().mechanism) {
    case Mechanism::kLinear:
      return torch::elu(x) + 1;
    case Mechanism::kPerformer:
      return random_positive_features(x, p["random_directions"], false);
    case Mechanism::kBased:
      return taylor_features(torch::einsum("thd,hfd->thf", {x, p[map]}));
    default: {
      const at::Tensor y = torch::einsum("thd,hfd->thf", {x, p[map]});
      return torch::cat({y.softmax(-1), (-y).softmax(-1)}, -1);
    }
  }
}

/// One document, every pair.
at::Tensor definition(WindowMemory& module, const at::Tensor& qkv) {
  const auto& o = module->options;
  auto p = module->named_parameters();
  const int64_t group = kHeads / kKvHeads;
  const auto parts = qkv.split_with_sizes({kHeads, kKvHeads, kKvHeads}, 1);
  const auto spread = [&](const at::Tensor& x) {
    return x.repeat_interleave(group, 1).transpose(0, 1);
  };
  const at::Tensor q = parts[0].transpose(0, 1), k = spread(parts[1]), v = spread(parts[2]);
  const at::Tensor fq = features(module, parts[0], "query_map").transpose(0, 1);
  const at::Tensor fk = spread(features(module, parts[1], "key_map"));
  const WindowReach reach = *window_reach(o.window().node());
  const at::Tensor i = torch::arange(qkv.size(0)).unsqueeze(1);
  const at::Tensor j = torch::arange(qkv.size(0)).unsqueeze(0);
  const at::Tensor inside = (j >= i - reach.left).logical_and(j <= i + reach.right);
  const at::Tensor outside = o.memory().causal ? j < i - reach.left : inside.logical_not();
  const at::Tensor scores = torch::matmul(q, k.transpose(1, 2)) / std::sqrt(1.0 * kHeadDim);
  const at::Tensor near = scores.exp() * inside;
  const at::Tensor far = torch::matmul(fq, fk.transpose(1, 2)) * outside;
  const auto mean = [&](const at::Tensor& w) {
    return torch::matmul(w / w.sum(-1, true).clamp_min(1e-300), v);
  };
  if (!o.memory().gated) {
    return mean(near + p["gain"].exp().view({kHeads, 1, 1}) * far).transpose(0, 1);
  }
  const at::Tensor gate = torch::sigmoid(p["gate"]).view({kHeads, 1, 1});
  return ((1 - gate) * mean(near) + gate * mean(far)).transpose(0, 1);
}

const char* const kAll[] = {"window(3)+linear",
                            "window(3,0)+linear(causal)",
                            "window(2,5)+linear(causal)",
                            "window(0,0)+linear",
                            "window(40)+linear",
                            "window(3)+performer",
                            "window(2,0)+based(causal)",
                            "window(1,4)+hedgehog",
                            "window(4)&causal+hedgehog(causal)",
                            "gate(window(3)+linear)",
                            "gate(window(3,0)+linear(causal))",
                            "gate(window(2)+performer)",
                            "gate(window(2)+based)",
                            "gate(window(1)+hedgehog(causal))"};

TEST(WindowMemoryTest, IsItsDefinitionInEachDocument) {
  const std::vector<int64_t> lengths = {1, 4, 37, 21};
  for (const char* text : kAll) {
    SCOPED_TRACE(text);
    WindowMemory module = make(text);
    const at::Tensor qkv = rows(63).requires_grad_();
    const at::Tensor o = forward(module, qkv, packing_of(lengths));
    std::vector<at::Tensor> documents;
    int64_t begin = 0;
    for (const int64_t length : lengths) {
      documents.push_back(definition(module, qkv.narrow(0, begin, length)));
      begin += length;
    }
    const at::Tensor expected = torch::cat(documents);
    ASSERT_LT(distance(o, expected), 1e-10);
    std::vector<at::Tensor> inputs = {qkv};
    for (const at::Tensor& p : module->parameters()) {
      if (p.requires_grad()) inputs.push_back(p);
    }
    const at::Tensor d_o = torch::randn_like(o);
    expect_same_gradients(torch::autograd::grad({o}, inputs, {d_o}),
                          torch::autograd::grad({expected}, inputs, {d_o}), 1e-9);
  }
}

/// bf16 keeps 8 bits: what is rounded are inputs and features (both sides of the comparison see the
/// rounded inputs), the weights within products, and the result once for each part.
TEST(WindowMemoryTest, LowerPrecisionIsNearItsDefinition) {
  for (const char* text : kAll) {
    SCOPED_TRACE(text);
    WindowMemory module = make(text);
    const at::Tensor qkv = rows(90, torch::kFloat).to(torch::kBFloat16);
    const at::Tensor wide = qkv.to(torch::kDouble).requires_grad_();
    const at::Tensor expected = definition(module, wide);
    const at::Tensor d_o = torch::randn_like(expected);
    const auto gradients = torch::autograd::grad({expected}, {wide}, {d_o});
    for (const auto& [type, tolerance] :
         {std::pair{torch::kBFloat16, 12 * 0x1p-8}, {torch::kFloat, 200 * 0x1p-23}}) {
      module->to(torch::kFloat);
      const at::Tensor x = wide.detach().to(type).requires_grad_();
      const at::Tensor o = forward(module, x, packing_of({90}));
      EXPECT_EQ(o.scalar_type(), type);
      EXPECT_LT(distance(o.to(torch::kDouble), expected), tolerance);
      const auto got = torch::autograd::grad({o}, {x}, {d_o.to(type)});
      EXPECT_LT(distance(got[0].to(torch::kDouble), gradients[0]), tolerance);
    }
  }
}

/// Documents one after another, each from a beginning of its own on: within the window, as long as
/// it, beyond it.
TEST(WindowMemoryTest, StepsAreTheDefinitionInEachDocument) {
  const torch::NoGradGuard no_grad;
  const std::vector<int64_t> lengths = {3, 21, 37}, beginnings = {1, 4, 5, 6, 30};
  for (const char* text :
       {"window(3,0)+linear(causal)", "window(0,0)+linear(causal)", "window(40,0)+linear(causal)",
        "window(4,0)+performer(causal)", "window(4,2)&causal+based(causal)",
        "window(5,0)+hedgehog(causal)", "gate(window(4,0)+linear(causal))",
        "gate(window(3,0)+performer(causal))", "gate(window(4)&causal+hedgehog(causal))"}) {
    for (const int64_t beginning : beginnings) {
      WindowMemory module = make(text);
      module->eval();
      for (const int64_t length : lengths) {
        const at::Tensor qkv = rows(length), expected = definition(module, qkv);
        AttentionState state;
        for (int64_t count = std::min(beginning, length); state.tokens < length; count = 1) {
          const at::Tensor x = qkv.narrow(0, state.tokens, count);
          const at::Tensor o =
              module(x, Packing::continued(state.tokens, count), ops::AttentionArguments(), &state);
          ASSERT_LT(distance(o, expected.narrow(0, state.tokens, count)), 1e-10)
              << text << ", from " << beginning << " on, at " << state.tokens << " of " << length;
          state.tokens += count;
        }
      }
    }
  }
}

/// Sums are kept in float32: they lose no more over a long document than the window's rows do.
TEST(WindowMemoryTest, StepsOfLowerPrecisionAreNearTheDefinition) {
  const torch::NoGradGuard no_grad;
  constexpr int64_t kLength = 500, kBeginning = 100;
  for (const char* text : {"window(9,0)+linear(causal)", "window(9,0)+performer(causal)",
                           "gate(window(9,0)+hedgehog(causal))"}) {
    SCOPED_TRACE(text);
    WindowMemory module = make(text);
    module->eval();
    const at::Tensor qkv = rows(kLength, torch::kFloat).to(torch::kBFloat16);
    const at::Tensor expected = definition(module, qkv.to(torch::kDouble));
    module->to(torch::kFloat);
    for (const auto& [type, tolerance] :
         {std::pair{torch::kBFloat16, 12 * 0x1p-8}, {torch::kFloat, 200 * 0x1p-23}}) {
      const at::Tensor x = qkv.to(type);
      AttentionState state;
      at::Tensor o;
      for (int64_t count = kBeginning; state.tokens < kLength; count = 1) {
        o = module(x.narrow(0, state.tokens, count), Packing::continued(state.tokens, count),
                   ops::AttentionArguments(), &state);
        state.tokens += count;
      }
      EXPECT_EQ(o.scalar_type(), type);
      EXPECT_EQ(state.memory.scalar_type(), torch::kFloat);
      EXPECT_EQ(state.keys.size(2), 10);
      EXPECT_LT(distance(o.to(torch::kDouble), expected.narrow(0, kLength - 1, 1)), tolerance);
    }
  }
}

TEST(WindowMemoryTest, CausalOnesDoNotLookAhead) {
  for (const char* text : {"window(3,0)+linear(causal)", "window(2,0)+performer(causal)",
                           "window(3,0)+hedgehog(causal)", "gate(window(3,0)+linear(causal))"}) {
    SCOPED_TRACE(text);
    WindowMemory module = make(text);
    module->to(torch::kFloat);
    constexpr int64_t kLength = 50, kChange = 23;
    const at::Tensor x = rows(kLength, torch::kFloat), changed = x.clone();
    changed.narrow(0, kChange, kLength - kChange).normal_();
    const at::Tensor d_o = torch::randn({kLength, kHeads, kHeadDim});
    d_o.narrow(0, kChange, kLength - kChange).zero_();  // losses before it
    std::vector<at::Tensor> outputs, gradients;
    for (const at::Tensor& input : {x, changed}) {
      const at::Tensor leaf = input.clone().requires_grad_();
      const at::Tensor o = forward(module, leaf, packing_of({kLength}));
      outputs.push_back(o.narrow(0, 0, kChange));
      gradients.push_back(torch::autograd::grad({o}, {leaf}, {d_o})[0]);
    }
    EXPECT_TRUE(same_bits(outputs[0], outputs[1]));
    EXPECT_TRUE(same_bits(gradients[0], gradients[1]));
    EXPECT_EQ(gradients[0].narrow(0, kChange, kLength - kChange).abs().max().item<float>(), 0);
  }
}

TEST(WindowMemoryTest, AWindowOverEverythingIsSoftmax) {
  const at::Tensor x = rows(40, torch::kFloat).requires_grad_();
  const Packing packing = packing_of({33, 7});
  const at::Tensor plain = std::get<0>(ops::attention_qkv(x, kHeads, packing.cu_seqlens, "full"));
  const at::Tensor d_o = torch::randn_like(plain);
  const auto plain_gradient = torch::autograd::grad({plain}, {x}, {d_o});
  for (const char* text : {"window(33)+linear", "window(33)+hedgehog"}) {
    WindowMemory module = make(text);
    module->to(torch::kFloat);
    const at::Tensor o = forward(module, x, packing);
    EXPECT_LT(distance(o, plain), kF32);
    expect_same_gradients(torch::autograd::grad({o}, {x}, {d_o}), plain_gradient);
  }
}

TEST(WindowMemoryTest, WithoutWeightIsTheWindow) {
  const at::Tensor x = rows(70, torch::kFloat).requires_grad_();
  const Packing packing = packing_of({70});
  const at::Tensor window =
      std::get<0>(ops::attention_qkv(x, kHeads, packing.cu_seqlens, "window(3,3)"));
  const at::Tensor d_o = torch::randn_like(window);
  const auto gradient = torch::autograd::grad({window}, {x}, {d_o});
  for (const double gain : {-std::numeric_limits<double>::infinity(), -300.0}) {
    WindowMemory module = make("window(3)+linear");
    module->to(torch::kFloat);
    {
      const torch::NoGradGuard no_grad;
      module->named_parameters()["gain"].fill_(gain);
    }
    const at::Tensor o = forward(module, x, packing);
    EXPECT_TRUE(same_bits(o, window));
    const auto got = torch::autograd::grad({o}, {x}, {d_o});
    EXPECT_TRUE(same_bits(got[0], gradient[0]));
  }
}

TEST(WindowMemoryTest, BitsDoNotDependOnThreads) {
  const int before = at::get_num_threads();
  const Packing packing = packing_of({500, 3, 97});
  const at::Tensor input = rows(600, torch::kFloat), d_o = torch::randn({600, kHeads, kHeadDim});
  for (const char* text : {"window(9)+linear", "gate(window(9)+hedgehog)"}) {
    WindowMemory module = make(text);
    module->to(torch::kFloat);
    std::vector<std::vector<at::Tensor>> results;
    for (const int threads : {1, 4}) {
      at::set_num_threads(threads);
      const at::Tensor x = input.clone().requires_grad_();
      const at::Tensor o = forward(module, x, packing);
      results.push_back({o, torch::autograd::grad({o}, {x}, {d_o})[0]});
    }
    at::set_num_threads(before);
    EXPECT_TRUE(same_bits(results[0][0], results[1][0])) << text;
    EXPECT_TRUE(same_bits(results[0][1], results[1][1])) << text;
  }
}

TEST(WindowMemoryTest, BitsOfStepsDoNotDependOnThreads) {
  const torch::NoGradGuard no_grad;
  const int before = at::get_num_threads();
  const at::Tensor x = rows(3003, torch::kFloat);
  for (const char* text : {"window(9,0)+linear(causal)", "gate(window(9,0)+based(causal))"}) {
    WindowMemory module = make(text);
    module->to(torch::kFloat);
    module->eval();
    std::vector<at::Tensor> results;
    for (const int threads : {1, 4}) {
      at::set_num_threads(threads);
      AttentionState state;
      for (int64_t count = 3000; state.tokens < x.size(0); count = 1) {
        results.push_back(module(x.narrow(0, state.tokens, count),
                                 Packing::continued(state.tokens, count), ops::AttentionArguments(),
                                 &state));
        state.tokens += count;
      }
      results.push_back(state.memory);
    }
    at::set_num_threads(before);
    for (size_t i = 0; i < results.size() / 2; ++i) {
      EXPECT_TRUE(same_bits(results[i], results[results.size() / 2 + i])) << text << " " << i;
    }
  }
}

TEST(WindowMemoryTest, PerformerDrawsOnlyInTraining) {
  WindowMemory module = make("window(3)+performer");
  module->eval();
  const at::Tensor before = module->named_parameters()["random_directions"].clone();
  forward(module, rows(9), packing_of({9}));
  EXPECT_TRUE(same_bits(before, module->named_parameters()["random_directions"]));
}

TEST(WindowMemoryTest, TheWindowKeepsItsScores) {
  // What is done to the window's scores, and dropout, joins the memory as it is.
  const auto options = [](const char* text) {
    const LayerAttention layer = parsed(text);
    return AttentionOptions()
        .model_dim(64)
        .heads(4)
        .rotary(true)
        .pattern(layer.pattern)
        .memory(layer.memory);
  };
  const at::Tensor x = torch::randn({60, 64});
  Attention module(options("window(5)+linear")
                       .position_bias(PositionBias::kT5)
                       .softcap(20)
                       .cosine(true)
                       .sinks(true)
                       .dropout(0.1));
  const at::Tensor y = module(x, packing_of({60}));
  y.square().sum().backward();
  for (const auto& p : module->named_parameters()) {
    EXPECT_TRUE(p.value().grad().defined() && p.value().grad().isfinite().all().item<bool>())
        << p.key();
    EXPECT_GT(p.value().grad().abs().max().item<double>(), 0) << p.key();
  }
}

TEST(WindowMemoryTest, RefusesWhatCannotBe) {
  const auto with = [](const char* window, Mechanism mechanism, int64_t dim) {
    return WindowMemoryOptions()
        .memory({mechanism, false, false})
        .window(Pattern::parse(window))
        .heads(2)
        .kv_heads(2)
        .head_dim(dim);
  };
  EXPECT_THROW(WindowMemory(with("full", Mechanism::kLinear, 16)), InputError);
  EXPECT_THROW(WindowMemory(with("window(3)", Mechanism::kGla, 16)), InputError);
  EXPECT_THROW(WindowMemory(with("window(3)", Mechanism::kHedgehog, 136)), InputError);
  const LayerMemory memory = {Mechanism::kLinear, false, false};
  EXPECT_THROW(
      Attention(AttentionOptions().model_dim(32).heads(2).cross(true).memory(memory).pattern(
          Pattern::parse("window(3)"))),
      InputError);
}

}  // namespace
}  // namespace fovea::nn
