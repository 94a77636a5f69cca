#include "fovea/nn/attention.h"

#include "nn_test_util.h"

#include "fovea/core/status.h"
#include "fovea/nn/packing.h"

namespace fovea::nn {
namespace {

constexpr int64_t kDim = 32, kHeads = 4;

AttentionOptions options() { return AttentionOptions().model_dim(kDim).heads(kHeads); }

/// torch's module, [S, B, E], with our weights.
torch::nn::MultiheadAttention torch_twin(Attention& ours) {
  torch::nn::MultiheadAttention theirs(torch::nn::MultiheadAttentionOptions(kDim, kHeads));
  const torch::NoGradGuard no_grad;
  auto from = ours->named_parameters();
  if (from.contains("qkv.weight")) {
    theirs->in_proj_weight.copy_(from["qkv.weight"]);
    theirs->in_proj_bias.copy_(from["qkv.bias"]);
  } else {
    theirs->in_proj_weight.copy_(torch::cat({from["query.weight"], from["key_value.weight"]}));
    theirs->in_proj_bias.copy_(torch::cat({from["query.bias"], from["key_value.bias"]}));
  }
  theirs->out_proj->weight.copy_(from["output.weight"]);
  theirs->out_proj->bias.copy_(from["output.bias"]);
  return theirs;
}

void randomize_biases(torch::nn::Module& module) {
  const torch::NoGradGuard no_grad;
  for (auto& p : module.named_parameters()) {
    if (p.value().dim() == 1) p.value().normal_();
  }
}

TEST(AttentionTest, AgreesWithTorchMultiheadAttention) {
  torch::manual_seed(1);
  Attention ours(options());
  randomize_biases(*ours);
  auto theirs = torch_twin(ours);
  const auto x = torch::randn({3, 70, kDim}).requires_grad_();
  const auto y = ours->forward_dense(x);
  const auto t = x.transpose(0, 1);
  const auto expected = std::get<0>(theirs(t, t, t)).transpose(0, 1);
  EXPECT_LT(distance(y, expected), kF32);
  const auto d_y = torch::randn_like(y);
  expect_same_gradients(torch::autograd::grad({y}, {x}, {d_y}),
                        torch::autograd::grad({expected}, {x}, {d_y}));
}

TEST(AttentionTest, CrossAgreesWithTorchMultiheadAttention) {
  torch::manual_seed(2);
  Attention ours(options().cross(true));
  randomize_biases(*ours);
  auto theirs = torch_twin(ours);
  const auto x = torch::randn({2, 9, kDim}), memory = torch::randn({2, 70, kDim});
  const auto y = ours->forward_cross(x.reshape({-1, kDim}), Packing::dense(2, 9),
                                     memory.reshape({-1, kDim}), Packing::dense(2, 70));
  const auto m = memory.transpose(0, 1);
  const auto expected = std::get<0>(theirs(x.transpose(0, 1), m, m)).transpose(0, 1);
  EXPECT_LT(distance(y.view({2, 9, kDim}), expected), kF32);
}

TEST(AttentionTest, GroupedKeysAreRepeatedKeys) {
  torch::manual_seed(3);
  Attention grouped(options().kv_heads(2));
  Attention whole(options());
  {
    const torch::NoGradGuard no_grad;
    const int64_t d = kDim / kHeads;
    const auto w = grouped->named_parameters()["qkv.weight"];
    const auto repeat = [&](const at::Tensor& rows) {
      return rows.view({2, d, kDim}).repeat_interleave(2, 0).reshape({kDim, kDim});
    };
    whole->named_parameters()["qkv.weight"].copy_(
        torch::cat({w.slice(0, 0, kDim), repeat(w.slice(0, kDim, kDim + 2 * d)),
                    repeat(w.slice(0, kDim + 2 * d))}));
    whole->named_parameters()["output.weight"].copy_(grouped->named_parameters()["output.weight"]);
  }
  const auto x = torch::randn({1, 33, kDim});
  EXPECT_LT(distance(grouped->forward_dense(x), whole->forward_dense(x)), kF32);
}

TEST(AttentionTest, PatternIsAMask) {
  torch::manual_seed(4);
  Attention ours(options().pattern(Pattern::parse("window(3,1)")));
  auto theirs = torch_twin(ours);
  const auto x = torch::randn({2, 40, kDim});
  const auto i = torch::arange(40).unsqueeze(1), j = torch::arange(40).unsqueeze(0);
  const auto banned = (j < i - 3).logical_or(j > i + 1);
  // LibTorch adds a mask to the scores, a bool one too.
  const auto mask = torch::zeros({40, 40}).masked_fill(banned, -INFINITY);
  const auto t = x.transpose(0, 1);
  const auto expected = std::get<0>(theirs->forward(t, t, t, {}, true, mask)).transpose(0, 1);
  EXPECT_LT(distance(ours->forward_dense(x), expected), kF32);
}

TEST(AttentionTest, PackedIsSeparate) {
  torch::manual_seed(5);
  Attention module(options().rotary(true).pattern(Pattern::parse("window(9)|global(1)")));
  const std::vector<int64_t> lengths = {70, 1, 130, 5};
  const auto packing = packing_of(lengths);
  const auto x = torch::randn({packing.tokens, kDim}).requires_grad_();
  const auto y = module(x, packing);
  const auto d_y = torch::randn_like(y);
  const auto d_x = torch::autograd::grad({y}, {x}, {d_y})[0];
  int64_t begin = 0;
  for (const int64_t n : lengths) {
    const auto part = x.detach().slice(0, begin, begin + n).requires_grad_();
    const auto alone = module(part, packing_of({n}));
    EXPECT_LT(distance(y.slice(0, begin, begin + n), alone), kF32);
    const auto d_part = torch::autograd::grad({alone}, {part}, {d_y.slice(0, begin, begin + n)})[0];
    EXPECT_LT(distance(d_x.slice(0, begin, begin + n), d_part), kF32);
    begin += n;
  }
}

TEST(AttentionTest, RotaryDependsOnDistancesOnly) {
  // q_i · k_j after rotation is a function of i - j: rows moved by a constant, with equal
  // neighbourhoods, give equal results.
  torch::manual_seed(6);
  Attention module(options().rotary(true).pattern(Pattern::parse("window(2,2)")));
  const auto row = torch::randn({7, kDim});
  const auto y = module(row.repeat({6, 1}), packing_of({42}));
  EXPECT_LT(distance(y.slice(0, 7, 14), y.slice(0, 28, 35)), kF32);
  Attention other(options().rotary(true));
  const auto x = torch::randn({20, kDim});
  const auto shuffled = x.flip(0);
  EXPECT_GT(distance(other(x, packing_of({20})).flip(0), other(shuffled, packing_of({20}))), 1e-3)
      << "rotary positions had no effect";
}

TEST(AttentionTest, DropoutDrawsFromTheDefaultGenerator) {
  Attention module(options().dropout(0.5));
  const auto x = torch::randn({50, kDim});
  const auto packing = packing_of({50});
  torch::manual_seed(7);
  const auto first = module(x, packing), second = module(x, packing);
  torch::manual_seed(7);
  EXPECT_TRUE(same_bits(first, module(x, packing)));
  EXPECT_FALSE(same_bits(first, second));
  module->eval();
  EXPECT_TRUE(same_bits(module(x, packing), module(x, packing)));
}

TEST(AttentionTest, RefusesOptionsThatDoNotFit) {
  EXPECT_THROW(Attention(AttentionOptions().model_dim(30).heads(4)), InputError);
  EXPECT_THROW(Attention(AttentionOptions().model_dim(16).heads(4)), InputError);
  EXPECT_THROW(Attention(options().kv_heads(3)), InputError);
  EXPECT_THROW(Attention(options().dropout(1)), InputError);
  EXPECT_THROW(Attention(options().cross(true).rotary(true)), InputError);
  Attention module(options());
  EXPECT_THROW(module(torch::zeros({5, kDim}), packing_of({4})), c10::Error);
}

/// The attention matrix of Katharopoulos et al. 2020, from our projections; without rotation.
at::Tensor linear_formula(Attention& ours, const at::Tensor& x, int64_t kv_heads, bool causal) {
  auto p = ours->named_parameters();
  const int64_t length = x.size(0), group = kHeads / kv_heads, head_dim = kDim / kHeads;
  const auto qkv = torch::linear(x, p["qkv.weight"], p["qkv.bias"])
                       .view({length, kHeads + 2 * kv_heads, head_dim})
                       .transpose(0, 1);
  const auto parts = qkv.split_with_sizes({kHeads, kv_heads, kv_heads}, 0);
  const auto map = [](const at::Tensor& t) { return torch::elu(t) + 1; };
  const auto k = map(parts[1]).repeat_interleave(group, 0);
  const auto v = parts[2].repeat_interleave(group, 0);
  auto a = torch::matmul(map(parts[0]), k.transpose(1, 2));
  if (causal) a = a.tril();
  const auto o = torch::matmul(a / (a.sum(-1, true) + 1e-6), v);
  return torch::linear(o.transpose(0, 1).reshape({length, kDim}), p["output.weight"],
                       p["output.bias"]);
}

TEST(AttentionTest, LinearIsItsFormulaInEachDocument) {
  torch::manual_seed(8);
  for (const bool causal : {false, true}) {
    for (const int64_t kv_heads : {int64_t{4}, int64_t{2}}) {
      Attention ours(options()
                         .kv_heads(kv_heads)
                         .mechanism(Mechanism::kLinear)
                         .pattern(Pattern::parse(causal ? "causal" : "full")));
      randomize_biases(*ours);
      const auto x = torch::randn({60, kDim}).requires_grad_();
      const auto y = ours->forward(x, packing_of({23, 1, 36}));
      std::vector<at::Tensor> documents;
      for (const auto& [begin, end] : {std::pair{0, 23}, {23, 24}, {24, 60}}) {
        documents.push_back(linear_formula(ours, x.slice(0, begin, end), kv_heads, causal));
      }
      const auto expected = torch::cat(documents);
      EXPECT_LT(distance(y, expected), kF32);
      std::vector<at::Tensor> inputs = ours->parameters();
      inputs.push_back(x);
      const auto d_y = torch::randn_like(y);
      expect_same_gradients(torch::autograd::grad({y}, inputs, {d_y}),
                            torch::autograd::grad({expected}, inputs, {d_y}));
    }
  }
}

TEST(AttentionTest, LinearReadsAMemoryAndRotates) {
  torch::manual_seed(9);
  Attention cross(options().cross(true).mechanism(Mechanism::kLinear));
  const auto x = torch::randn({9, kDim}), memory = torch::randn({31, kDim});
  const auto y = cross->forward_cross(x, packing_of({4, 5}), memory, packing_of({30, 1}));
  const auto alone = cross->forward_cross(x.slice(0, 0, 4), packing_of({4}), memory.slice(0, 0, 30),
                                          packing_of({30}));
  EXPECT_LT(distance(y.slice(0, 0, 4), alone), kF32);
  // Without positions a sum over all tokens does not see their order; with them it does.
  for (const bool rotary : {false, true}) {
    Attention self(options().mechanism(Mechanism::kLinear).rotary(rotary));
    const auto straight = self->forward(x, packing_of({9}));
    const auto turned = self->forward(x.flip(0), packing_of({9})).flip(0);
    EXPECT_EQ(distance(turned, straight) > 1e-3, rotary);
  }
}

TEST(AttentionTest, LinearRefusesOtherPatterns) {
  EXPECT_THROW(
      Attention(options().mechanism(Mechanism::kLinear).pattern(Pattern::parse("window(3)"))),
      InputError);
  EXPECT_THROW(
      Attention(
          options().cross(true).mechanism(Mechanism::kLinear).pattern(Pattern::parse("causal"))),
      InputError);
}

}  // namespace
}  // namespace fovea::nn
