#include "fovea/train/optimizer.h"

#include <cmath>

#include <ATen/ops/randn.h>
#include <ATen/ops/zeros_like.h>
#include <gtest/gtest.h>

namespace fovea::train {
namespace {

at::Tensor leaf(std::vector<int64_t> shape) {
  return at::randn(shape, at::kFloat).requires_grad_(true);
}

// Algorithm 2 of Loshchilov and Hutter, one number at a time, in double.
struct ReferenceAdamW {
  double m = 0, v = 0;
  double step(double x, double g, int t, double lr, const AdamWOptions& o, double decay) {
    m = o.beta1 * m + (1 - o.beta1) * g;
    v = o.beta2 * v + (1 - o.beta2) * g * g;
    const double m_hat = m / (1 - std::pow(o.beta1, t));
    const double v_hat = v / (1 - std::pow(o.beta2, t));
    return x - lr * (m_hat / (std::sqrt(v_hat) + o.eps)) - lr * decay * x;
  }
};

void check_against_reference(const std::string& name, std::vector<int64_t> shape,
                             const AdamWOptions& options, double expected_decay) {
  at::Tensor x = leaf(std::move(shape));
  std::vector<double> expected;
  for (int64_t i = 0; i < x.numel(); ++i) expected.push_back(x.view(-1)[i].item<double>());
  std::vector<ReferenceAdamW> reference(expected.size());
  AdamW optimizer({{name, x}}, options);
  for (int t = 1; t <= 5; ++t) {
    const at::Tensor g = at::randn(x.sizes());
    x.mutable_grad() = g.clone();
    const double lr = 0.01 * t;
    optimizer.step(lr);
    EXPECT_FALSE(x.grad().defined());
    for (size_t i = 0; i < expected.size(); ++i) {
      expected[i] =
          reference[i].step(expected[i], g.view(-1)[static_cast<int64_t>(i)].item<double>(), t, lr,
                            options, expected_decay);
      // A few float32 roundings a step of numbers near 1.
      EXPECT_NEAR(x.view(-1)[static_cast<int64_t>(i)].item<double>(), expected[i],
                  5 * t * 6e-8 * 4);
    }
  }
  EXPECT_EQ(optimizer.steps(), 5);
}

TEST(AdamW, MatricesDecay) {
  const AdamWOptions options{.weight_decay = 0.3};
  check_against_reference("encoder.layers.0.attention.qkv.weight", {7, 5}, options, 0.3);
}

TEST(AdamW, VectorsAndEmbeddingsDoNotDecay) {
  const AdamWOptions options{.weight_decay = 0.3};
  check_against_reference("encoder.norm.weight", {9}, options, 0);
  check_against_reference("embeddings.tokens.weight", {7, 5}, options, 0);
}

TEST(AdamW, EverythingDecaysOnRequest) {
  const AdamWOptions options{.weight_decay = 0.3, .decay_all = true};
  check_against_reference("encoder.norm.weight", {9}, options, 0.3);
  check_against_reference("embeddings.tokens.weight", {7, 5}, options, 0.3);
}

TEST(AdamW, ParameterWithoutGradientStays) {
  at::Tensor x = leaf({3, 3}), y = leaf({3, 3});
  const at::Tensor before = y.detach().clone();
  AdamW optimizer({{"x", x}, {"y", y}}, {});
  x.mutable_grad() = at::randn({3, 3});
  optimizer.step(0.1);
  EXPECT_TRUE(y.detach().equal(before));
}

TEST(ClipGradients, ScalesToTheLimitAndTellsTheNorm) {
  at::Tensor x = leaf({2}), y = leaf({2, 1});
  x.mutable_grad() = at::zeros_like(x).detach().fill_(3);
  y.mutable_grad() = at::zeros_like(y).detach().fill_(4);
  const NamedTensors parameters = {{"x", x}, {"y", y}};
  EXPECT_NEAR(clip_gradients(parameters, 100), std::sqrt(50.0), 1e-6);
  EXPECT_EQ(x.grad()[0].item<float>(), 3);
  clip_gradients(parameters, 1);
  EXPECT_NEAR(x.grad()[1].item<double>(), 3 / std::sqrt(50.0), 1e-7);
  EXPECT_NEAR(y.grad()[0].item<double>(), 4 / std::sqrt(50.0), 1e-7);
}

TEST(ClipGradients, WithoutLimitOnlyMeasures) {
  at::Tensor x = leaf({2});
  x.mutable_grad() = at::zeros_like(x).detach().fill_(1e6);
  EXPECT_NEAR(clip_gradients({{"x", x}}, 0), 1e6 * std::sqrt(2.0), 1);
  EXPECT_EQ(x.grad()[0].item<float>(), 1e6f);
}

}  // namespace
}  // namespace fovea::train
