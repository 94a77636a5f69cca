#pragma once

#include <cstdint>

namespace fovea::kernels {

/// Shapes of the eight tile registers, as LDTILECFG reads them: tile t holds `rows[t]` rows of
/// `colsb[t]` bytes.
struct alignas(64) TileConfig {
  uint8_t palette = 0;  ///< 0: no tiles; 1: eight tiles of at most 16 rows of 64 bytes
  uint8_t start_row = 0;
  uint8_t reserved[14] = {};
  uint16_t colsb[16] = {};
  uint8_t rows[16] = {};
};
static_assert(sizeof(TileConfig) == 64);

}  // namespace fovea::kernels
