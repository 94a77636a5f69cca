// The operators against the oracle in double and torch's own attention, without Python.
#include "fovea/ops/attention.h"

#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include <ATen/autocast_mode.h>
#include <gtest/gtest.h>
#include <torch/torch.h>

#include "fovea/reference/attention_reference.h"

namespace fovea::ops {
namespace {

std::vector<double> values(const at::Tensor& x) {
  const at::Tensor dense = x.detach().to(torch::kDouble).contiguous();
  return {dense.const_data_ptr<double>(), dense.const_data_ptr<double>() + dense.numel()};
}

double error(const at::Tensor& x, const std::vector<double>& expected) {
  const auto actual = values(x);
  EXPECT_EQ(actual.size(), expected.size());
  double worst = 0;
  for (size_t i = 0; i < actual.size(); ++i) {
    if (actual[i] == expected[i]) continue;  // -inf too
    worst = std::max(worst, std::abs(actual[i] - expected[i]));
  }
  return worst;
}

struct Operands {
  at::Tensor q, k, v;
};

Operands operands(torch::ScalarType type = torch::kDouble, int64_t q_len = 70,
                  int64_t kv_len = 81) {
  torch::manual_seed(1);
  const auto make = [&](int64_t heads, int64_t length, int64_t dim) {
    return torch::randn({2, heads, length, dim}, torch::kDouble).to(type).requires_grad_();
  };
  return {make(4, q_len, 16), make(2, kv_len, 16), make(2, kv_len, 24)};
}

reference::Problem problem_of(const Operands& x, const std::string& pattern) {
  reference::Problem p;
  p.batch = x.q.size(0);
  p.heads = x.q.size(1);
  p.kv_heads = x.k.size(1);
  p.q_len = x.q.size(2);
  p.kv_len = x.k.size(2);
  p.head_dim = x.q.size(3);
  p.value_dim = x.v.size(3);
  p.q = values(x.q);
  p.k = values(x.k);
  p.v = values(x.v);
  p.pattern = Pattern::parse(pattern);
  return p;
}

class AttentionOp : public ::testing::TestWithParam<std::string> {};

TEST_P(AttentionOp, IsTheOracleForwardAndBackward) {
  const auto x = operands();
  AttentionArguments arguments;
  arguments.dropout_p = 0.2;
  arguments.dropout_seed = 77;
  auto problem = problem_of(x, GetParam());
  problem.dropout_p = 0.2;
  problem.dropout_seed = 77;
  const auto [o, lse] = attention(x.q, x.k, x.v, GetParam(), arguments);
  const auto expected = reference::attention_forward(problem);
  EXPECT_LT(error(o, expected.o), 1e-12);
  EXPECT_LT(error(lse, expected.lse), 1e-12);
  const auto d_o = torch::randn_like(o), d_lse = torch::randn_like(lse);
  const auto gradients = torch::autograd::grad({o, lse}, {x.q, x.k, x.v}, {d_o, d_lse});
  const auto expected_gradients =
      reference::attention_backward(problem, values(d_o), values(d_lse));
  EXPECT_LT(error(gradients[0], expected_gradients.d_q), 1e-11);
  EXPECT_LT(error(gradients[1], expected_gradients.d_k), 1e-11);
  EXPECT_LT(error(gradients[2], expected_gradients.d_v), 1e-11);
}

INSTANTIATE_TEST_SUITE_P(Patterns, AttentionOp,
                         ::testing::Values("full", "causal", "window(5,3)", "window(4)|global(2)",
                                           "chunked(16)", "random_blocks(8,2,5)|window(3)"));

TEST(AttentionOpTest, IsTheOracleWithScoreModifications) {
  const auto x = operands();
  const auto make = [](at::IntArrayRef shape) {
    return torch::randn(shape, torch::kDouble).requires_grad_();
  };
  AttentionArguments arguments;
  arguments.softcap = 3;
  arguments.bias = make({1, 4, 70, 81});
  arguments.distance_bias = make({4, 21});
  arguments.alibi_slopes = torch::rand({4}, torch::kDouble);
  arguments.sinks = make({4});
  arguments.scales = make({4});
  arguments.cosine = true;
  auto bias = values(arguments.bias), distance_bias = values(arguments.distance_bias);
  const auto slopes = values(arguments.alibi_slopes), sinks = values(arguments.sinks),
             scales = values(arguments.scales);
  auto problem = problem_of(x, "window(30)|global(2)");
  problem.score_mod.softcap = 3;
  problem.score_mod.bias = contiguous_view(bias.data(), DType::kF64, 1, 4, 70, 81);
  problem.score_mod.distance_bias = contiguous_view(distance_bias.data(), DType::kF64, 1, 4, 1, 21);
  problem.score_mod.alibi_slopes = slopes.data();
  problem.score_mod.sinks = sinks.data();
  problem.score_mod.scales = scales.data();
  problem.score_mod.cosine = true;

  const auto [o, lse] = attention(x.q, x.k, x.v, "window(30)|global(2)", arguments);
  const auto expected = reference::attention_forward(problem);
  EXPECT_LT(error(o, expected.o), 1e-12);
  EXPECT_LT(error(lse, expected.lse), 1e-12);
  const auto d_o = torch::randn_like(o), d_lse = torch::randn_like(lse);
  const auto gradients = torch::autograd::grad(
      {o, lse},
      {x.q, x.k, x.v, arguments.bias, arguments.distance_bias, arguments.sinks, arguments.scales},
      {d_o, d_lse});
  const auto wanted = reference::attention_backward(problem, values(d_o), values(d_lse));
  EXPECT_LT(error(gradients[0], wanted.d_q), 1e-11);
  EXPECT_LT(error(gradients[1], wanted.d_k), 1e-11);
  EXPECT_LT(error(gradients[2], wanted.d_v), 1e-11);
  auto d_bias = wanted.d_bias;  // of each batch element
  for (size_t i = 0; i < d_bias.size() / 2; ++i) d_bias[i] += d_bias[i + d_bias.size() / 2];
  d_bias.resize(d_bias.size() / 2);
  EXPECT_LT(error(gradients[3], d_bias), 1e-11);
  EXPECT_LT(error(gradients[4], wanted.d_distance_bias), 1e-10);
  EXPECT_LT(error(gradients[5], wanted.d_sinks), 1e-10);
  EXPECT_LT(error(gradients[6], wanted.d_scales), 1e-10);
}

TEST(AttentionOpTest, NoWorseThanTwiceTorch) {
  for (const auto type : {torch::kFloat, torch::kBFloat16}) {
    auto x = operands(type, 130, 130);
    x.k = x.k.detach().repeat_interleave(2, 1).requires_grad_();
    x.v = x.v.detach().slice(3, 0, 16).repeat_interleave(2, 1).requires_grad_();
    const auto exact = torch::scaled_dot_product_attention(
        x.q.to(torch::kDouble), x.k.to(torch::kDouble), x.v.to(torch::kDouble));
    const auto theirs = torch::scaled_dot_product_attention(x.q, x.k, x.v);
    const auto ours = std::get<0>(attention(x.q, x.k, x.v));
    ASSERT_EQ(ours.scalar_type(), type);
    const auto distance = [](const at::Tensor& a, const at::Tensor& b) {
      return (a.to(torch::kDouble) - b).norm().item<double>();
    };
    EXPECT_LE(distance(ours, exact), 2 * distance(theirs, exact));
    const auto d_o = torch::randn(ours.sizes()).to(type);
    const auto truth = torch::autograd::grad({exact}, {x.q, x.k, x.v}, {d_o.to(torch::kDouble)});
    const auto a = torch::autograd::grad({ours}, {x.q, x.k, x.v}, {d_o});
    const auto b = torch::autograd::grad({theirs}, {x.q, x.k, x.v}, {d_o});
    for (int i = 0; i < 3; ++i) {
      // The exact gradient came back through a cast to `type` too: one more rounding for both.
      EXPECT_LE(distance(a[i], truth[i].to(torch::kDouble)),
                2 * distance(b[i], truth[i].to(torch::kDouble)) + 1e-6);
    }
  }
}

TEST(AttentionOpTest, PackedIsSeparate) {
  torch::manual_seed(2);
  const auto cu = torch::tensor({0, 70, 71, 200}, torch::kInt);
  const auto qkv = torch::randn({200, 8, 16}, torch::kDouble).requires_grad_();
  const auto [o, lse] = attention_qkv(qkv, 4, cu, "window(9)|global(1)");
  const auto parts = qkv.split({4, 2, 2}, 1);
  const auto [o_varlen, lse_varlen] =
      attention_varlen(parts[0], parts[1], parts[2], cu, cu, "window(9)|global(1)");
  EXPECT_TRUE(torch::equal(o, o_varlen) && torch::equal(lse, lse_varlen));
  for (int64_t n = 0; n < 3; ++n) {
    const int64_t a = cu[n].item<int64_t>(), b = cu[n + 1].item<int64_t>();
    const auto rows = [&](const at::Tensor& x) {
      return x.slice(0, a, b).transpose(0, 1).unsqueeze(0);
    };
    const auto alone = std::get<0>(
        attention(rows(parts[0]), rows(parts[1]), rows(parts[2]), "window(9)|global(1)"));
    EXPECT_LT((rows(o) - alone).abs().max().item<double>(), 1e-13);
  }
  const auto d_o = torch::randn_like(o);
  EXPECT_TRUE(torch::equal(torch::autograd::grad({o}, {qkv}, {d_o})[0],
                           torch::autograd::grad({o_varlen}, {qkv}, {d_o})[0]));
}

TEST(AttentionOpTest, NanBeyondTheLengthStaysThere) {
  const auto x = operands(torch::kFloat);
  AttentionArguments arguments;
  arguments.key_lengths = torch::tensor({30, 81}, torch::kInt);
  const auto run = [&](double beyond) {
    auto k = x.k.detach().clone(), v = x.v.detach().clone();
    k[0].slice(1, 30).fill_(beyond);
    v[0].slice(1, 30).fill_(beyond);
    k.requires_grad_();
    v.requires_grad_();
    const auto o = std::get<0>(attention(x.q, k, v, "key_lengths", arguments));
    auto result = torch::autograd::grad({o.sum()}, {x.q, k, v});
    result.push_back(o);
    return result;
  };
  const auto zeros = run(0), nans = run(std::numeric_limits<double>::quiet_NaN());
  for (size_t i = 0; i < zeros.size(); ++i) EXPECT_TRUE(torch::equal(zeros[i], nans[i])) << i;
}

TEST(AttentionOpTest, SameBitsForAnyNumberOfThreads) {
  const auto x = operands(torch::kFloat, 300, 300);
  const auto run = [&](int threads) {
    at::set_num_threads(threads);
    const auto o = std::get<0>(attention(x.q, x.k, x.v, "window(50)"));
    auto result = torch::autograd::grad({o.sum()}, {x.q, x.k, x.v});
    result.push_back(o);
    return result;
  };
  const int threads = at::get_num_threads();
  const auto one = run(1), two = run(2);
  at::set_num_threads(threads);
  for (size_t i = 0; i < one.size(); ++i) EXPECT_TRUE(torch::equal(one[i], two[i])) << i;
}

TEST(AttentionOpTest, AutocastLowersAndReturnsGradientsInTheInputsType) {
  const auto x = operands(torch::kFloat);
  at::autocast::set_autocast_enabled(at::kCPU, true);
  const auto o = std::get<0>(attention(x.q, x.k, x.v));
  at::autocast::set_autocast_enabled(at::kCPU, false);
  at::autocast::clear_cache();
  EXPECT_EQ(o.scalar_type(), torch::kBFloat16);
  EXPECT_EQ(torch::autograd::grad({o.sum()}, {x.q})[0].scalar_type(), torch::kFloat);
}

TEST(AttentionOpTest, ErrorsAreClear) {
  const auto x = operands();
  const auto message = [&](auto body) -> std::string {
    try {
      body();
    } catch (const c10::Error& error) {
      return error.what_without_backtrace();
    }
    return "no error";
  };
  EXPECT_NE(message([&] { attention(x.q, x.k, x.v, "windw(3)"); }).find("did you mean"),
            std::string::npos);
  EXPECT_NE(message([&] { attention(x.q.slice(1, 0, 3), x.k, x.v); }).find("multiple"),
            std::string::npos);
  const auto d_q = torch::autograd::grad({std::get<0>(attention(x.q, x.k, x.v)).sum()}, {x.q}, {},
                                         true, true)[0];
  EXPECT_NE(message([&] { d_q.sum().backward(); }).find("differentiable once"), std::string::npos);
}

}  // namespace
}  // namespace fovea::ops
