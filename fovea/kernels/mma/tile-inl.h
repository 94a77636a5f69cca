#pragma once

// The matrix unit of tiles: 16 rows of 64 bytes, and one instruction that multiplies two of them,
//
//     C [16, 16] += A [16, 32] B [32, 16]        A, B in bf16, C in f32
//
// A is read as its rows lie, B as pairs of the depth, which is how the panels by depth of the bf16
// dot unit (bf16_dot-inl.h) lie; so all of its panels serve, but for products that read A by
// columns: their panels are transposed once for each tile of keys.
//
// An operand in two parts, x = upper + lower (SplitBf16), makes a product of three, in 16 bits:
//
//     C += A_lower B_upper + A_upper B_lower + A_upper B_upper
//
// (Henry, Tang and Heinecke 2019, for matrix products.) The fourth is below the error of the parts.
//
// A register tile is a block of 32 x 32 of C: four tiles, and two each of A and B, so that each
// that is loaded is used twice. Panels have room for whole tiles and operands are zero beyond their
// end: keys and queries come in steps of 32, D and Dv are rounded up to 32 where they are a depth
// and to 16 where they are rows or columns.

#include "fovea/kernels/mma/bf16_dot-inl.h"
#include "fovea/kernels/mma/tile_config.h"

HWY_BEFORE_NAMESPACE();
namespace fovea::kernels {
namespace FOVEA_ISA_NAMESPACE {
namespace {

constexpr int kTileRows = 16;   ///< rows of A and C, columns of B and C
constexpr int kTileDepth = 32;  ///< columns of A, rows of B

HWY_INLINE constexpr int whole_tiles(int n, int tile) { return (n + tile - 1) / tile * tile; }

/// The matrix unit of operands `Op` on the tile unit `Tiles`: AmxTiles or EmulatedTiles.
template <class Tiles, typename Op>
struct TileUnit : DotUnit<Op> {
  using DotUnit<Op>::kParts;
  static constexpr bool kTiles = true;
  static constexpr int kStep = kTileDepth;

  static void configure() {
    TileConfig config;
    config.palette = 1;
    for (int t = 0; t < 8; ++t) {
      config.rows[t] = kTileRows;
      config.colsb[t] = 64;
    }
    Tiles::configure(config);
  }
  static void release() { Tiles::release(); }

  /// Independent products on registers, for the measurement of a peak; of three count one.
  static constexpr double kPeakFlop =
      2.0 * 4 * kTileRows * kTileRows * kTileDepth / (kParts == 2 ? 3 : 1);
  static HWY_INLINE void peak_round() {
    Tiles::template dot<0, 4, 6>();
    Tiles::template dot<1, 4, 7>();
    Tiles::template dot<2, 5, 6>();
    Tiles::template dot<3, 5, 7>();
  }

  /// As DotUnit's, with zeros up to whole tiles of the depth.
  static HWY_INLINE void pack_lanes(const Op* src, int ld, int rows, int cols, float scale,
                                    Op* dst) {
    DotUnit<Op>::pack_lanes(src, ld, rows, cols, scale, dst);
    const int whole = whole_tiles(cols, kTileDepth);
    std::memset(static_cast<void*>(dst + cols * kRowStride<Op>), 0,
                sizeof(Op) * static_cast<size_t>((whole - cols) * kRowStride<Op>));
  }

  /// dst[c][r] = src[r][c], rows of 64 (of each part), zero beyond `rows` and `dim`.
  static HWY_INLINE int64_t pack_columns(const Op* src, int64_t stride, int rows, int dim,
                                         Op* dst) {
    constexpr int kBlock = 64;  // columns at a time
    constexpr int kStride = kTile * kParts;
    alignas(64) BFloat16 pairs[kTile * kBlock];
    const int used = (rows + 1) / 2 * 2;
    for (int c = 0; c < dim; c += kBlock) {
      const int cols = HWY_MIN(kBlock, dim - c);
      std::memset(static_cast<void*>(pairs + used * cols), 0,
                  sizeof(BFloat16) * static_cast<size_t>((kTile - used) * cols));
      for (int part = 0; part < kParts; ++part) {
        pack_pairs(src + part * stride / kParts + c, stride, rows, cols, pairs, cols);
        transpose_words(pairs, cols, kTile / 2, cols, 0, dst + c * kStride + part * kTile,
                        kStride / 2);
      }
    }
    std::memset(static_cast<void*>(dst + dim * kStride), 0,
                sizeof(Op) * static_cast<size_t>((whole_tiles(dim, kTileRows) - dim) * kStride));
    return kStride;
  }

  /// C (+)= A B, see product-inl.h. `rows` and `lanes` are rounded up to 16, `depth` to 32.
  template <Into kInto>
  static HWY_NOINLINE void multiply(int rows, int lanes, int depth, const Op* a, ptrdiff_t lda,
                                    const Op* b, ptrdiff_t ldb, float* c, ptrdiff_t ldc,
                                    float factor) {
    const Operands operands = {(depth + kTileDepth - 1) / kTileDepth, lda, ldb, ldc};
    int x = 0;
    for (; x + kTileRows < lanes; x += 2 * kTileRows) {
      column<kInto, 2>(operands, rows, a, b + 2 * x, c + x);
    }
    if (x < lanes) column<kInto, 1>(operands, rows, a, b + 2 * x, c + x);
    if constexpr (kInto == Into::kScale) {
      const Tag<float> d;
      for (int r = 0; r < rows; ++r) {
        for (x = 0; x < lanes; x += kLanesOf<float>) {
          float* at = c + r * ldc + x;
          hn::StoreU(hn::Mul(hn::LoadU(d, at), hn::Set(d, factor)), d, at);
        }
      }
    }
  }

 private:
  struct Operands {
    int steps;
    ptrdiff_t lda, ldb, ldc;
  };

  template <Into kInto, int kLaneTiles>
  static HWY_INLINE void column(const Operands& o, int rows, const Op* a, const Op* b, float* c) {
    int r = 0;
    for (; r + kTileRows < rows; r += 2 * kTileRows) {
      block<kInto, 2, kLaneTiles>(o, a + r * o.lda, b, c + r * o.ldc);
    }
    if (r < rows) block<kInto, 1, kLaneTiles>(o, a + r * o.lda, b, c + r * o.ldc);
  }

  /// Tiles 0 to 3 are C's, 4 and 5 A's, 6 and 7 B's.
  template <Into kInto, int kRowTiles, int kLaneTiles>
  static HWY_INLINE void block(const Operands& o, const Op* a, const Op* b, float* c) {
    constexpr bool kTwoRows = kRowTiles == 2, kTwoLanes = kLaneTiles == 2;
    float* const c1 = c + kTileRows * o.ldc;
    const ptrdiff_t c_bytes = o.ldc * 4, a_bytes = o.lda * 2, b_bytes = o.ldb * 2;
    const auto begin = [&](auto tile, const float* at) {
      if constexpr (kInto == Into::kAdd) {
        Tiles::template load<decltype(tile)::value>(at, c_bytes);
      } else {
        Tiles::template zero<decltype(tile)::value>();
      }
    };
    begin(std::integral_constant<int, 0>(), c);
    if constexpr (kTwoLanes) begin(std::integral_constant<int, 1>(), c + kTileRows);
    if constexpr (kTwoRows) begin(std::integral_constant<int, 2>(), c1);
    if constexpr (kTwoRows && kTwoLanes) begin(std::integral_constant<int, 3>(), c1 + kTileRows);
    const auto accumulate = [&](const Op* from_a, const Op* from_b) HWY_ATTR {
      for (int k = 0; k < o.steps; ++k) {
        Tiles::template load<6>(from_b, b_bytes);
        Tiles::template load<4>(from_a, a_bytes);
        Tiles::template dot<0, 4, 6>();
        if constexpr (kTwoLanes) {
          Tiles::template load<7>(from_b + 2 * kTileRows, b_bytes);
          Tiles::template dot<1, 4, 7>();
        }
        if constexpr (kTwoRows) {
          Tiles::template load<5>(from_a + kTileRows * o.lda, a_bytes);
          Tiles::template dot<2, 5, 6>();
          if constexpr (kTwoLanes) Tiles::template dot<3, 5, 7>();
        }
        from_a += kTileDepth;
        from_b += kTileDepth / 2 * o.ldb;
      }
    };
    if constexpr (kParts == 2) {  // small terms first
      accumulate(a + o.lda / 2, b);
      accumulate(a, b + o.ldb / 2);
    }
    accumulate(a, b);
    Tiles::template store<0>(c, c_bytes);
    if constexpr (kTwoLanes) Tiles::template store<1>(c + kTileRows, c_bytes);
    if constexpr (kTwoRows) Tiles::template store<2>(c1, c_bytes);
    if constexpr (kTwoRows && kTwoLanes) Tiles::template store<3>(c1 + kTileRows, c_bytes);
  }
};

template <>
struct MatrixUnit<BFloat16> : TileUnit<FOVEA_TILES, BFloat16> {};
template <>
struct MatrixUnit<SplitBf16> : TileUnit<FOVEA_TILES, SplitBf16> {};

}  // namespace
}  // namespace FOVEA_ISA_NAMESPACE
}  // namespace fovea::kernels
HWY_AFTER_NAMESPACE();
