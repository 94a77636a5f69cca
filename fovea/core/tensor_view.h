#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>

#include "fovea/core/float16.h"

namespace fovea {

/// Element types that cross the boundary between frameworks and kernels; i8 only as rows of a cache
/// with scales beside them.
enum class DType : uint8_t { kF32, kBF16, kF16, kF64, kI8 };

/// Bytes of one element.
constexpr int64_t size_of(DType dtype) {
  switch (dtype) {
    case DType::kF32:
      return 4;
    case DType::kBF16:
    case DType::kF16:
      return 2;
    case DType::kF64:
      return 8;
    case DType::kI8:
      return 1;
  }
  return 0;
}

/// Name as used in case ids and messages: f32, bf16, f16, f64, i8.
constexpr const char* name_of(DType dtype) {
  switch (dtype) {
    case DType::kF32:
      return "f32";
    case DType::kBF16:
      return "bf16";
    case DType::kF16:
      return "f16";
    case DType::kF64:
      return "f64";
    case DType::kI8:
      return "i8";
  }
  return "?";
}

/// bfloat16: the upper half of an IEEE-754 binary32.
struct BFloat16 {
  uint16_t bits = 0;

  BFloat16() = default;
  /// Rounds to nearest even; a NaN stays a (quiet) NaN.
  explicit BFloat16(float value) {
    const uint32_t u = std::bit_cast<uint32_t>(value);
    if ((u & 0x7FFFFFFFu) > 0x7F800000u) {
      bits = static_cast<uint16_t>((u >> 16) | 0x0040u);
    } else {
      bits = static_cast<uint16_t>((u + 0x7FFFu + ((u >> 16) & 1u)) >> 16);
    }
  }
  explicit operator float() const {
    return std::bit_cast<float>(static_cast<uint32_t>(bits) << 16);
  }
};
static_assert(sizeof(BFloat16) == 2);

/// A strided 4-D view of somebody else's memory, `[B, H, S, D]` for attention operands and
/// `[B, H, S]` (last extent 1) for per-row values. Strides count elements, not bytes; an attention
/// operand's last stride is 1. A packed (varlen) operand `[T, H, D]` is the view `[1, H, T, D]`.
/// The view owns nothing.
struct TensorView {
  void* data = nullptr;
  DType dtype = DType::kF32;
  int64_t shape[4] = {0, 0, 0, 0};
  int64_t strides[4] = {0, 0, 0, 0};

  bool empty() const { return data == nullptr; }

  /// Address of element `[b, h, s, 0]`.
  template <typename T>
  T* row(int64_t b, int64_t h, int64_t s) const {
    return static_cast<T*>(data) + b * strides[0] + h * strides[1] + s * strides[2];
  }
};

/// View of a contiguous `[B, H, S, D]` array.
inline TensorView contiguous_view(void* data, DType dtype, int64_t b, int64_t h, int64_t s,
                                  int64_t d) {
  return {data, dtype, {b, h, s, d}, {h * s * d, s * d, d, 1}};
}

}  // namespace fovea
