// Storage types of every engine: what rows mean when they are loaded and stored.

#include <cmath>
#include <cstring>
#include <limits>

#include "tests/support/engines.h"
#include <gtest/gtest.h>

#include "fovea/kernels/attention/engine.h"

namespace fovea::testing {
namespace {

constexpr int kDim = 256, kRows = 256;  // all patterns of 16 bits

template <typename Check>
void with_f32_engines(const Check& check) {
  for (const Isa isa : runnable_isas()) {
    const ForcedIsa forced(isa);
    SCOPED_TRACE(name_of(isa));
    check(*kernels::engine_for(DType::kF16).f32);
  }
}

TEST(Storage, LoadsEveryFloat16) {
  std::vector<Float16> all(size_t{kRows} * kDim);
  for (size_t i = 0; i < all.size(); ++i) all[i].bits = static_cast<uint16_t>(i);
  with_f32_engines([&](const kernels::AttentionKernels<float>& kernels) {
    for (const int dim : {kDim, 8, 24}) {  // of vectors of every width
      std::vector<float> got(all.size());
      kernels.load_rows(all.data(), DType::kF16, kDim, kRows, kRows, dim, got.data(), kDim);
      for (size_t i = 0; i < all.size(); ++i) {
        const float wanted = i % kDim < static_cast<size_t>(dim) ? static_cast<float>(all[i]) : 0;
        if (std::isnan(wanted)) {
          ASSERT_TRUE(std::isnan(got[i])) << i;
        } else {
          ASSERT_EQ(std::bit_cast<uint32_t>(got[i]), std::bit_cast<uint32_t>(wanted)) << i;
        }
      }
    }
  });
}

// The middles between neighbours, what lies beside them, and all kinds of large numbers and NaN.
TEST(Storage, StoresFloat16Rounded) {
  std::vector<float> values;
  for (uint32_t bits = 0; bits < 0x10000; ++bits) {
    const uint32_t up = bits << 13;  // twice the digits of f16 below its own
    for (const uint32_t below : {0u, 0xFFFu, 0x1000u, 0x1001u}) {
      values.push_back(std::bit_cast<float>(up + below + 0x30000000u));
      values.push_back(-values.back());
    }
  }
  for (uint32_t i = 0; i < 0x4000; ++i) values.push_back(std::bit_cast<float>(i << 18 | i));
  values.resize((values.size() + kDim - 1) / kDim * kDim);
  const int rows = static_cast<int>(values.size()) / kDim;
  with_f32_engines([&](const kernels::AttentionKernels<float>& kernels) {
    std::vector<Float16> got(values.size());
    kernels.store_rows(values.data(), kDim, rows, kDim, 1.0f, got.data(), DType::kF16, kDim);
    for (size_t i = 0; i < values.size(); ++i) {
      if (std::isnan(values[i])) {
        ASSERT_TRUE(std::isnan(static_cast<float>(got[i]))) << i;
      } else {
        ASSERT_EQ(got[i].bits, Float16(values[i]).bits) << values[i];
      }
    }
  });
}

}  // namespace
}  // namespace fovea::testing
