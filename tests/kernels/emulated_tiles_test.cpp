// The emulated tile unit against what Intel's manual says of the instructions.

#include <cmath>
#include <limits>

#include <gtest/gtest.h>

#include "fovea/kernels/mma/emulated_tiles-inl.h"

namespace fovea::kernels {
namespace {

/// Tile 0 [rows, cols] f32, tile 1 [rows, 2 · depth_pairs] bf16, tile 2 [depth_pairs, cols] pairs.
void configure(int rows, int depth_pairs, int cols) {
  TileConfig config;
  config.palette = 1;
  const auto set = [&](int t, int r, int words) {
    config.rows[t] = static_cast<uint8_t>(r);
    config.colsb[t] = static_cast<uint16_t>(4 * words);
  };
  set(0, rows, cols);
  set(1, rows, depth_pairs);
  set(2, depth_pairs, cols);
  EmulatedTiles::configure(config);
}

struct Operands {
  float c[16][16] = {};
  BFloat16 a[16][32] = {};
  BFloat16 b[16][16][2] = {};

  void multiply() {
    EmulatedTiles::load<0>(c, sizeof c[0]);
    EmulatedTiles::load<1>(a, sizeof a[0]);
    EmulatedTiles::load<2>(b, sizeof b[0]);
    EmulatedTiles::dot<0, 1, 2>();
    EmulatedTiles::store<0>(c, sizeof c[0]);
  }
};

// Small integers: every order of summation gives the same.
TEST(EmulatedTiles, Multiply) {
  configure(16, 16, 16);
  Operands x;
  const auto a = [](int r, int k) { return (r * 7 + k * 3) % 11 - 5; };
  const auto b = [](int k, int n) { return (k * 5 + n * 2) % 13 - 6; };
  for (int i = 0; i < 16; ++i) {
    for (int k = 0; k < 32; ++k) {
      x.a[i][k] = BFloat16(static_cast<float>(a(i, k)));
      x.b[k / 2][i][k % 2] = BFloat16(static_cast<float>(b(k, i)));
    }
    for (int n = 0; n < 16; ++n) x.c[i][n] = static_cast<float>(100 * i + n);
  }
  x.multiply();
  for (int r = 0; r < 16; ++r) {
    for (int n = 0; n < 16; ++n) {
      int sum = 100 * r + n;
      for (int k = 0; k < 32; ++k) sum += a(r, k) * b(k, n);
      EXPECT_EQ(x.c[r][n], static_cast<float>(sum)) << r << ", " << n;
    }
  }
  EmulatedTiles::release();
}

// 2^24 + 1 - 2^24 is 0 in f32, and so is the sum of the even halves; that of the odd ones is 3.
TEST(EmulatedTiles, SumEvenAndOddHalvesApart) {
  configure(1, 3, 1);
  Operands x;
  const float even[3] = {4096, 1, -4096}, odd[3] = {1, 1, 1}, even_b[3] = {4096, 1, 4096};
  for (int k = 0; k < 3; ++k) {
    x.a[0][2 * k] = BFloat16(even[k]);
    x.a[0][2 * k + 1] = BFloat16(odd[k]);
    x.b[k][0][0] = BFloat16(even_b[k]);
    x.b[k][0][1] = BFloat16(1);
  }
  x.c[0][0] = 10;
  x.multiply();
  EXPECT_EQ(x.c[0][0], 13);
  EmulatedTiles::release();
}

TEST(EmulatedTiles, TakeAndGiveDenormalsAsZero) {
  configure(1, 1, 1);
  const auto product = [](BFloat16 a, BFloat16 b, float c) {
    Operands x;
    x.a[0][0] = a;
    x.b[0][0][0] = b;
    x.c[0][0] = c;
    x.multiply();
    return x.c[0][0];
  };
  BFloat16 denormal;
  denormal.bits = 0x0040;
  EXPECT_EQ(product(denormal, BFloat16(0x1p127f), 0), 0);
  EXPECT_EQ(product(BFloat16(0x1p-70f), BFloat16(0x1p-70f), 0), 0);
  EXPECT_EQ(product(BFloat16(0), BFloat16(0), 0x1p-130f), 0);
  EXPECT_EQ(product(BFloat16(0x1p-63f), BFloat16(0x1p-63f), 0), 0x1p-126f);
  EXPECT_TRUE(std::isnan(product(BFloat16(0), BFloat16(INFINITY), 1)));
  EmulatedTiles::release();
}

TEST(EmulatedTiles, TouchTheirShapeOnly) {
  configure(3, 2, 5);
  float from[16][16], to[16][16] = {};
  for (auto& row : from) {
    for (float& x : row) x = 7;
  }
  EmulatedTiles::load<0>(from, sizeof from[0]);
  EmulatedTiles::store<0>(to, sizeof to[0]);
  for (int r = 0; r < 16; ++r) {
    for (int n = 0; n < 16; ++n) EXPECT_EQ(to[r][n], r < 3 && n < 5 ? 7 : 0) << r << ", " << n;
  }
  EmulatedTiles::zero<0>();
  EmulatedTiles::store<0>(to, sizeof to[0]);
  EXPECT_EQ(to[2][4], 0);
  EmulatedTiles::release();
}

TEST(EmulatedTilesDeathTest, StopWhereTheProcessorFaults) {
  float row[16] = {};
  EmulatedTiles::release();
  EXPECT_DEATH(EmulatedTiles::load<0>(row, 64), "");
  configure(2, 3, 4);
  EXPECT_DEATH(EmulatedTiles::load<3>(row, 64), "");         // has no shape
  EXPECT_DEATH((EmulatedTiles::dot<2, 0, 1>()), "");         // shapes do not match
  EXPECT_DEATH(EmulatedTiles::configure(TileConfig{}), "");  // palette 0 is release()
  EmulatedTiles::release();
}

}  // namespace
}  // namespace fovea::kernels
