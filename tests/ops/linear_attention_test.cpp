// The C++ entries of linear attention against the oracle.
#include "fovea/ops/linear_attention.h"

#include <vector>

#include <gtest/gtest.h>
#include <torch/torch.h>

#include "fovea/reference/linear_attention_reference.h"

namespace fovea::ops {
namespace {

std::vector<double> values(const at::Tensor& x) {
  const at::Tensor dense = x.detach().to(torch::kDouble).contiguous();
  return {dense.const_data_ptr<double>(), dense.const_data_ptr<double>() + dense.numel()};
}

void expect_near(const at::Tensor& x, const std::vector<double>& expected) {
  const std::vector<double> actual = values(x);
  ASSERT_EQ(actual.size(), expected.size());
  for (size_t i = 0; i < actual.size(); ++i) ASSERT_NEAR(actual[i], expected[i], 1e-11) << i;
}

TEST(LinearAttentionOp, PackedDocumentsAreTheOracle) {
  torch::manual_seed(1);
  const auto make = [](int64_t dim) {
    return torch::randn({40, 2, dim}, torch::kDouble).requires_grad_();
  };
  const at::Tensor q = make(8), k = make(8), v = make(16);
  LinearAttentionArguments arguments;
  arguments.causal = true;
  arguments.decay = -torch::rand({40, 2}, torch::kDouble);
  arguments.decay.requires_grad_();
  arguments.initial_state = torch::rand({3, 2, 8, 17}, torch::kDouble).requires_grad_();
  const at::Tensor offsets = torch::tensor({0, 7, 7, 40}, torch::kInt);
  const auto [o, state] = linear_attention_varlen(q, k, v, offsets, offsets, arguments);

  reference::LinearProblem p;
  p.heads = 2;
  p.q_len = p.kv_len = 40;
  p.value_dim = 16;
  p.map = FeatureMap::kEluPlusOne;
  p.normalise = true;
  p.eps = 1e-6;
  p.q = values(q.transpose(0, 1));
  p.k = values(k.transpose(0, 1));
  p.v = values(v.transpose(0, 1));
  p.decay = values(arguments.decay.transpose(0, 1));
  p.initial_state = values(arguments.initial_state);
  p.cu_seqlens_q = p.cu_seqlens_k = {0, 7, 7, 40};
  const auto expected = reference::linear_attention_forward(p);
  expect_near(o.transpose(0, 1), expected.o);
  expect_near(state, expected.final_state);

  const at::Tensor d_o = torch::randn_like(o), d_state = torch::randn_like(state);
  const auto gradients = torch::autograd::grad(
      {o, state}, {q, k, v, arguments.decay, arguments.initial_state}, {d_o, d_state});
  const auto g =
      reference::linear_attention_backward(p, values(d_o.transpose(0, 1)), values(d_state));
  expect_near(gradients[0].transpose(0, 1), g.d_q);
  expect_near(gradients[1].transpose(0, 1), g.d_k);
  expect_near(gradients[2].transpose(0, 1), g.d_v);
  expect_near(gradients[3].transpose(0, 1), g.d_decay);
  expect_near(gradients[4], g.d_initial_state);
}

TEST(LinearAttentionOp, DeltaWritesAreTheOracle) {
  torch::manual_seed(2);
  const auto make = [](int64_t dim) {
    return (torch::randn({40, 2, dim}, torch::kDouble) / 3).requires_grad_();
  };
  const at::Tensor q = make(8), k = make(8), v = make(16);
  LinearAttentionArguments arguments;
  arguments.map = FeatureMap::kIdentity;
  arguments.causal = true;
  arguments.normalise = false;
  arguments.beta = torch::rand({40, 2}, torch::kDouble).requires_grad_();
  const at::Tensor offsets = torch::tensor({0, 7, 7, 40}, torch::kInt);
  const auto [o, state] = linear_attention_varlen(q, k, v, offsets, offsets, arguments);

  reference::LinearProblem p;
  p.heads = 2;
  p.q_len = p.kv_len = 40;
  p.value_dim = 16;
  p.q = values(q.transpose(0, 1));
  p.k = values(k.transpose(0, 1));
  p.v = values(v.transpose(0, 1));
  p.beta = values(arguments.beta.transpose(0, 1));
  p.cu_seqlens_q = p.cu_seqlens_k = {0, 7, 7, 40};
  const auto expected = reference::linear_attention_forward(p);
  expect_near(o.transpose(0, 1), expected.o);
  expect_near(state, expected.final_state);
  const at::Tensor d_o = torch::randn_like(o);
  const auto gradients = torch::autograd::grad({o}, {k, arguments.beta}, {d_o});
  const auto g = reference::linear_attention_backward(p, values(d_o.transpose(0, 1)), {});
  expect_near(gradients[0].transpose(0, 1), g.d_k);
  expect_near(gradients[1].transpose(0, 1), g.d_beta);
}

// Gradients through steps are those through the whole, by way of the states too.
TEST(LinearAttentionOp, StepsHaveGradients) {
  torch::manual_seed(4);
  const auto leaf = [](at::Tensor x) { return x.detach().requires_grad_(); };
  for (const bool delta : {false, true}) {
    const at::Tensor q = leaf(torch::randn({1, 2, 9, 8}, torch::kDouble)),
                     k = leaf(torch::randn({1, 2, 9, 8}, torch::kDouble) / 3),
                     v = leaf(torch::randn({1, 2, 9, 16}, torch::kDouble)),
                     decay = leaf(-torch::rand({1, 2, 9}, torch::kDouble)),
                     beta = leaf(torch::rand({1, 2, 9}, torch::kDouble)),
                     state = leaf(torch::randn({1, 2, 8, delta ? 16 : 17}, torch::kDouble));
    LinearAttentionArguments arguments;
    arguments.normalise = !delta;
    if (delta) arguments.map = FeatureMap::kIdentity;
    LinearAttentionArguments all = arguments;
    all.causal = true;
    all.decay = decay;
    all.initial_state = state.abs();
    if (delta) all.beta = beta;
    const auto [o, last] = linear_attention(q, k, v, all);
    std::vector<at::Tensor> rows;
    at::Tensor current = state.abs();
    for (int64_t t = 0; t < 9; ++t) {
      arguments.decay = decay.select(2, t);
      if (delta) arguments.beta = beta.select(2, t);
      at::Tensor row;
      std::tie(row, current) =
          linear_attention_step(q.select(2, t), k.select(2, t), v.select(2, t), current, arguments);
      rows.push_back(row);
    }
    const at::Tensor stepped = torch::stack(rows, 2), d_o = torch::randn_like(o),
                     d_last = torch::randn_like(last);
    EXPECT_TRUE(torch::allclose(stepped, o, 1e-11, 1e-11));
    std::vector<at::Tensor> leaves = {q, k, v, decay, state};
    if (delta) leaves.push_back(beta);
    const auto g = torch::autograd::grad({o, last}, leaves, {d_o, d_last}),
               h = torch::autograd::grad({stepped, current}, leaves, {d_o, d_last});
    for (size_t i = 0; i < leaves.size(); ++i) {
      EXPECT_GT(g[i].abs().max().item<double>(), 0);
      EXPECT_TRUE(torch::allclose(h[i], g[i], 1e-9, 1e-9)) << i;
    }
  }
}

TEST(LinearAttentionOp, RefusesWithEveryReason) {
  const at::Tensor x = torch::randn({1, 2, 5, 8}), v = torch::randn({1, 2, 6, 12});
  try {
    linear_attention(x, x, v);
    FAIL();
  } catch (const c10::Error& error) {
    const std::string message = error.what();
    EXPECT_NE(message.find("expected v [B, H, Sk, Dv] = [1, 2, 5, 12], got [1, 2, 6, 12]"),
              std::string::npos)
        << message;
    EXPECT_NE(message.find("last extent of v a multiple of 8"), std::string::npos);
  }
}

}  // namespace
}  // namespace fovea::ops
