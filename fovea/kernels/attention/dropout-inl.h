#pragma once

// Dropout by the counter-based generator of core/philox.h (Philox4x32-10), a vector lane for each
// query. One evaluation gives the words of four neighbouring keys:
//
//     words = philox(counter = {key / 4, query, head, batch}, key = seed),   kept: word >=
//     threshold

#include <cstring>

#include "hwy/highway.h"

#include "fovea/kernels/attention/engine.h"

HWY_BEFORE_NAMESPACE();
namespace fovea::kernels {
namespace FOVEA_ISA_NAMESPACE {
namespace {

namespace hn = hwy::HWY_NAMESPACE;

using WordTag = hn::ScalableTag<uint32_t>;
using Words = hn::Vec<WordTag>;

/// High and low halves of the 64-bit products of every lane of x with `factor`.
HWY_INLINE void multiply_wide(Words x, Words factor, Words* high, Words* low) {
  const WordTag d;
#if HWY_TARGET == HWY_SCALAR
  const uint64_t product = uint64_t{hn::GetLane(x)} * hn::GetLane(factor);
  *high = hn::Set(d, static_cast<uint32_t>(product >> 32));
  *low = hn::Set(d, static_cast<uint32_t>(product));
#else
  const hn::Repartition<uint64_t, WordTag> dw;
  const auto even = hn::MulEven(x, factor);
  const auto odd = hn::MulEven(hn::BitCast(d, hn::ShiftRight<32>(hn::BitCast(dw, x))), factor);
  *low = hn::OddEven(hn::BitCast(d, hn::ShiftLeft<32>(odd)), hn::BitCast(d, even));
  *high = hn::OddEven(hn::BitCast(d, odd), hn::BitCast(d, hn::ShiftRight<32>(even)));
#endif
}

/// Sets bit r of keep[c] when the weight of (query r, key c) survives, for c in [begin, end).
inline void keep_lanes(const DropoutKey& dropout, uint32_t first_query, uint32_t first_key,
                       int begin, int end, int rows, uint64_t* keep) {
  const WordTag d;
  constexpr int kStep = static_cast<int>(hn::MaxLanes(d));
  const auto threshold = hn::Set(d, dropout.threshold);
  const auto mul0 = hn::Set(d, 0xD2511F53u), mul1 = hn::Set(d, 0xCD9E8D57u);
  for (int c = begin & ~3; c < end; c += 4) {
    for (int j = 0; j < 4; ++j) keep[c + j] = 0;
    for (int lane = 0; lane < rows; lane += kStep) {
      Words w0 = hn::Set(d, (first_key + static_cast<uint32_t>(c)) >> 2);
      Words w1 = hn::Iota(d, first_query + static_cast<uint32_t>(lane));
      Words w2 = hn::Set(d, dropout.head), w3 = hn::Set(d, dropout.batch);
      uint32_t key0 = static_cast<uint32_t>(dropout.seed);
      uint32_t key1 = static_cast<uint32_t>(dropout.seed >> 32);
      for (int round = 0; round < 10; ++round) {
        Words high0, low0, high1, low1;
        multiply_wide(w0, mul0, &high0, &low0);
        multiply_wide(w2, mul1, &high1, &low1);
        w0 = hn::Xor(hn::Xor(high1, w1), hn::Set(d, key0));
        w1 = low1;
        w2 = hn::Xor(hn::Xor(high0, w3), hn::Set(d, key1));
        w3 = low0;
        key0 += 0x9E3779B9u;
        key1 += 0xBB67AE85u;
      }
      const Words words[4] = {w0, w1, w2, w3};
      for (int j = 0; j < 4; ++j) {
        uint64_t bits = 0;
        hn::StoreMaskBits(d, hn::Not(hn::Lt(words[j], threshold)),
                          reinterpret_cast<uint8_t*>(&bits));
        keep[c + j] |= bits << lane;
      }
    }
  }
}

}  // namespace
}  // namespace FOVEA_ISA_NAMESPACE
}  // namespace fovea::kernels
HWY_AFTER_NAMESPACE();
