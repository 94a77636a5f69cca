#pragma once

// A tile unit in plain C++ that does what the AMX instructions do (Intel's manual, volume 2:
// LDTILECFG, TILELOADD, TILESTORED, TILEZERO, TDPBF16PS, TILERELEASE), so that what is built on one
// is tested on every machine. What the processor answers with a fault stops the program here.
//
// TDPBF16PS of a row of C: two sums for each column, of the even and the odd halves of the pairs,
// start at zero and run over the depth by fused multiply-adds; they are added, and then added to C.
// Every step rounds to nearest even and takes and gives denormals as zero. A product of two bf16 is
// exact in f32 unless it is a denormal, so a multiplication and an addition round as the fused one.

#include <cstddef>
#include <cstring>

#include "fovea/core/tensor_view.h"
#include "fovea/kernels/mma/tile_config.h"

/// Arithmetic on tiles alone: a sanitizer would only make it ten times as slow.
#define FOVEA_ON_TILES __attribute__((no_sanitize("address", "undefined", "thread")))

namespace fovea::kernels {
namespace {

class EmulatedTiles {
 public:
  static void configure(const TileConfig& config) {
    require(config.palette == 1 && config.start_row == 0);
    for (int t = 0; t < kTiles; ++t) {
      require(config.colsb[t] <= kRowBytes && config.rows[t] <= kRows);
      require((config.colsb[t] == 0) == (config.rows[t] == 0));
    }
    state = State{};
    state.config = config;
  }
  static void release() { state = State{}; }

  static void zero(int tile) {
    (void)checked(tile);
    std::memset(state.tiles[tile], 0, sizeof state.tiles[tile]);
  }
  /// Rows `stride` bytes apart.
  static void load(int tile, const void* src, ptrdiff_t stride) {
    zero(tile);
    for (int r = 0; r < state.config.rows[tile]; ++r) {
      std::memcpy(state.tiles[tile][r], static_cast<const char*>(src) + r * stride,
                  state.config.colsb[tile]);
    }
  }
  static void store(int tile, void* dst, ptrdiff_t stride) {
    (void)checked(tile);
    for (int r = 0; r < state.config.rows[tile]; ++r) {
      std::memcpy(static_cast<char*>(dst) + r * stride, state.tiles[tile][r],
                  state.config.colsb[tile]);
    }
  }

  /// Tile `to` += tile `left` · tile `right` of bf16 pairs.
  FOVEA_ON_TILES static void dot(int to, int left, int right) {
    require(to != left && to != right && left != right);
    const Shape c = checked(to), a = checked(left), b = checked(right);
    require(c.colsb == b.colsb && c.rows == a.rows && a.colsb == 4 * b.rows);
    float even_b[kRows][kColumns] = {}, odd_b[kRows][kColumns] = {};
    for (int k = 0; k < b.rows; ++k) {
      for (int n = 0; n < kColumns; ++n) halves(right, k, n, &even_b[k][n], &odd_b[k][n]);
    }
    for (int m = 0; m < c.rows; ++m) {
      float even[kColumns] = {}, odd[kColumns] = {}, row[kColumns];
      for (int k = 0; k < b.rows; ++k) {
        float even_a, odd_a;
        halves(left, m, k, &even_a, &odd_a);
        for (int n = 0; n < kColumns; ++n) {
          even[n] = flushed(even[n] + even_a * even_b[k][n]);
          odd[n] = flushed(odd[n] + odd_a * odd_b[k][n]);
        }
      }
      std::memcpy(row, state.tiles[to][m], sizeof row);
      for (int n = 0; n < kColumns; ++n) {
        row[n] = flushed(flushed(row[n]) + flushed(even[n] + odd[n]));
      }
      std::memcpy(state.tiles[to][m], row, static_cast<size_t>(c.colsb));
    }
    std::memset(state.tiles[to][c.rows], 0, static_cast<size_t>(kRows - c.rows) * kRowBytes);
  }

  // As TileUnit (tile-inl.h) names them.
  template <int kTile>
  static void zero() {
    zero(kTile);
  }
  template <int kTile>
  static void load(const void* src, ptrdiff_t stride) {
    load(kTile, src, stride);
  }
  template <int kTile>
  static void store(void* dst, ptrdiff_t stride) {
    store(kTile, dst, stride);
  }
  template <int kC, int kA, int kB>
  static void dot() {
    dot(kC, kA, kB);
  }

 private:
  static constexpr int kTiles = 8, kRows = 16, kRowBytes = 64, kColumns = 16;
  struct Shape {
    int rows, colsb;
  };
  struct State {
    TileConfig config;
    alignas(64) uint8_t tiles[kTiles][kRows + 1][kRowBytes] = {};
  };

  FOVEA_ON_TILES static void require(bool fine) {
    if (!fine) __builtin_trap();
  }
  FOVEA_ON_TILES static Shape checked(int tile) {
    require(tile >= 0 && tile < kTiles);
    require(state.config.palette == 1 && state.config.rows[tile] > 0);
    return {state.config.rows[tile], state.config.colsb[tile]};
  }

  /// Denormals to zero of their sign.
  FOVEA_ON_TILES static float flushed(float x) {
    uint32_t bits = std::bit_cast<uint32_t>(x);
    const uint32_t keep = (bits & 0x7F800000u) != 0 ? 0xFFFFFFFFu : 0x80000000u;
    return std::bit_cast<float>(bits & keep);
  }
  /// The two bf16 of a 32-bit word of a tile.
  FOVEA_ON_TILES static void halves(int tile, int row, int word, float* even, float* odd) {
    uint32_t bits;
    std::memcpy(&bits, state.tiles[tile][row] + 4 * word, sizeof bits);
    *even = flushed(std::bit_cast<float>(bits << 16));
    *odd = flushed(std::bit_cast<float>(bits & 0xFFFF0000u));
  }

  static thread_local State state;
};

thread_local EmulatedTiles::State EmulatedTiles::state{};

}  // namespace
}  // namespace fovea::kernels
