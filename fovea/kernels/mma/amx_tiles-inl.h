#pragma once

// The tile unit of AMX. Own assembly, because GCC's intrinsics take tile numbers as literals only,
// not as template arguments, and do not tell the compiler that a tile load reads memory: GCC 12 may
// then move the stores that fill a panel behind the load that reads it.

#include <cstddef>

#include "fovea/kernels/mma/tile_config.h"

namespace fovea::kernels {
namespace {

/// What TileUnit (tile-inl.h) asks of a unit; EmulatedTiles says what each does. Linux grants the
/// tiles to a process once, see CpuFeatures; the shapes belong to a thread.
struct AmxTiles {
  static void configure(const TileConfig& config) {
    asm volatile("ldtilecfg %0" : : "m"(config) : "memory");
  }
  static void release() { asm volatile("tilerelease" : : : "memory"); }

  template <int kTile>
  static inline __attribute__((always_inline)) void zero() {
    asm volatile("tilezero %%tmm%c0" : : "i"(kTile));
  }
  template <int kTile>
  static inline __attribute__((always_inline)) void load(const void* src, ptrdiff_t stride) {
    asm volatile("tileloadd (%0,%1,1), %%tmm%c2" : : "r"(src), "r"(stride), "i"(kTile) : "memory");
  }
  template <int kTile>
  static inline __attribute__((always_inline)) void store(void* dst, ptrdiff_t stride) {
    asm volatile("tilestored %%tmm%c2, (%0,%1,1)" : : "r"(dst), "r"(stride), "i"(kTile) : "memory");
  }
  template <int kC, int kA, int kB>
  static inline __attribute__((always_inline)) void dot() {
    asm volatile("tdpbf16ps %%tmm%c2, %%tmm%c1, %%tmm%c0" : : "i"(kC), "i"(kA), "i"(kB));
  }
};

}  // namespace
}  // namespace fovea::kernels
