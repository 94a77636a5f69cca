#include "fovea/core/philox.h"

#include <cmath>

#include <gtest/gtest.h>

namespace fovea {
namespace {

// Known answers of Random123's kat_vectors file (philox4x32, 10 rounds).
TEST(Philox, KnownAnswers) {
  using Words = std::array<uint32_t, 4>;
  EXPECT_EQ(philox4x32({0, 0, 0, 0}, {0, 0}),
            (Words{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  EXPECT_EQ(philox4x32({~0u, ~0u, ~0u, ~0u}, {~0u, ~0u}),
            (Words{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  EXPECT_EQ(philox4x32({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}),
            (Words{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

TEST(Dropout, DropsTheAskedShare) {
  constexpr int kSide = 512;
  for (const double p : {0.0, 0.1, 0.5, 0.9}) {
    int64_t kept = 0;
    for (uint32_t q = 0; q < kSide; ++q) {
      for (uint32_t k = 0; k < kSide; ++k) kept += dropout_keeps(7, 1, 2, q, k, p);
    }
    const double n = kSide * kSide;
    // Five standard deviations of a binomial share.
    EXPECT_NEAR(kept / n, 1 - p, 5 * std::sqrt(p * (1 - p) / n) + 1e-12) << p;
  }
}

TEST(Dropout, EveryCoordinateAndSeedMatters) {
  const auto share_equal = [](auto a, auto b) {
    int equal = 0;
    for (uint32_t i = 0; i < 4096; ++i) equal += a(i) == b(i);
    return equal / 4096.0;
  };
  const auto base = [](uint32_t i) { return dropout_keeps(1, 2, 3, 4, i, 0.5); };
  EXPECT_NEAR(share_equal(base, [](uint32_t i) { return dropout_keeps(9, 2, 3, 4, i, 0.5); }), 0.5,
              0.05);
  EXPECT_NEAR(share_equal(base, [](uint32_t i) { return dropout_keeps(1, 9, 3, 4, i, 0.5); }), 0.5,
              0.05);
  EXPECT_NEAR(share_equal(base, [](uint32_t i) { return dropout_keeps(1, 2, 9, 4, i, 0.5); }), 0.5,
              0.05);
  EXPECT_NEAR(share_equal(base, [](uint32_t i) { return dropout_keeps(1, 2, 3, 9, i, 0.5); }), 0.5,
              0.05);
  for (const uint32_t distance : {1, 2, 4, 8}) {  // the halves and words of a call, and the next
    EXPECT_NEAR(
        share_equal(base, [&](uint32_t i) { return dropout_keeps(1, 2, 3, 4, i + distance, 0.5); }),
        0.5, 0.05)
        << distance;
  }
}

TEST(Dropout, ProbabilityIsTheNearestMultipleOfTwoToTheMinus16) {
  for (const double p : {0.0, 0x1p-18, 0.1, 0.3, 0.5, 0.999}) {
    EXPECT_NEAR(weight_dropout_threshold(p) / 65536.0, p, 0x1p-17) << p;
  }
  EXPECT_EQ(weight_dropout_threshold(0x1p-18), 0u);                   // nothing is dropped
  EXPECT_LT(weight_dropout_threshold(std::nextafter(1, 0)), 65536u);  // something may be kept
}

}  // namespace
}  // namespace fovea
