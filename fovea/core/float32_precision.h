#pragma once

#include <cstdint>
#include <string_view>

namespace fovea {

/// What the products of f32 problems may be computed in, under torch's names: `kHighest` in f32,
/// `kHigh` in bf16 with each operand as the sum of two (three products, 16 bits), `kMedium` in
/// bf16. A permission: an engine takes it where that is faster. Sums are f32 always.
enum class Float32Precision : uint8_t { kHighest, kHigh, kMedium };

/// highest, high, medium.
const char* name_of(Float32Precision precision);

/// Parses a name; throws InputError that lists the names.
Float32Precision parse_float32_precision(std::string_view name);

}  // namespace fovea
