#include "fovea/nn/encoder.h"

#include "nn_test_util.h"
#include <ATen/autocast_mode.h>

#include "fovea/nn/checkpoint.h"

namespace fovea::nn {
namespace {

namespace F = torch::nn::functional;

constexpr int64_t kDim = 32, kHeads = 4, kFf = 48;

EncoderLayerOptions layer_options() {
  return EncoderLayerOptions()
      .attention(AttentionOptions().model_dim(kDim).heads(kHeads))
      .ff_dim(kFf);
}

void randomize_vectors(torch::nn::Module& module) {
  const torch::NoGradGuard no_grad;
  for (auto& p : module.named_parameters()) {
    if (p.value().dim() == 1) p.value().add_(torch::randn_like(p.value()) * 0.3);
  }
}

std::vector<at::Tensor> gradients(const at::Tensor& y, const std::vector<at::Tensor>& inputs) {
  torch::manual_seed(99);
  return torch::autograd::grad({y}, inputs, {torch::randn(y.sizes())});
}

TEST(EncoderLayerTest, PostNormAgreesWithTorchTransformerEncoderLayer) {
  torch::manual_seed(1);
  EncoderLayer ours(layer_options().pre_norm(false).activation(Activation::kRelu));
  randomize_vectors(*ours);
  torch::nn::TransformerEncoderLayer theirs(
      torch::nn::TransformerEncoderLayerOptions(kDim, kHeads).dim_feedforward(kFf).dropout(0));
  const std::map<std::string, std::string> names = {
      {"self_attn.in_proj_weight", "attention.qkv.weight"},
      {"self_attn.in_proj_bias", "attention.qkv.bias"},
      {"self_attn.out_proj.weight", "attention.output.weight"},
      {"self_attn.out_proj.bias", "attention.output.bias"},
      {"linear1.weight", "feed_forward.input.weight"},
      {"linear1.bias", "feed_forward.input.bias"},
      {"linear2.weight", "feed_forward.output.weight"},
      {"linear2.bias", "feed_forward.output.bias"},
      {"norm1.weight", "attention_norm.weight"},
      {"norm1.bias", "attention_norm.bias"},
      {"norm2.weight", "feed_forward_norm.weight"},
      {"norm2.bias", "feed_forward_norm.bias"}};
  std::vector<at::Tensor> our_weights, their_weights;
  auto parameters = ours->named_parameters();
  ASSERT_EQ(parameters.size(), names.size());
  for (auto& p : theirs->named_parameters()) {
    const torch::NoGradGuard no_grad;
    our_weights.push_back(parameters[names.at(p.key())]);
    their_weights.push_back(p.value().copy_(our_weights.back()));
  }
  const auto x = torch::randn({2, 70, kDim});
  const auto y = ours(x.reshape({-1, kDim}), Packing::dense(2, 70)).view(x.sizes());
  const auto expected = theirs(x.transpose(0, 1)).transpose(0, 1);
  EXPECT_LT(distance(y, expected), kF32);
  expect_same_gradients(gradients(y, our_weights), gradients(expected, their_weights));
}

TEST(EncoderLayerTest, PreNormIsItsEquations) {
  for (const auto norm : {NormType::kLayer, NormType::kRms}) {
    torch::manual_seed(2);
    EncoderLayer ours(layer_options().norm_type(norm).activation(Activation::kSwiglu));
    randomize_vectors(*ours);
    auto p = ours->named_parameters();
    const auto normalize = [&](const at::Tensor& x, const std::string& name) {
      if (norm == NormType::kRms) {
        return x * (x.pow(2).mean(-1, true) + 1e-5).rsqrt() * p[name + ".weight"];
      }
      return F::layer_norm(
          x, F::LayerNormFuncOptions({kDim}).weight(p[name + ".weight"]).bias(p[name + ".bias"]));
    };
    const auto linear = [&](const at::Tensor& x, const std::string& name) {
      return F::linear(x, p[name + ".weight"], p[name + ".bias"]);
    };
    const auto x = torch::randn({70, kDim});
    const auto qkv = linear(normalize(x, "attention_norm"), "attention.qkv")
                         .view({70, 3, kHeads, kDim / kHeads})
                         .permute({1, 2, 0, 3});
    const auto weights =
        (qkv[0].matmul(qkv[1].transpose(1, 2)) / std::sqrt(double(kDim) / kHeads)).softmax(-1);
    const auto heads = weights.matmul(qkv[2]).transpose(0, 1).reshape({70, kDim});
    const auto h = x + linear(heads, "attention.output");
    const auto inner = linear(normalize(h, "feed_forward_norm"), "feed_forward.input").chunk(2, -1);
    const auto expected = h + linear(F::silu(inner[0]) * inner[1], "feed_forward.output");
    const auto y = ours(x, packing_of({70}));
    EXPECT_LT(distance(y, expected), kF32);
    expect_same_gradients(gradients(y, ours->parameters()),
                          gradients(expected, ours->parameters()));
  }
}

EncoderOptions encoder_options(double dropout = 0) {
  auto layer = layer_options().dropout(dropout);
  layer.attention().rotary(true).dropout(dropout);
  return EncoderOptions().layer(layer).attention(parse_layers("window(4)*2, full", 4));
}

TEST(EncoderTest, LayersFollowTheirPatterns) {
  // window(0) lets a token see itself only, so a change stays where it is; one full layer spreads
  // it.
  const auto reach = [](const char* patterns) {
    torch::manual_seed(3);
    Encoder encoder(EncoderOptions().layer(layer_options()).attention(parse_layers(patterns, 3)));
    const auto x = torch::randn({30, kDim});
    auto moved = x.clone();
    moved[20] += 1;
    const auto change = (encoder(x, packing_of({30})) - encoder(moved, packing_of({30}))).abs();
    return (change.sum(1) > 0).sum().item<int64_t>();
  };
  EXPECT_EQ(reach("window(0)"), 1);
  EXPECT_EQ(reach("window(1,0)"), 4);  // three layers, one step to the right each
  EXPECT_EQ(reach("window(0)*2, full"), 30);
}

TEST(EncoderTest, DocumentsDoNotInfluenceOneAnother) {
  torch::manual_seed(4);
  Encoder encoder(encoder_options());
  const auto packing = packing_of({40, 3, 90});
  const auto x = torch::randn({133, kDim}).requires_grad_();
  const auto y = encoder(x, packing);
  const auto d_x = torch::autograd::grad({y.slice(0, 40, 43).sum()}, {x})[0];
  EXPECT_GT(d_x.slice(0, 40, 43).abs().sum().item<double>(), 0);
  EXPECT_EQ(d_x.slice(0, 0, 40).abs().sum().item<double>(), 0);
  EXPECT_EQ(d_x.slice(0, 43).abs().sum().item<double>(), 0);
  EXPECT_LT(distance(y.slice(0, 43), encoder(x.slice(0, 43), packing_of({90}))), kF32);
}

TEST(EncoderTest, GradientsReachEveryParameter) {
  torch::manual_seed(5);
  Encoder encoder(encoder_options(0.1));
  encoder(torch::randn({50, kDim}), packing_of({20, 30})).pow(2).sum().backward();
  for (const auto& p : encoder->named_parameters()) {
    ASSERT_TRUE(p.value().grad().defined()) << p.key();
    EXPECT_GT(p.value().grad().abs().max().item<double>(), 0) << p.key();
  }
}

struct Step {
  at::Tensor y;
  std::vector<at::Tensor> gradients;
};

Step step(Encoder& encoder, const at::Tensor& x, const Packing& packing, bool autocast = false) {
  torch::manual_seed(77);
  at::autocast::set_autocast_enabled(at::kCPU, autocast);
  const auto y = encoder(x, packing);
  at::autocast::set_autocast_enabled(at::kCPU, false);
  at::autocast::clear_cache();
  return {y, gradients(y, encoder->parameters())};
}

void expect_equal(const Step& a, const Step& b) {
  EXPECT_TRUE(same_bits(a.y, b.y));
  for (size_t i = 0; i < a.gradients.size(); ++i) {
    EXPECT_TRUE(same_bits(a.gradients[i], b.gradients[i])) << "gradient " << i;
  }
}

TEST(EncoderTest, ThreadsDoNotMatter) {
  torch::manual_seed(6);
  Encoder encoder(encoder_options(0.2));
  const auto x = torch::randn({200, kDim});
  const auto packing = packing_of({120, 80});
  const int threads = at::get_num_threads();
  at::set_num_threads(1);
  const Step one = step(encoder, x, packing);
  at::set_num_threads(2);
  const Step two = step(encoder, x, packing);
  expect_equal(step(encoder, x, packing), two);
  at::set_num_threads(threads);
  EXPECT_TRUE(same_bits(one.y, two.y));
  // torch sums the gradients of norms' weights by thread: the same to rounding, not to the bit.
  const auto names = encoder->named_parameters().keys();
  for (size_t i = 0; i < names.size(); ++i) {
    if (names[i].find("norm") == std::string::npos) {
      EXPECT_TRUE(same_bits(one.gradients[i], two.gradients[i])) << names[i];
    } else {
      EXPECT_LT(distance(one.gradients[i], two.gradients[i]), kF32) << names[i];
    }
  }
}

TEST(EncoderTest, CheckpointingKeepsTheBits) {
  torch::manual_seed(7);
  Encoder encoder(encoder_options(0.3));
  const auto x = torch::randn({90, kDim});  // wants no gradient: the first layer's weights still do
  const auto packing = packing_of({60, 30});
  for (const bool autocast : {false, true}) {
    encoder->set_gradient_checkpointing(false);
    const Step plain = step(encoder, x, packing, autocast);
    encoder->set_gradient_checkpointing(true);
    expect_equal(step(encoder, x, packing, autocast), plain);
  }
}

TEST(CheckpointTest, LeavesTheGeneratorWhereThePlainRunLeavesIt) {
  torch::manual_seed(8);
  Encoder encoder(encoder_options(0.3));
  encoder->set_gradient_checkpointing(true);
  const auto x = torch::randn({20, kDim});
  const auto state = [] { return at::detail::getDefaultCPUGenerator().get_state(); };
  const auto y = encoder(x, packing_of({20})).sum();
  const auto before = state();
  y.backward();
  EXPECT_TRUE(same_bits(before, state()));
}

TEST(CheckpointTest, KeepsOnlyTheInput) {
  // The body's intermediate is not alive between forward and backward.
  std::weak_ptr<int> alive;
  const auto body = [&](const at::Tensor& x) {
    auto token = std::make_shared<int>(0);
    alive = token;
    const auto hidden = torch::from_blob(
        new float[4]{1, 2, 3, 4}, {4}, [token](void* data) { delete[] static_cast<float*>(data); },
        torch::kFloat);
    token.reset();
    return x * hidden;  // the product's backward needs `hidden`
  };
  const auto x = torch::ones({4}).requires_grad_();
  const auto plain = body(x);
  EXPECT_FALSE(alive.expired()) << "the test sees nothing";
  const auto y = checkpoint(body, x, {});
  EXPECT_TRUE(alive.expired());
  EXPECT_TRUE(
      same_bits(torch::autograd::grad({y.sum()}, {x})[0], torch::tensor({1.f, 2.f, 3.f, 4.f})));
}

}  // namespace
}  // namespace fovea::nn
