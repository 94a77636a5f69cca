#include <cmath>

#include <gtest/gtest.h>
#include <torch/torch.h>

#include "fovea/core/philox.h"
#include "fovea/ops/dropout.h"
#include "fovea/ops/rotary.h"

namespace fovea::ops {
namespace {

TEST(DropoutOpTest, IsItsDefinition) {
  const double p = 0.3;
  const int64_t seed = 0x123456789ABCDEF;
  const auto x = torch::randn({5, 1237});
  const auto y = dropout(x, p, seed);
  const float* from = x.const_data_ptr<float>();
  const float* to = y.const_data_ptr<float>();
  for (int64_t i = 0; i < x.numel(); ++i) {
    const auto call = static_cast<uint32_t>(i / 256 * 64 + i % 64);
    const auto words = philox4x32({call, 0, 0, 0},
                                  {static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32)});
    const bool kept = words[i / 64 % 4] >= dropout_threshold(p);
    ASSERT_FLOAT_EQ(to[i], kept ? from[i] / 0.7f : 0.0f) << i;
  }
}

TEST(DropoutOpTest, GradientUsesTheSameMask) {
  const auto x = torch::randn({3000}).requires_grad_(),
             residual = torch::randn({3000}).requires_grad_();
  const auto y = dropout(x, 0.5, 3, residual);
  const auto d = torch::autograd::grad({y.sum()}, {x, residual});
  EXPECT_TRUE(torch::equal(y, residual + x * d[0]));
  EXPECT_TRUE(torch::equal(d[1], torch::ones({3000})));
  EXPECT_THROW(ops::dropout(x, 1.0, int64_t{0}), c10::Error);
  EXPECT_THROW(ops::dropout(x, 0.1, 0, torch::ones({2})), c10::Error);
}

TEST(RotaryOpTest, TurnsPairsByTheirAngles) {
  const auto x = torch::randn({6, 3, 8});
  const auto positions = torch::tensor({0, 1, 2, 0, 1, 5000}, torch::kLong);
  const auto table = rotary_table(5001, 8, 10000);
  const auto y = rotary(x, table, positions, 2);
  for (int64_t t = 0; t < 6; ++t) {
    for (int64_t h = 0; h < 3; ++h) {
      for (int64_t i = 0; i < 4; ++i) {
        const double angle =
            h == 2 ? 0 : positions[t].item<double>() * std::pow(10000.0, -2.0 * i / 8);
        const double a = x[t][h][i].item<double>(), b = x[t][h][i + 4].item<double>();
        EXPECT_NEAR(y[t][h][i].item<double>(), a * std::cos(angle) - b * std::sin(angle), 1e-6);
        EXPECT_NEAR(y[t][h][i + 4].item<double>(), b * std::cos(angle) + a * std::sin(angle), 1e-6);
      }
    }
  }
  EXPECT_LT((rotary(y, table, positions, 2, true) - x).abs().max().item<double>(), 1e-6);
}

TEST(RotaryOpTest, GradientTurnsBack) {
  const auto x = torch::randn({4, 2, 8}).requires_grad_();
  const auto table = rotary_table(4, 8, 500);
  const auto positions = torch::arange(4);
  const auto d_y = torch::randn({4, 2, 8});
  const auto d_x = torch::autograd::grad({rotary(x, table, positions, 2)}, {x}, {d_y})[0];
  EXPECT_TRUE(torch::equal(d_x, rotary(d_y, table, positions, 2, true)));
  EXPECT_THROW(rotary(x, table, positions + 1024, 2), c10::Error);
}

}  // namespace
}  // namespace fovea::ops
