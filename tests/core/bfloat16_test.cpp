#include <cmath>
#include <limits>

#include <gtest/gtest.h>

#include "fovea/core/tensor_view.h"

namespace fovea {
namespace {

TEST(BFloat16, RoundsToNearestEven) {
  EXPECT_EQ(BFloat16(1.0f).bits, 0x3F80);
  // 1 + 2^-8 lies halfway between 1 and 1 + 2^-7: to the even one, 1.
  EXPECT_EQ(BFloat16(1.0f + 0x1p-8f).bits, 0x3F80);
  // 1 + 3·2^-8 lies halfway between 1 + 2^-7 (odd) and 1 + 2^-6 (even).
  EXPECT_EQ(BFloat16(1.0f + 3 * 0x1p-8f).bits, 0x3F82);
  EXPECT_EQ(BFloat16(1.0f + 0x1.02p-8f).bits, 0x3F81);
}

TEST(BFloat16, KeepsSpecialValues) {
  EXPECT_EQ(static_cast<float>(BFloat16(-0.0f)), 0.0f);
  EXPECT_TRUE(std::signbit(static_cast<float>(BFloat16(-0.0f))));
  EXPECT_TRUE(std::isnan(static_cast<float>(BFloat16(std::numeric_limits<float>::quiet_NaN()))));
  // A NaN whose payload sits only in the lower half must not become an infinity.
  EXPECT_TRUE(std::isnan(static_cast<float>(BFloat16(std::bit_cast<float>(0x7F800001u)))));
  EXPECT_TRUE(std::isinf(static_cast<float>(BFloat16(std::numeric_limits<float>::infinity()))));
  EXPECT_TRUE(std::isinf(static_cast<float>(BFloat16(std::numeric_limits<float>::max()))));
}

TEST(BFloat16, RoundTripsEveryValue) {
  for (uint32_t bits = 0; bits < 0x10000; ++bits) {
    const float value = std::bit_cast<float>(bits << 16);
    if (std::isnan(value)) continue;
    EXPECT_EQ(BFloat16(value).bits, bits);
  }
}

}  // namespace
}  // namespace fovea
