#pragma once

// The matrix unit of bf16 dot products: a lane takes two neighbours of the depth and sums in f32,
//
//     sum += a[0] · b[0] + a[1] · b[1]
//
// Panels hold pairs: 32-bit words of two neighbours along the depth. A pair of features lies so in
// memory already; pairs of keys or queries are made by interleaving two rows. Queries take only the
// sign of the scale, for a bf16 number has no digits left for the rest. Engines compiled for
// AVX-512 BF16 use vdpbf16ps, others compute the same with two multiply-adds.

#include "fovea/kernels/mma/fma-inl.h"

#if HWY_TARGET == HWY_AVX3 && defined(__AVX512BF16__)
#define FOVEA_NATIVE_BF16 1
#else
#define FOVEA_NATIVE_BF16 0
#endif

HWY_BEFORE_NAMESPACE();
namespace fovea::kernels {
namespace FOVEA_ISA_NAMESPACE {
namespace {

#if FOVEA_NATIVE_BF16

/// 2^x, relative error 3.4e-6 (minimax polynomial of degree 4 on [0, 1] with p(0) = 1, p(1) = 2),
/// a two hundredth of what rounding the weight to bf16 costs. 0 at -inf; NaN stays NaN.
HWY_INLINE Vec<float> exp2_bf16(Vec<float> x) {
  const Tag<float> d;
  const Vec<float> f{_mm512_reduce_ps(x.raw, _MM_FROUND_TO_NEG_INF)};
  auto p = hn::Set(d, 0x1.bc31dep-7f);
  p = hn::MulAdd(p, f, hn::Set(d, 0x1.aa3fc8p-5f));
  p = hn::MulAdd(p, f, hn::Set(d, 0x1.ee5884p-3f));
  p = hn::MulAdd(p, f, hn::Set(d, 0x1.62d51cp-1f));
  p = hn::MulAdd(p, f, hn::Set(d, 1.0f));
  return Vec<float>{_mm512_scalef_ps(p.raw, x.raw)};
}

using Bf16Row = __m512bh;
HWY_INLINE Bf16Row load_pairs(const BFloat16* p) {
  return reinterpret_cast<Bf16Row>(_mm512_loadu_si512(p));
}
HWY_INLINE Bf16Row broadcast_pair(const BFloat16* p) {
  int32_t word;
  std::memcpy(&word, p, sizeof word);
  return reinterpret_cast<Bf16Row>(_mm512_set1_epi32(word));
}
HWY_INLINE Vec<float> add_pair_products(Bf16Row a, Bf16Row b, Vec<float> sum) {
  return Vec<float>{_mm512_dpbf16_ps(sum.raw, a, b)};
}

#else

HWY_INLINE Vec<float> exp2_bf16(Vec<float> x) { return exp2(x); }

using Bf16Row = Vec<uint32_t>;
HWY_INLINE Bf16Row load_pairs(const BFloat16* p) {
  Bf16Row words;
  std::memcpy(static_cast<void*>(&words), p, sizeof words);
  return words;
}
HWY_INLINE Bf16Row broadcast_pair(const BFloat16* p) {
  uint32_t word;
  std::memcpy(&word, p, sizeof word);
  return hn::Set(Tag<uint32_t>(), word);
}
HWY_INLINE Vec<float> add_pair_products(Bf16Row a, Bf16Row b, Vec<float> sum) {
  const Tag<float> d;
  const auto low = [&](Bf16Row x) { return hn::BitCast(d, hn::ShiftLeft<16>(x)); };
  const auto high = [&](Bf16Row x) {
    return hn::BitCast(d, hn::And(x, hn::Set(Tag<uint32_t>(), 0xFFFF0000u)));
  };
  return hn::MulAdd(low(a), low(b), hn::MulAdd(high(a), high(b), sum));
}

#endif

/// Bits of x rounded to bf16, ties away from zero, in the upper half of each lane; below it,
/// anything. A NaN that came from bf16 operands stays one.
HWY_INLINE Vec<uint32_t> round_to_bf16(Vec<float> x) {
  const Tag<uint32_t> du;
  return hn::Add(hn::BitCast(du, x), hn::Set(du, 0x8000u));
}

/// Words of `low` and `high` rounded.
HWY_INLINE Vec<uint32_t> pair_words(Vec<float> low, Vec<float> high) {
  const auto a = hn::ShiftRight<16>(round_to_bf16(low)), b = round_to_bf16(high);
#if HWY_TARGET == HWY_AVX3
  return Vec<uint32_t>{_mm512_mask_blend_epi16(0xAAAAAAAAu, a.raw, b.raw)};
#else
  return hn::Or(a, hn::And(b, hn::Set(Tag<uint32_t>(), 0xFFFF0000u)));
#endif
}

/// 2 · lanes consecutive values.
HWY_INLINE void store_bf16(Vec<float> first, Vec<float> second, BFloat16* dst) {
#if FOVEA_NATIVE_BF16
  _mm512_storeu_si512(dst, reinterpret_cast<__m512i>(_mm512_cvtne2ps_pbh(second.raw, first.raw)));
#else
  float values[2 * kLanesOf<float>];
  hn::StoreU(first, Tag<float>(), values);
  hn::StoreU(second, Tag<float>(), values + kLanesOf<float>);
  for (int i = 0; i < 2 * kLanesOf<float>; ++i) dst[i].bits = bf16_bits(values[i]);
#endif
}

/// dst[c] = factor · src[c].
HWY_INLINE void store_bf16_row(const float* src, int dim, float factor, BFloat16* dst) {
  constexpr int kLanes = kLanesOf<float>;
  const Tag<float> d;
  const auto scale = hn::Set(d, factor);
  int c = 0;
  for (; c + 2 * kLanes <= dim; c += 2 * kLanes) {
    store_bf16(hn::Mul(scale, hn::LoadU(d, src + c)),
               hn::Mul(scale, hn::LoadU(d, src + c + kLanes)), dst + c);
  }
  for (; c < dim; ++c) dst[c].bits = bf16_bits(factor * src[c]);
}

HWY_INLINE void store_words(Vec<uint32_t> words, BFloat16* dst) {
  std::memcpy(static_cast<void*>(dst), &words, sizeof words);
}

/// Part `part` of the operand that x becomes: x itself, to be rounded, where there is only one;
/// else x rounded, and what that leaves.
template <typename Op>
HWY_INLINE Vec<float> part_of(Vec<float> x, int part) {
  if constexpr (kPartsOf<Op> == 1) return x;
  const Tag<float> d;
  const hn::RebindToUnsigned<Tag<float>> du;
  const auto upper = hn::BitCast(d, hn::And(round_to_bf16(x), hn::Set(du, 0xFFFF0000u)));
  return part == 0 ? upper : hn::Sub(x, upper);
}

/// dst[r / 2][c][r % 2] = src[r][c], `ld` elements of dst to a row: the panel whose depth is rows.
/// A missing last row is zero.
HWY_INLINE void pack_pairs(const BFloat16* src, int64_t stride, int rows, int dim, BFloat16* dst,
                           int ld) {
  for (int r = 0; r < rows; r += 2) {
    const BFloat16* HWY_RESTRICT low = src + r * stride;
    const BFloat16* HWY_RESTRICT high = low + stride;
    BFloat16* HWY_RESTRICT out = dst + r * static_cast<ptrdiff_t>(ld);
    int c = 0;
    if (r + 1 == rows) {
      for (; c < dim; ++c) {
        out[2 * c].bits = low[c].bits;
        out[2 * c + 1].bits = 0;
      }
      continue;
    }
#if HWY_TARGET == HWY_AVX3
    for (; c + 16 <= dim; c += 16) {
      const __m512i a =
          _mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(low + c)));
      const __m512i b =
          _mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(high + c)));
      _mm512_storeu_si512(out + 2 * c, _mm512_or_si512(a, _mm512_slli_epi32(b, 16)));
    }
#endif
    for (; c < dim; ++c) {
      out[2 * c].bits = low[c].bits;
      out[2 * c + 1].bits = high[c].bits;
    }
  }
}

/// The matrix unit of lanes; of SplitBf16 only what tiles (tile-inl.h) take from it.
template <typename Op>
struct DotUnit {
  using Row = Bf16Row;
  static constexpr int kParts = kPartsOf<Op>;
  static constexpr bool kTiles = false;
  static constexpr int kStep = 2;
  static constexpr bool kScalesQueries = false;

  static HWY_INLINE Row load(const Op* p) { return load_pairs(p); }
  static HWY_INLINE Row broadcast(const Op* p) { return broadcast_pair(p); }
  static HWY_INLINE Vec<float> multiply_add(Row a, Row b, Vec<float> sum) {
    return add_pair_products(a, b, sum);
  }

  /// The panel whose lanes are rows: pairs of features, dst[c / 2][r][c % 2] = ±src[r][c].
  static HWY_INLINE void pack_lanes(const Op* src, int ld, int rows, int cols, float scale,
                                    Op* dst) {
    for (int part = 0; part < kParts; ++part) {
      transpose_words(src + part * ld / kParts, ld / 2, rows, cols / 2, scale < 0 ? 0x80008000u : 0,
                      dst + part * 2 * kLaneStride, kRowStride<Op>);
    }
  }

  static HWY_INLINE void pack_depth(const Op* src, int64_t stride, int rows, int dim, Op* dst) {
    for (int part = 0; part < kParts; ++part) {
      pack_pairs(src + part * stride / kParts, stride, rows, dim, dst + part * 2 * dim,
                 dim * kParts);
    }
  }
  static HWY_INLINE int64_t pack_columns(const Op* src, int64_t stride, int rows, int dim,
                                         Op* dst) {
    pack_depth(src, stride, rows, dim, dst);
    return dim;
  }

  static HWY_INLINE Vec<float> exp2_weight(Vec<float> x) {
    return kParts == 1 ? exp2_bf16(x) : exp2(x);
  }
  static HWY_INLINE void store_depth(const Vec<float> (&p)[2], Op* dst) {
    for (int part = 0; part < kParts; ++part) {
      store_words(pair_words(part_of<Op>(p[0], part), part_of<Op>(p[1], part)),
                  dst + part * 2 * kLaneStride);
    }
  }

  /// Two vectors of lanes and two keys at a time: their rows, and of those pairs of keys.
  static HWY_INLINE void pack_weights(int begin, int end, int lane, int lanes, const float* p,
                                      const float* d_s, Op* p_rows, Op* d_s_rows, Op* d_s_depth) {
    const Tag<float> d;
    constexpr int kLanes = kLanesOf<float>;
    const auto store_row = [&](const float* from, Op* to) HWY_ATTR {
      for (int part = 0; part < kParts; ++part) {
        store_bf16(part_of<Op>(hn::Load(d, from), part),
                   part_of<Op>(hn::Load(d, from + kLanes), part), to + part * kLaneStride);
      }
    };
    for (int c = begin; c < end; c += 2) {
      for (int x = lane; x < lane + lanes; x += 2 * kLanes) {
        for (int j = c; j < c + 2; ++j) {
          store_row(p + j * kLaneStride + x, p_rows + j * kRowStride<Op> + x);
          store_row(d_s + j * kLaneStride + x, d_s_rows + j * kRowStride<Op> + x);
        }
        for (int i = x; i < x + 2 * kLanes; i += kLanes) {
          const float* at = d_s + c * kLaneStride + i;
          const Vec<float> pair[2] = {hn::Load(d, at), hn::Load(d, at + kLaneStride)};
          store_depth(pair, d_s_depth + c * kRowStride<Op> + 2 * i);
        }
      }
    }
  }
};

#ifndef FOVEA_TILES
template <>
struct MatrixUnit<BFloat16> : DotUnit<BFloat16> {};
#endif

}  // namespace
}  // namespace FOVEA_ISA_NAMESPACE
}  // namespace fovea::kernels
HWY_AFTER_NAMESPACE();
