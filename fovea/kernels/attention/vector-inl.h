#pragma once

// Small things on lane vectors that the bodies share: the exponential, lane masks, conversion,
// transposition.

#include <cstring>

#include "hwy/highway.h"

#include "fovea/kernels/attention/engine.h"

HWY_BEFORE_NAMESPACE();
namespace fovea::kernels {
namespace FOVEA_ISA_NAMESPACE {
namespace {

namespace hn = hwy::HWY_NAMESPACE;

template <typename T>
using Tag = hn::ScalableTag<T>;
template <typename T>
using Vec = hn::Vec<Tag<T>>;
template <typename T>
using Mask = hn::Mask<Tag<T>>;
template <typename T>
constexpr int kLanesOf = static_cast<int>(hn::MaxLanes(Tag<T>()));

/// Lanes [lane, lane + lanes) and keys [begin, end) of a tile that are worked on together.
struct Part {
  int lane, lanes, begin, end;
};

/// max(x, low) that keeps a NaN in x: x86's instruction returns its second operand then.
template <typename T>
HWY_INLINE Vec<T> max_keeping_nan(Vec<T> low, Vec<T> x) {
#if HWY_TARGET == HWY_AVX3 || HWY_TARGET == HWY_AVX2
  return hn::Max(low, x);
#else
  return hn::IfThenElse(hn::Lt(x, low), low, x);
#endif
}

/// 2^x for x < 128, relative error 1.7e-7 (f32: minimax polynomial of degree 5 with p(0) = 1 on
/// [-1/2, 1/2]); exactly 1 at 0 and exactly 0 below 2^-126.5, so a masked score of -inf has no
/// weight. NaN stays NaN.
///
/// Adding 1.5·2^23 + 127 rounds x to an integer n and leaves n + 127 in the low bits of the sum;
/// shifted into the exponent field they are 2^n (0 for n = -127).
HWY_INLINE Vec<float> exp2(Vec<float> x) {
  const Tag<float> d;
  const hn::RebindToUnsigned<Tag<float>> du;
  const auto magic = hn::Set(d, 12582912.0f + 127.0f);
  x = max_keeping_nan<float>(hn::Set(d, -127.0f), x);
  const auto shifted = hn::Add(x, magic);
  const auto f = hn::Sub(x, hn::Sub(shifted, magic));
  auto p = hn::Set(d, 0x1.5bba14p-10f);
  p = hn::MulAdd(p, f, hn::Set(d, 0x1.3cea88p-7f));
  p = hn::MulAdd(p, f, hn::Set(d, 0x1.c6b752p-5f));
  p = hn::MulAdd(p, f, hn::Set(d, 0x1.ebf9bcp-3f));
  p = hn::MulAdd(p, f, hn::Set(d, 0x1.62e42ap-1f));
  p = hn::MulAdd(p, f, hn::Set(d, 1.0f));
  return hn::Mul(p, hn::BitCast(d, hn::ShiftLeft<23>(hn::BitCast(du, shifted))));
}

/// The same in double: Taylor's polynomial of degree 13, relative error below 1e-15.
HWY_INLINE Vec<double> exp2(Vec<double> x) {
  const Tag<double> d;
  const hn::RebindToUnsigned<Tag<double>> du;
  const auto magic = hn::Set(d, 6755399441055744.0 + 1023.0);
  x = max_keeping_nan<double>(hn::Set(d, -1023.0), x);
  const auto shifted = hn::Add(x, magic);
  const auto f = hn::Mul(hn::Sub(x, hn::Sub(shifted, magic)), hn::Set(d, 0.69314718055994530942));
  auto p = hn::Set(d, 1.0);
  for (int k = 13; k >= 1; --k) {  // Horner form of Σ f^k / k!
    p = hn::MulAdd(hn::Mul(p, f), hn::Set(d, 1.0 / k), hn::Set(d, 1.0));
  }
  return hn::Mul(p, hn::BitCast(d, hn::ShiftLeft<52>(hn::BitCast(du, shifted))));
}

/// x · factor, where what is 0 stays 0: its pair may be masked, and the factor anything.
template <typename T>
HWY_INLINE Vec<T> multiply_unless_zero(Vec<T> x, Vec<T> factor) {
  return hn::IfThenElse(hn::Eq(x, hn::Zero(Tag<T>())), x, hn::Mul(x, factor));
}

/// Lanes of vector `x` of a tile whose bit is set in `bits`.
template <typename T>
HWY_INLINE Mask<T> lane_mask(uint64_t bits, int x) {
  const uint64_t shifted = bits >> (x * kLanesOf<T>);
  return hn::LoadMaskBits(Tag<T>(), reinterpret_cast<const uint8_t*>(&shifted));
}

// ---- rows: the only place that knows the storage type -----------------------------------------

template <class D>
HWY_INLINE hn::Vec<D> load_as(D d, const hn::TFromD<D>* src) {
  return hn::LoadU(d, src);
}
template <class D>
HWY_INLINE hn::Vec<D> load_as(D d, const BFloat16* src) {  // bf16 is the upper half of an f32
  const hn::Rebind<uint16_t, D> du16;
  const hn::RebindToUnsigned<D> du32;
  const auto bits = hn::LoadU(du16, reinterpret_cast<const uint16_t*>(src));
  return hn::BitCast(d, hn::ShiftLeft<16>(hn::PromoteTo(du32, bits)));
}

template <class D>
HWY_INLINE hn::Vec<D> load_as(D d, const Float16* src) {
#if HWY_TARGET == HWY_SCALAR  // Highway's own is not exact there
  return hn::Set(d, static_cast<float>(*src));
#else
  const hn::Rebind<uint16_t, D> du16;
  const hn::Rebind<hwy::float16_t, D> d16;
  return hn::PromoteTo(d, hn::BitCast(d16, hn::LoadU(du16, &src->bits)));
#endif
}

template <class D>
HWY_INLINE hn::Vec<D> load_as(D d, const int8_t* src) {
  const hn::Rebind<int32_t, D> di32;
  return hn::ConvertTo(d, hn::PromoteTo(di32, hn::LoadU(hn::Rebind<int8_t, D>(), src)));
}

/// Stores a vector, rounded to nearest even; a NaN stays a NaN.
template <class D>
HWY_INLINE void store_as(D, hn::Vec<D> x, Float16* dst) {
#if HWY_TARGET == HWY_SCALAR
  *dst = Float16(hn::GetLane(x));
#else
  const hn::Rebind<uint16_t, D> du16;
  const hn::Rebind<hwy::float16_t, D> d16;
  hn::StoreU(hn::BitCast(du16, hn::DemoteTo(d16, x)), du16, &dst->bits);
#endif
}

/// True when x [n] holds neither NaN nor infinity; n is a multiple of 8.
template <typename S, typename T = SumOf<S>>
HWY_INLINE bool all_finite(const S* x, int n) {
  const hn::CappedTag<T, 8> d;
  const int step = static_cast<int>(hn::Lanes(d));
  auto zero = hn::Zero(d);  // stays 0 unless x · 0 is NaN
  for (int i = 0; i < n; i += step) {
    zero = hn::MulAdd(load_as(d, x + i), hn::Zero(d), zero);
  }
  return hn::AllTrue(d, hn::Eq(zero, hn::Zero(d)));
}

template <typename S>
HWY_INLINE bool all_rows_finite(const S* x, int64_t stride, int begin, int end, int dim) {
  bool finite = true;
  for (int r = begin; r < end; ++r) finite &= all_finite(x + r * stride, dim);
  return finite;
}

/// Rows of `dim` values, a multiple of D's lanes.
template <class D, typename T, typename S>
HWY_INLINE void load_rows_of(D d, const S* src, int64_t stride, int rows, int dim, T* dst, int ld) {
  const int step = static_cast<int>(hn::Lanes(d));
  for (int r = 0; r < rows; ++r) {
    const S* HWY_RESTRICT in = src + r * stride;
    T* HWY_RESTRICT out = dst + static_cast<ptrdiff_t>(r) * ld;
    for (int c = 0; c < dim; c += step) {
      hn::StoreU(load_as(d, in + c), d, out + c);
    }
    for (int c = dim; c < ld; ++c) out[c] = 0;
  }
}

/// Round to nearest even; a NaN stays a NaN. As BFloat16's constructor, without its branch.
HWY_INLINE uint16_t bf16_bits(float value) {
  uint32_t u;
  std::memcpy(&u, &value, sizeof u);
  const uint32_t rounded = u + 0x7FFFu + ((u >> 16) & 1u);
  return static_cast<uint16_t>((value != value ? (u | 0x400000u) : rounded) >> 16);
}

/// A row of f32 rounded to bf16, and of SplitBf16 what that leaves; zero up to `ld`.
template <typename Op>
HWY_INLINE void round_row(const float* HWY_RESTRICT src, int dim, Op* HWY_RESTRICT dst, int ld) {
  const int share = ld / kPartsOf<Op>;
  for (int c = 0; c < dim; ++c) dst[c].bits = bf16_bits(src[c]);
  std::memset(static_cast<void*>(dst + dim), 0, sizeof(Op) * static_cast<size_t>(share - dim));
  if constexpr (kPartsOf<Op> == 2) {
    Op* HWY_RESTRICT lower = dst + share;
    for (int c = 0; c < dim; ++c) {
      const float upper = static_cast<float>(dst[c]);
      // Of infinity nothing is left; NaN is in the upper part.
      lower[c].bits = upper - upper == 0 ? bf16_bits(src[c] - upper) : uint16_t{0};
    }
    std::memset(static_cast<void*>(lower + dim), 0, sizeof(Op) * static_cast<size_t>(share - dim));
  }
}

/// Rows of Op itself; for Op = float of bf16, f16 or i8 too, for operands of bf16 of f32 too: what
/// engines are chosen for.
template <typename Op>
void load_rows(const void* src, DType dtype, int64_t stride, int rows, int padded_rows, int dim,
               Op* dst, int ld) {
  if (padded_rows > rows) {
    std::memset(static_cast<void*>(dst + static_cast<ptrdiff_t>(rows) * ld), 0,
                sizeof(Op) * static_cast<size_t>(padded_rows - rows) * static_cast<size_t>(ld));
  }
  if constexpr (sizeof(Op) == 2) {
    if (dtype == DType::kF32) {
      const auto* from = static_cast<const float*>(src);
      for (int r = 0; r < rows; ++r) {
        round_row(from + r * stride, dim, dst + static_cast<ptrdiff_t>(r) * ld, ld);
      }
      return;
    }
    const auto* from = static_cast<const Op*>(src);
    for (int r = 0; r < rows; ++r) {
      Op* HWY_RESTRICT to = dst + static_cast<ptrdiff_t>(r) * ld;
      std::memcpy(static_cast<void*>(to), from + r * stride, sizeof(Op) * static_cast<size_t>(dim));
      std::memset(static_cast<void*>(to + dim), 0, sizeof(Op) * static_cast<size_t>(ld - dim));
    }
  } else {
    const auto load = [&](const auto* typed) {
      const Tag<Op> wide;
      if (dim % kLanesOf<Op> == 0) return load_rows_of(wide, typed, stride, rows, dim, dst, ld);
      return load_rows_of(hn::CappedTag<Op, 8>(), typed, stride, rows, dim, dst, ld);
    };
    if constexpr (sizeof(Op) == 4) {
      if (dtype == DType::kBF16) return load(static_cast<const BFloat16*>(src));
      if (dtype == DType::kF16) return load(static_cast<const Float16*>(src));
      if (dtype == DType::kI8) return load(static_cast<const int8_t*>(src));
    }
    load(static_cast<const Op*>(src));
  }
}

/// dst[c] = factor · src[c], rounded to f16; `dim` is a multiple of 8.
HWY_INLINE void store_f16_row(const float* src, int dim, float factor, Float16* dst) {
  const hn::CappedTag<float, 8> d;
  const int step = static_cast<int>(hn::Lanes(d));
  const auto scale = hn::Set(d, factor);
  for (int c = 0; c < dim; c += step) store_as(d, hn::Mul(scale, hn::LoadU(d, src + c)), dst + c);
}

template <typename T>
void store_rows(const T* src, int ld, int rows, int dim, T factor, void* dst, DType dtype,
                int64_t stride) {
  for (int r = 0; r < rows; ++r) {
    const T* HWY_RESTRICT in = src + static_cast<ptrdiff_t>(r) * ld;
    if (dtype == DType::kBF16) {
      uint16_t* HWY_RESTRICT out = static_cast<uint16_t*>(dst) + r * stride;
      for (int c = 0; c < dim; ++c) out[c] = bf16_bits(static_cast<float>(factor * in[c]));
    } else if (dtype == DType::kF16) {
      if constexpr (sizeof(T) == 4) {
        store_f16_row(in, dim, factor, static_cast<Float16*>(dst) + r * stride);
      }
    } else if (dtype == DType::kF32) {
      float* HWY_RESTRICT out = static_cast<float*>(dst) + r * stride;
      for (int c = 0; c < dim; ++c) out[c] = static_cast<float>(factor * in[c]);
    } else {
      double* HWY_RESTRICT out = static_cast<double*>(dst) + r * stride;
      for (int c = 0; c < dim; ++c) out[c] = static_cast<double>(factor * in[c]);
    }
  }
}

// ---- transposition, dot products, sums ---------------------------------------------------------

template <typename T>
void transpose(const T* src, int ld_src, int rows, int cols, T factor, T* dst, int ld_dst) {
  for (ptrdiff_t r = 0; r < rows; ++r) {
    for (ptrdiff_t c = 0; c < cols; ++c) dst[c * ld_dst + r] = factor * src[r * ld_src + c];
  }
}

#if HWY_TARGET != HWY_SCALAR
/// Stores the 128-bit blocks of v to consecutive rows, `row_step` apart.
template <class D>
HWY_INLINE void store_blocks(D d, hn::Vec<D> v, float* dst, ptrdiff_t row_step) {
  if constexpr (hn::MaxLanes(d) == 4) {
    hn::StoreU(v, d, dst);
  } else {
    const hn::Half<D> half;
    store_blocks(half, hn::LowerHalf(half, v), dst, row_step);
    store_blocks(half, hn::UpperHalf(half, v), dst + hn::MaxLanes(half) / 4 * row_step, row_step);
  }
}

/// Four rows, `lanes of d` columns: 4x4 blocks inside the vectors, then a store for each.
template <class D, typename Load>
HWY_INLINE void transpose_rows(D d, const float* src, ptrdiff_t ld_src, const Load& load,
                               float* dst, ptrdiff_t ld_dst) {
  const hn::Repartition<double, D> dd;
  const auto r0 = load(d, src);
  const auto r1 = load(d, src + ld_src);
  const auto r2 = load(d, src + 2 * ld_src);
  const auto r3 = load(d, src + 3 * ld_src);
  const auto a = hn::BitCast(dd, hn::InterleaveLower(d, r0, r1));  // 00 10 01 11
  const auto b = hn::BitCast(dd, hn::InterleaveLower(d, r2, r3));  // 20 30 21 31
  const auto e = hn::BitCast(dd, hn::InterleaveUpper(d, r0, r1));  // 02 12 03 13
  const auto g = hn::BitCast(dd, hn::InterleaveUpper(d, r2, r3));
  const ptrdiff_t step = 4 * ld_dst;
  store_blocks(d, hn::BitCast(d, hn::InterleaveLower(dd, a, b)), dst, step);
  store_blocks(d, hn::BitCast(d, hn::InterleaveUpper(dd, a, b)), dst + ld_dst, step);
  store_blocks(d, hn::BitCast(d, hn::InterleaveLower(dd, e, g)), dst + 2 * ld_dst, step);
  store_blocks(d, hn::BitCast(d, hn::InterleaveUpper(dd, e, g)), dst + 3 * ld_dst, step);
}

/// `load(d, from)` gives the values of a vector.
template <typename Load>
HWY_INLINE void transpose_with(const Load& load, const float* src, int ld_src, int rows, int cols,
                               float* dst, int ld_dst) {
  const Tag<float> wide;
  const hn::FixedTag<float, 4> narrow;
  int c = 0;
  for (; c + kLanesOf<float> <= cols; c += kLanesOf<float>) {
    for (int r = 0; r < rows; r += 4) {
      transpose_rows(wide, src + static_cast<ptrdiff_t>(r) * ld_src + c, ld_src, load,
                     dst + static_cast<ptrdiff_t>(c) * ld_dst + r, ld_dst);
    }
  }
  for (; c < cols; c += 4) {
    for (int r = 0; r < rows; r += 4) {
      transpose_rows(narrow, src + static_cast<ptrdiff_t>(r) * ld_src + c, ld_src, load,
                     dst + static_cast<ptrdiff_t>(c) * ld_dst + r, ld_dst);
    }
  }
}

template <>
void transpose(const float* src, int ld_src, int rows, int cols, float factor, float* dst,
               int ld_dst) {
  const auto load = [factor](auto d, const float* from) {
    return hn::Mul(hn::Set(d, factor), hn::LoadU(d, from));
  };
  transpose_with(load, src, ld_src, rows, cols, dst, ld_dst);
}
#endif

/// The same for 32-bit words that are no numbers, with the bits `flip` inverted.
HWY_INLINE void transpose_words(const void* src, int ld_src, int rows, int cols, uint32_t flip,
                                void* dst, int ld_dst) {
#if HWY_TARGET == HWY_SCALAR
  for (ptrdiff_t r = 0; r < rows; ++r) {
    for (ptrdiff_t c = 0; c < cols; ++c) {
      uint32_t word;
      std::memcpy(&word, static_cast<const char*>(src) + 4 * (r * ld_src + c), 4);
      word ^= flip;
      std::memcpy(static_cast<char*>(dst) + 4 * (c * ld_dst + r), &word, 4);
    }
  }
#else
  const auto load = [flip](auto d, const float* from) {
    const hn::RebindToUnsigned<decltype(d)> du;
    return hn::Xor(hn::LoadU(d, from), hn::BitCast(d, hn::Set(du, flip)));
  };
  transpose_with(load, static_cast<const float*>(src), ld_src, rows, cols, static_cast<float*>(dst),
                 ld_dst);
#endif
}

/// out[r] = Σ_c a[r][c] b[r][c]; dim is a multiple of 8.
template <typename S, typename T>
HWY_INLINE void row_dots(const S* a, int64_t a_stride, const S* b, int64_t b_stride, int rows,
                         int dim, T* out) {
  const hn::CappedTag<T, 8> d;
  const int step = static_cast<int>(hn::Lanes(d));
  for (int r = 0; r < rows; ++r) {
    auto sum = hn::Zero(d);
    for (int c = 0; c < dim; c += step) {
      sum = hn::MulAdd(load_as(d, a + r * a_stride + c), load_as(d, b + r * b_stride + c), sum);
    }
    out[r] = hn::GetLane(hn::SumOfLanes(d, sum));
  }
}

template <typename T>
void stored_row_dots(const void* a, int64_t a_stride, const void* b, int64_t b_stride, DType dtype,
                     int rows, int dim, T* out) {
  const auto dots = [&](const auto* x) {
    row_dots(x, a_stride, static_cast<decltype(x)>(b), b_stride, rows, dim, out);
  };
  if constexpr (sizeof(T) == 4) {
    if (dtype == DType::kBF16) return dots(static_cast<const BFloat16*>(a));
    if (dtype == DType::kF16) return dots(static_cast<const Float16*>(a));
  }
  dots(static_cast<const T*>(a));
}

template <typename T>
void add(T* y, const T* x, int64_t n) {
  const Tag<T> d;
  for (int64_t i = 0; i < n; i += kLanesOf<T>) {
    hn::StoreU(hn::Add(hn::LoadU(d, y + i), hn::LoadU(d, x + i)), d, y + i);
  }
}

}  // namespace
}  // namespace FOVEA_ISA_NAMESPACE
}  // namespace fovea::kernels
HWY_AFTER_NAMESPACE();
