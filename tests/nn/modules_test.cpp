#include "nn_test_util.h"

#include "fovea/core/status.h"
#include "fovea/nn/embedding.h"
#include "fovea/nn/feed_forward.h"
#include "fovea/nn/pooling.h"
#include "fovea/nn/random.h"

namespace fovea::nn {
namespace {

TEST(PackingTest, FindsLengthsAndPositions) {
  const auto p = packing_of({2, 0, 3});
  EXPECT_EQ(p.documents, 3);
  EXPECT_EQ(p.tokens, 5);
  EXPECT_EQ(p.max_length, 3);
  EXPECT_EQ(p.min_length, 0);
  EXPECT_TRUE(same_bits(p.positions, torch::tensor({0, 1, 0, 1, 2}, torch::kLong)));
  EXPECT_TRUE(same_bits(Packing::dense(2, 3).cu_seqlens, torch::tensor({0, 3, 6}, torch::kInt)));
}

TEST(PackingTest, RefusesWhatIsNoOffsets) {
  EXPECT_THROW(Packing(torch::tensor({1, 2}, torch::kInt)), c10::Error);
  EXPECT_THROW(Packing(torch::tensor({0, 3, 2}, torch::kInt)), c10::Error);
  EXPECT_THROW(Packing(torch::tensor({0, 3}, torch::kLong)), c10::Error);
  EXPECT_THROW(Packing(torch::empty({0}, torch::kInt)), c10::Error);
}

TEST(RandomTest, SeedsFollowTheDefaultGenerator) {
  torch::manual_seed(1);
  const auto state = at::detail::getDefaultCPUGenerator().get_state();
  const int64_t a = draw_seed(), b = draw_seed();
  EXPECT_NE(a, b);
  EXPECT_GE(a, 0);
  auto generator = at::detail::getDefaultCPUGenerator();
  generator.set_state(state);
  EXPECT_EQ(draw_seed(), a);
}

TEST(RandomTest, DropoutWithoutTrainingDrawsNothing) {
  const auto state = at::detail::getDefaultCPUGenerator().get_state();
  const auto x = torch::ones({10});
  EXPECT_TRUE(apply_dropout(x, 0.5, false).is_same(x));
  EXPECT_TRUE(same_bits(add_dropout(x, x, 0.5, false), x + x));
  EXPECT_TRUE(same_bits(at::detail::getDefaultCPUGenerator().get_state(), state));
}

TEST(RandomTest, TruncatedNormal) {
  torch::manual_seed(2);
  auto w = torch::empty({1000, 100});
  init_truncated_normal_(w, 0.5);
  EXPECT_LE(w.abs().max().item<double>(), 1.0 + 1e-5);
  EXPECT_GT(w.abs().max().item<double>(), 0.98);
  // A normal cut at two deviations has 0.8796 of the deviation; 100,000 draws.
  EXPECT_NEAR(w.std().item<double>(), 0.5 * 0.8796, 0.005);
  EXPECT_NEAR(w.mean().item<double>(), 0, 0.005);
}

TEST(FeedForwardTest, ActivationsAreTheirFormulas) {
  const auto x = torch::randn({7, 16});
  const auto run = [&](Activation activation, auto formula) {
    FeedForward module(16, 24, activation);
    auto p = module->named_parameters();
    const auto h = torch::linear(x, p["input.weight"], p["input.bias"]);
    const auto expected = torch::linear(formula(h), p["output.weight"], p["output.bias"]);
    EXPECT_LT(distance(module(x), expected), kF32);
  };
  const auto gelu = [](const at::Tensor& h) {
    return h * 0.5 * (1 + torch::erf(h / std::sqrt(2.0)));
  };
  const auto halves = [](const at::Tensor& h) { return h.chunk(2, -1); };
  run(Activation::kGelu, gelu);
  run(Activation::kRelu, [](const at::Tensor& h) { return h.clamp_min(0); });
  run(Activation::kSwiglu, [&](const at::Tensor& h) {
    return halves(h)[0] * torch::sigmoid(halves(h)[0]) * halves(h)[1];
  });
  run(Activation::kGeglu, [&](const at::Tensor& h) { return gelu(halves(h)[0]) * halves(h)[1]; });
}

EmbeddingOptions embedding_options(Positions positions) {
  return EmbeddingOptions().vocab_size(11).model_dim(16).positions(positions).max_length(9);
}

TEST(EmbeddingTest, PositionsRestartInEveryDocument) {
  for (const auto positions : {Positions::kLearned, Positions::kSinusoidal, Positions::kNone}) {
    Embedding module(embedding_options(positions));
    const auto ids = torch::tensor({3, 3, 3, 3, 3}, torch::kLong);
    const auto x = module(ids, packing_of({3, 2}));
    EXPECT_TRUE(same_bits(x.slice(0, 0, 2), x.slice(0, 3, 5)));
    EXPECT_EQ(same_bits(x[0], x[1]), positions == Positions::kNone);
  }
}

TEST(EmbeddingTest, SinusoidsAreTheFormula) {
  Embedding module(embedding_options(Positions::kSinusoidal));
  auto p = module->named_parameters();
  const auto x = module(torch::tensor({1, 1, 1}, torch::kLong), packing_of({3}));
  auto row = p["tokens.weight"][1].detach().clone();
  for (int64_t i = 0; i < 16; ++i) {
    const double angle = 2 * std::pow(10000.0, -(i / 2 * 2) / 16.0);
    row[i] += 0.02 * std::sqrt(2.0) * (i % 2 ? std::cos(angle) : std::sin(angle));
  }
  EXPECT_LT(distance(x[2], torch::layer_norm(row, {16})), kF32);
}

TEST(EmbeddingTest, TokenDropoutRemovesWholeTokens) {
  torch::manual_seed(3);
  Embedding module(embedding_options(Positions::kNone).token_dropout(0.5));
  const auto x = module(torch::full({2000}, 4, torch::kLong), packing_of({2000}));
  const auto whole = (x.abs().sum(1) > 0).sum().item<int64_t>();  // norm(0) is the bias, 0
  EXPECT_NEAR(static_cast<double>(whole), 1000, 5 * std::sqrt(500.0));
  EXPECT_EQ((x != 0).sum().item<int64_t>(), 16 * whole);
}

TEST(EmbeddingTest, RefusesBadIds) {
  Embedding module(embedding_options(Positions::kLearned));
  EXPECT_THROW(module(torch::tensor({11}, torch::kLong), packing_of({1})), c10::Error);
  EXPECT_THROW(module(torch::tensor({-1}, torch::kLong), packing_of({1})), c10::Error);
  EXPECT_THROW(module(torch::zeros({10}, torch::kLong), packing_of({10})), c10::Error);
  EXPECT_THROW(module(torch::zeros({3}, torch::kLong), packing_of({2})), c10::Error);
}

at::Tensor pool(PoolingType type, const at::Tensor& x, const Packing& packing) {
  return Pooling(type, x.size(1))(x, packing);
}

TEST(PoolingTest, EveryTypeIsItsLoop) {
  torch::manual_seed(4);
  const std::vector<int64_t> lengths = {5, 1, 70};
  const auto packing = packing_of(lengths);
  const auto x = torch::randn({76, 16});
  Pooling attention(PoolingType::kAttention, 16, 2);
  auto p = attention->named_parameters();
  const auto by_attention = attention(x, packing);
  int64_t begin = 0;
  for (int64_t n = 0; n < 3; ++n) {
    const auto rows = x.slice(0, begin, begin + lengths[n]);
    begin += lengths[n];
    EXPECT_LT(distance(pool(PoolingType::kMean, x, packing)[n], rows.mean(0)), kF32);
    EXPECT_TRUE(same_bits(pool(PoolingType::kMax, x, packing)[n], std::get<0>(rows.max(0))));
    EXPECT_TRUE(same_bits(pool(PoolingType::kFirst, x, packing)[n], rows[0]));
    EXPECT_TRUE(same_bits(pool(PoolingType::kLast, x, packing)[n], rows[-1]));
    const auto scores = torch::linear(rows, p["score.weight"], p["score.bias"]);
    const auto weights = scores.softmax(0).unsqueeze(2);  // [n, heads, 1]
    const auto expected = (weights * rows.view({-1, 2, 8})).sum(0).reshape({16});
    EXPECT_LT(distance(by_attention[n], expected), kF32);
  }
}

TEST(PoolingTest, GradientsAreThoseOfTheLoop) {
  torch::manual_seed(5);
  const auto packing = packing_of({4, 9});
  for (const auto type : {PoolingType::kMean, PoolingType::kMax, PoolingType::kFirst,
                          PoolingType::kLast, PoolingType::kAttention}) {
    const auto x = torch::randn({13, 16}).requires_grad_();
    Pooling module(type, 16, 2);
    const auto d_y = torch::randn({2, 16});
    const auto whole = torch::autograd::grad({module(x, packing)}, {x}, {d_y})[0];
    const auto a = module(x.slice(0, 0, 4), packing_of({4}));
    const auto b = module(x.slice(0, 4), packing_of({9}));
    const auto parts = torch::autograd::grad({torch::cat({a, b})}, {x}, {d_y})[0];
    EXPECT_LT(distance(whole, parts), kF32);
    EXPECT_GT(whole.abs().sum().item<double>(), 0);
  }
}

TEST(PoolingTest, RefusesEmptyDocuments) {
  EXPECT_THROW(pool(PoolingType::kFirst, torch::zeros({3, 8}), packing_of({3, 0})), c10::Error);
}

TEST(ChoiceTest, UnknownNamesAreListed) {
  try {
    parse_pooling("median");
    FAIL();
  } catch (const InputError& error) {
    EXPECT_STREQ(error.what(),
                 "pooling: expected one of mean, max, first, last, attention; found \"median\"");
  }
  EXPECT_THROW(parse_activation("tanh"), InputError);
  EXPECT_THROW(parse_positions("alibi"), InputError);
  EXPECT_THROW(parse_norm_type("batch"), InputError);
}

}  // namespace
}  // namespace fovea::nn
