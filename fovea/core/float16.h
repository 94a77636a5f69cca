#pragma once

#include <bit>
#include <cstdint>

namespace fovea {

/// binary16 of IEEE-754: a sign, 5 bits of exponent, 10 of the fraction. Both conversions are exact
/// to the standard, subnormals, infinities and NaN included, and also where the processor is told
/// to flush subnormals: no subnormal binary32 appears on the way. They are always inlined, because
/// an instruction set's engine may not export functions.
struct Float16 {
  uint16_t bits = 0;

  Float16() = default;
  /// Rounds to nearest even, to infinity from 65520 on; a NaN stays a (quiet) NaN.
  [[gnu::always_inline]] explicit Float16(float value) {
    const uint32_t u = std::bit_cast<uint32_t>(value);
    const uint32_t magnitude = u & 0x7FFFFFFFu;
    uint32_t rounded;
    if (magnitude > 0x7F800000u) {
      rounded = 0x7E00u | (magnitude >> 13 & 0x3FFu);
    } else if (magnitude >= 0x477FF000u) {
      rounded = 0x7C00u;
    } else if (magnitude < 0x38800000u) {  // subnormal: numbers from 1/2 on have its spacing, 2^-24
      const float sum = std::bit_cast<float>(magnitude) + 0.5f;
      rounded = std::bit_cast<uint32_t>(sum) - 0x3F000000u;
    } else {
      rounded = (magnitude - 0x38000000u + 0xFFFu + (magnitude >> 13 & 1u)) >> 13;
    }
    bits = static_cast<uint16_t>((u >> 16 & 0x8000u) | rounded);
  }
  [[gnu::always_inline]] explicit operator float() const {
    const uint32_t magnitude = bits & 0x7FFFu, sign = (bits & 0x8000u) << 16;
    uint32_t u;
    if (magnitude > 0x7C00u) {
      u = 0x7FC00000u | magnitude << 13;
    } else if (magnitude == 0x7C00u) {
      u = 0x7F800000u;
    } else if (magnitude < 0x0400u) {
      u = std::bit_cast<uint32_t>(std::bit_cast<float>(0x3F000000u | magnitude) - 0.5f);
    } else {
      u = (magnitude << 13) + 0x38000000u;
    }
    return std::bit_cast<float>(sign | u);
  }
};
static_assert(sizeof(Float16) == 2);

}  // namespace fovea
