// What nn::Attention does to its scores, against the definition in torch operations.
#include <functional>
#include <string>
#include <vector>

#include "nn_test_util.h"

#include "fovea/core/status.h"
#include "fovea/nn/attention.h"
#include "fovea/nn/encoder.h"
#include "fovea/nn/position_bias.h"

namespace fovea::nn {
namespace {

constexpr int64_t kDim = 32, kHeads = 4, kHeadDim = kDim / kHeads, kLength = 50;

AttentionOptions options() {
  return AttentionOptions().model_dim(kDim).heads(kHeads).bias_buckets(16).bias_max_distance(20);
}

/// Key position minus query position.
at::Tensor distances(int64_t n) {
  const auto i = torch::arange(n);
  return i.unsqueeze(0) - i.unsqueeze(1);
}

/// T5's definition, over a matrix of distances, as its authors wrote it.
at::Tensor buckets_of(const at::Tensor& distance, int64_t buckets, int64_t max_distance) {
  buckets /= 2;
  const int64_t exact = buckets / 2;
  const auto far = distance.abs();
  const auto large =
      exact + (torch::log(far.to(torch::kFloat) / exact) /
               std::log(static_cast<double>(max_distance) / exact) * (buckets - exact))
                  .to(torch::kLong);
  return (distance > 0).to(torch::kLong) * buckets +
         torch::where(far < exact, far, large.clamp_max(buckets - 1));
}

/// The module's definition on one document x [n, E].
at::Tensor definition(Attention& module, const at::Tensor& x) {
  const auto& o = module->options;
  auto p = module->named_parameters();
  const auto qkv = torch::linear(x, p["qkv.weight"], p["qkv.bias"]).view({-1, 3, kHeads, kHeadDim});
  auto q = qkv.select(1, 0).transpose(0, 1), k = qkv.select(1, 1).transpose(0, 1);
  const auto v = qkv.select(1, 2).transpose(0, 1);
  at::Tensor scale = torch::full({kHeads}, 1 / std::sqrt(static_cast<double>(kHeadDim)));
  if (o.cosine()) {
    q = q / q.norm(2, -1, true);
    k = k / k.norm(2, -1, true);
    scale = p["log_scale"].clamp_max(std::log(100.0)).exp();
  }
  at::Tensor s = torch::matmul(q, k.transpose(1, 2)) * scale.view({-1, 1, 1});
  if (o.scores() == Scores::kAdditive) {
    const auto inside = torch::tanh(q.unsqueeze(2) + k.unsqueeze(1));  // [H, n, n, D]
    s = (inside * p["score_weight"].view({kHeads, 1, 1, kHeadDim})).sum(-1);
  }
  if (o.scores() == Scores::kLeaky) {
    const auto u = (q * p["query_vector"].unsqueeze(1)).sum(-1),
               w = (k * p["key_vector"].unsqueeze(1)).sum(-1);
    s = torch::leaky_relu(u.unsqueeze(2) + w.unsqueeze(1), 0.2);
  }
  if (o.softcap() > 0) s = o.softcap() * torch::tanh(s / o.softcap());
  const auto distance = distances(x.size(0));
  if (o.position_bias() == PositionBias::kT5) {
    const auto bucket = buckets_of(distance, o.bias_buckets(), o.bias_max_distance());
    s = s + p["position_bias"].index({bucket}).permute({2, 0, 1});
  }
  if (o.position_bias() == PositionBias::kAlibi) {
    const auto slopes = torch::tensor({0.25, 0.0625, 0.015625, 0.00390625}).to(s.scalar_type());
    s = s - slopes.view({-1, 1, 1}) * distance.abs();
  }
  at::Tensor weights;
  if (o.sinks()) {
    const auto sink = p["sinks"].view({-1, 1, 1}).expand({kHeads, x.size(0), 1});
    weights = torch::softmax(torch::cat({s, sink}, 2), 2).slice(2, 0, x.size(0));
  } else {
    weights = torch::softmax(s, 2);
  }
  const auto joined = torch::matmul(weights, v).transpose(0, 1).reshape({-1, kDim});
  return torch::linear(joined, p["output.weight"], p["output.bias"]);
}

struct Case {
  std::string name;
  std::function<AttentionOptions()> options;
  std::vector<std::string> learned;
};

void PrintTo(const Case& c, std::ostream* out) { *out << c.name; }

const std::vector<Case> kCases = {
    {"alibi", [] { return options().position_bias(PositionBias::kAlibi); }, {}},
    {"t5", [] { return options().position_bias(PositionBias::kT5); }, {"position_bias"}},
    {"softcap", [] { return options().softcap(0.5); }, {}},
    {"cosine", [] { return options().cosine(true); }, {"log_scale"}},
    {"sinks", [] { return options().sinks(true); }, {"sinks"}},
    {"additive", [] { return options().scores(Scores::kAdditive); }, {"score_weight"}},
    {"leaky", [] { return options().scores(Scores::kLeaky); }, {"query_vector", "key_vector"}},
    {"everything",
     [] { return options().position_bias(PositionBias::kT5).softcap(2).cosine(true).sinks(true); },
     {"position_bias", "log_scale", "sinks"}},
};

class ScoreOptionsTest : public ::testing::TestWithParam<Case> {};

TEST_P(ScoreOptionsTest, IsItsDefinitionWithEveryGradient) {
  torch::manual_seed(1);
  Attention module(GetParam().options());
  {
    const torch::NoGradGuard no_grad;
    for (auto& p : module->named_parameters()) {
      // Larger vectors would leave every score of a row on one side of the leaky ReLU's bend.
      const bool drawn = p.key().ends_with("weight") || p.key().ends_with("vector");
      if (!drawn) p.value().normal_(1, 0.5);
    }
  }
  const auto x = torch::randn({kLength, kDim}).requires_grad_();
  const auto y = module(x, packing_of({kLength}));
  const auto expected = definition(module, x);
  EXPECT_LT(distance(y, expected), kF32);
  const auto d_y = torch::randn_like(y);
  std::vector<at::Tensor> inputs = module->parameters();
  inputs.push_back(x);
  expect_same_gradients(torch::autograd::grad({y}, inputs, {d_y}),
                        torch::autograd::grad({expected}, inputs, {d_y}));
  for (const std::string& name : GetParam().learned) {
    ASSERT_TRUE(module->named_parameters().contains(name));
    EXPECT_GT(torch::autograd::grad({module(x, packing_of({kLength}))},
                                    {module->named_parameters()[name]}, {d_y})[0]
                  .abs()
                  .max()
                  .item<double>(),
              0);
  }
}

TEST_P(ScoreOptionsTest, DistancesCountInsideADocument) {
  torch::manual_seed(2);
  Attention module(GetParam().options());
  const std::vector<int64_t> lengths = {40, 1, 70};
  const auto packing = packing_of(lengths);
  const auto x = torch::randn({packing.tokens, kDim});
  const auto y = module(x, packing);
  int64_t begin = 0;
  for (const int64_t n : lengths) {
    const auto alone = module(x.slice(0, begin, begin + n), packing_of({n}));
    EXPECT_LT(distance(y.slice(0, begin, begin + n), alone), kF32);
    begin += n;
  }
}

INSTANTIATE_TEST_SUITE_P(Options, ScoreOptionsTest, ::testing::ValuesIn(kCases),
                         [](const auto& info) { return info.param.name; });

TEST(PositionBiasTest, SlopesAreThePublishedOnes) {
  const auto slopes = [](int64_t heads) {
    const at::Tensor x = alibi_slopes(heads);
    return std::vector<float>(x.data_ptr<float>(), x.data_ptr<float>() + heads);
  };
  EXPECT_EQ(slopes(8), (std::vector<float>{0.5F, 0.25F, 0.125F, 0.0625F, 0.03125F, 0.015625F,
                                           0.0078125F, 0.00390625F}));
  const auto six = slopes(6);  // those of 4, then the first and third of 8
  EXPECT_EQ(six, (std::vector<float>{0.25F, 0.0625F, 0.015625F, 0.00390625F, 0.5F, 0.125F}));
}

TEST(PositionBiasTest, BucketsAreT5s) {
  for (const auto& [buckets, m] : {std::pair<int64_t, int64_t>{32, 128}, {16, 20}, {4, 2}}) {
    const auto distance = torch::arange(-m, m + 1);
    EXPECT_TRUE(torch::equal(t5_buckets(buckets, m), buckets_of(distance, buckets, m)));
  }
  const auto far = t5_buckets(32, 128);
  EXPECT_EQ(far[0].item<int64_t>(), 15);
  EXPECT_EQ(far[256].item<int64_t>(), 31);
}

TEST(PositionBiasTest, WhatDoesNotFitTogetherIsRefused) {
  const auto linear = options().mechanism(Mechanism::kLinear);
  EXPECT_THROW(Attention(AttentionOptions(linear).position_bias(PositionBias::kAlibi)), InputError);
  EXPECT_THROW(Attention(AttentionOptions(linear).softcap(1)), InputError);
  EXPECT_THROW(Attention(AttentionOptions(linear).cosine(true)), InputError);
  for (const Scores scores : {Scores::kAdditive, Scores::kLeaky}) {
    EXPECT_THROW(Attention(AttentionOptions(linear).scores(scores)), InputError);
    EXPECT_THROW(Attention(options().scores(scores).cosine(true)), InputError);
    EXPECT_THROW(Attention(options().scores(scores).rotary(true)), InputError);
  }
  EXPECT_THROW(Attention(AttentionOptions(linear).sinks(true)), InputError);
  EXPECT_THROW(Attention(options().cross(true).position_bias(PositionBias::kT5)), InputError);
  EXPECT_THROW(Attention(options().softcap(-1)), InputError);
  const auto t5 = options().position_bias(PositionBias::kT5);
  EXPECT_THROW(Attention(AttentionOptions(t5).bias_buckets(6)), InputError);
  EXPECT_THROW(Attention(AttentionOptions(t5).bias_max_distance(4)), InputError);
  EXPECT_NO_THROW(Attention(options().cross(true).softcap(3).cosine(true).sinks(true)));
}

}  // namespace
}  // namespace fovea::nn
