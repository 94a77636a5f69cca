#include "fovea/core/float16.h"

#include <cmath>
#include <limits>

#include <gtest/gtest.h>

namespace fovea {
namespace {

/// What the standard says that a pattern of bits means.
double meaning(uint32_t bits) {
  const int exponent = static_cast<int>(bits >> 10 & 31), fraction = static_cast<int>(bits & 1023);
  const double sign = bits & 0x8000u ? -1 : 1;
  if (exponent == 31) {
    return fraction == 0 ? sign * std::numeric_limits<double>::infinity()
                         : std::numeric_limits<double>::quiet_NaN();
  }
  return sign *
         (exponent == 0 ? std::ldexp(fraction, -24) : std::ldexp(1024 + fraction, exponent - 25));
}

Float16 of_bits(uint32_t bits) {
  Float16 x;
  x.bits = static_cast<uint16_t>(bits);
  return x;
}

TEST(Float16, MeansWhatTheStandardSays) {
  for (uint32_t bits = 0; bits < 0x10000; ++bits) {
    const double wanted = meaning(bits);
    const double value = static_cast<float>(of_bits(bits));
    if (std::isnan(wanted)) {
      EXPECT_TRUE(std::isnan(value)) << bits;
      continue;
    }
    EXPECT_EQ(value, wanted) << bits;
    EXPECT_EQ(std::signbit(value), bits >= 0x8000) << bits;
    EXPECT_EQ(Float16(static_cast<float>(value)).bits, bits) << "round trip";
  }
}

// Between neighbours: the nearer one, in the middle the even one. Beyond 65504 comes 65536 =
// infinity.
TEST(Float16, RoundsToNearestEven) {
  const float inf = std::numeric_limits<float>::infinity();
  for (uint32_t bits = 0; bits < 0x7C00; ++bits) {
    const double low = meaning(bits), high = bits == 0x7BFF ? 65536.0 : meaning(bits + 1);
    const float middle = static_cast<float>((low + high) / 2);
    ASSERT_EQ(middle, (low + high) / 2);
    for (const uint32_t sign : {0u, 0x8000u}) {
      const float s = sign ? -1.0f : 1.0f;
      EXPECT_EQ(Float16(s * middle).bits, sign | (bits + (bits & 1))) << bits;
      EXPECT_EQ(Float16(s * std::nextafter(middle, 0.0f)).bits, sign | bits) << bits;
      EXPECT_EQ(Float16(s * std::nextafter(middle, inf)).bits, sign | (bits + 1)) << bits;
    }
  }
}

TEST(Float16, KeepsSpecialValues) {
  const float inf = std::numeric_limits<float>::infinity();
  EXPECT_EQ(Float16(inf).bits, 0x7C00);
  EXPECT_EQ(Float16(-inf).bits, 0xFC00);
  EXPECT_EQ(Float16(std::numeric_limits<float>::max()).bits, 0x7C00);
  EXPECT_EQ(Float16(-0.0f).bits, 0x8000);
  EXPECT_EQ(Float16(std::numeric_limits<float>::denorm_min()).bits, 0);
  // A NaN whose payload sits only in the lower bits must not become an infinity.
  for (const uint32_t nan : {0x7FC00000u, 0x7F800001u, 0xFFFFFFFFu}) {
    EXPECT_TRUE(std::isnan(static_cast<float>(Float16(std::bit_cast<float>(nan)))));
  }
}

}  // namespace
}  // namespace fovea
