#pragma once

// Dropout by the counter-based generator of core/philox.h (Philox4x32-10), a vector lane for each
// query. One evaluation decides about eight neighbouring keys, with 16 bits each:
//
//     words = philox(counter = {key / 8, query, head, batch}, key = seed)
//     kept: half key % 2 of words[key % 8 / 2] >= threshold

#include <cstring>

#include "hwy/highway.h"

#include "fovea/kernels/attention/engine.h"

HWY_BEFORE_NAMESPACE();
namespace fovea::kernels {
namespace FOVEA_ISA_NAMESPACE {
namespace {

namespace hn = hwy::HWY_NAMESPACE;

// A word of the counter is kept in the low half of a 64-bit lane, where the widening multiplication
// reads it; the high half holds what is left of a product and is never looked at.
using WordTag = hn::ScalableTag<uint64_t>;
using Words = hn::Vec<WordTag>;

constexpr uint32_t kPhiloxMul0 = 0xD2511F53u, kPhiloxMul1 = 0xCD9E8D57u;
constexpr uint32_t kPhiloxWeyl0 = 0x9E3779B9u, kPhiloxWeyl1 = 0xBB67AE85u;
constexpr int kPhiloxRounds = 10;

HWY_INLINE Words multiply_wide(Words x, uint32_t factor) {
#if HWY_TARGET == HWY_SCALAR
  return hn::Set(WordTag(), (hn::GetLane(x) & 0xFFFFFFFFu) * factor);
#else
  const hn::Repartition<uint32_t, WordTag> d32;
  return hn::MulEven(hn::BitCast(d32, x), hn::Set(d32, factor));
#endif
}

/// Of one tile of keys: what the rounds need beside the counter.
struct PhiloxKeys {
  uint32_t key0[kPhiloxRounds], key1[kPhiloxRounds];

  explicit PhiloxKeys(uint64_t seed) {
    for (uint32_t r = 0; r < kPhiloxRounds; ++r) {
      key0[r] = static_cast<uint32_t>(seed) + r * kPhiloxWeyl0;
      key1[r] = static_cast<uint32_t>(seed >> 32) + r * kPhiloxWeyl1;
    }
  }
};

/// Words of eight keys for the queries in `query`. Only the query differs between lanes, so that of
/// the first three rounds' six products four are of scalars.
HWY_INLINE void philox_words(const PhiloxKeys& keys, uint32_t key_group, Words query, uint32_t head,
                             uint32_t batch, Words words[4]) {
  const WordTag d;
  const uint64_t p0 = uint64_t{kPhiloxMul0} * key_group, p1 = uint64_t{kPhiloxMul1} * head;
  const uint32_t a1 = static_cast<uint32_t>(p1);
  const uint32_t a2 = static_cast<uint32_t>(p0 >> 32) ^ batch ^ keys.key1[0];
  const uint32_t a3 = static_cast<uint32_t>(p0);
  const Words a0 = hn::Xor(query, hn::Set(d, static_cast<uint32_t>(p1 >> 32) ^ keys.key0[0]));

  const uint64_t p2 = uint64_t{kPhiloxMul1} * a2;
  const Words v0 = multiply_wide(a0, kPhiloxMul0);
  const uint32_t b0 = static_cast<uint32_t>(p2 >> 32) ^ a1 ^ keys.key0[1];
  const uint32_t b1 = static_cast<uint32_t>(p2);
  const Words b2 = hn::Xor(hn::ShiftRight<32>(v0), hn::Set(d, a3 ^ keys.key1[1]));

  const uint64_t p3 = uint64_t{kPhiloxMul0} * b0;
  const Words v1 = multiply_wide(b2, kPhiloxMul1);
  Words c0 = hn::Xor(hn::ShiftRight<32>(v1), hn::Set(d, b1 ^ keys.key0[2]));
  Words c1 = v1;
  Words c2 = hn::Xor(v0, hn::Set(d, static_cast<uint32_t>(p3 >> 32) ^ keys.key1[2]));
  Words c3 = hn::Set(d, static_cast<uint32_t>(p3));

  for (int r = 3; r < kPhiloxRounds; ++r) {
    const Words product0 = multiply_wide(c0, kPhiloxMul0);
    const Words product1 = multiply_wide(c2, kPhiloxMul1);
    c0 = hn::Xor(hn::ShiftRight<32>(product1), hn::Xor(c1, hn::Set(d, keys.key0[r])));
    c1 = product1;
    c2 = hn::Xor(hn::ShiftRight<32>(product0), hn::Xor(c3, hn::Set(d, keys.key1[r])));
    c3 = product0;
  }
  words[0] = c0;
  words[1] = c1;
  words[2] = c2;
  words[3] = c3;
}

/// Queries whose words are made at once.
#if HWY_TARGET == HWY_SCALAR
constexpr int kDropoutLanes = 1;
#else
constexpr int kDropoutLanes = static_cast<int>(2 * hn::MaxLanes(WordTag()));
#endif

/// Bit r of low[j] and high[j] is set when the low or high half of word j of query + r is below the
/// threshold. Words of the even and of the odd queries are made apart and share a vector then.
/// `even`: 0, 2, …
HWY_INLINE void dropped_queries(const PhiloxKeys& keys, const DropoutKey& dropout,
                                uint32_t key_group, uint32_t query, Words even, uint64_t low[4],
                                uint64_t high[4]) {
  const WordTag d;
  Words words[4];
  even = hn::Add(even, hn::Set(d, uint64_t{query}));
  philox_words(keys, key_group, even, dropout.head, dropout.batch, words);
#if HWY_TARGET == HWY_SCALAR
  for (int j = 0; j < 4; ++j) {
    const auto word = static_cast<uint32_t>(hn::GetLane(words[j]));
    low[j] = (word & 0xFFFFu) < dropout.threshold;
    high[j] = word >> 16 < dropout.threshold;
  }
#else
  const hn::Repartition<uint32_t, WordTag> d32;
  const auto threshold = hn::Set(d32, dropout.threshold << 16);
  Words odd[4];
  philox_words(keys, key_group, hn::Add(even, hn::Set(d, 1)), dropout.head, dropout.batch, odd);
  for (int j = 0; j < 4; ++j) {
    const auto both =
        hn::OddEven(hn::BitCast(d32, hn::ShiftLeft<32>(odd[j])), hn::BitCast(d32, words[j]));
    low[j] = high[j] = 0;
    hn::StoreMaskBits(d32, hn::Lt(hn::ShiftLeft<16>(both), threshold),
                      reinterpret_cast<uint8_t*>(&low[j]));
    hn::StoreMaskBits(d32, hn::Lt(both, threshold), reinterpret_cast<uint8_t*>(&high[j]));
  }
#endif
}

/// Sets bit r of keep[c] when the weight of (query r, key c) survives, for c in [begin, end).
inline void keep_lanes(const DropoutKey& dropout, uint32_t first_query, uint32_t first_key,
                       int begin, int end, int rows, uint64_t* keep) {
  const PhiloxKeys keys(dropout.seed);
  // Made lane by lane through memory: once.
  const auto even = hn::ShiftLeft<1>(hn::Iota(WordTag(), 0));
  for (int c = begin & ~7; c < end; c += 8) {
    uint64_t dropped[8] = {};
    const uint32_t key_group = (first_key + static_cast<uint32_t>(c)) >> 3;
    for (int lane = 0; lane < rows; lane += kDropoutLanes) {
      uint64_t low[4], high[4];
      dropped_queries(keys, dropout, key_group, first_query + static_cast<uint32_t>(lane), even,
                      low, high);
      for (int j = 0; j < 4; ++j) {
        dropped[2 * j] |= low[j] << lane;
        dropped[2 * j + 1] |= high[j] << lane;
      }
    }
    for (int j = 0; j < 8; ++j) keep[c + j] = ~dropped[j];
  }
}

}  // namespace
}  // namespace FOVEA_ISA_NAMESPACE
}  // namespace fovea::kernels
HWY_AFTER_NAMESPACE();
