#pragma once

#include <array>
#include <cstdint>

namespace fovea {

/// Philox4x32-10, the counter-based generator of Salmon et al., "Parallel Random Numbers: As Easy
/// as 1, 2, 3" (SC 2011): 128 random bits as a pure function of a counter and a key, so any thread
/// can recompute any number. Known-answer vectors of the paper's Random123 library are in the test.
inline std::array<uint32_t, 4> philox4x32(std::array<uint32_t, 4> counter,
                                          std::array<uint32_t, 2> key) {
  constexpr uint32_t kMul0 = 0xD2511F53u, kMul1 = 0xCD9E8D57u;
  constexpr uint32_t kWeyl0 = 0x9E3779B9u, kWeyl1 = 0xBB67AE85u;
  for (int round = 0; round < 10; ++round) {
    const uint64_t p0 = uint64_t{kMul0} * counter[0];
    const uint64_t p1 = uint64_t{kMul1} * counter[2];
    counter = {static_cast<uint32_t>(p1 >> 32) ^ counter[1] ^ key[0], static_cast<uint32_t>(p1),
               static_cast<uint32_t>(p0 >> 32) ^ counter[3] ^ key[1], static_cast<uint32_t>(p0)};
    key[0] += kWeyl0;
    key[1] += kWeyl1;
  }
  return counter;
}

/// Smallest kept word for drop probability `p` in [0, 1), of 32-bit words.
inline uint32_t dropout_threshold(double p) { return static_cast<uint32_t>(p * 4294967296.0); }

/// Attention dropout, a pure function of coordinates: one Philox call decides about eight
/// neighbouring keys of one query, with 16 bits each. `query` and `key` are row numbers in the
/// tensors passed to the call (positions in the packed tensor for varlen), `head` is the query
/// head.
///
/// Counter words: {key / 8, query, head, batch}; the key of the generator is the 64-bit seed. Key k
/// has the low (k even) or high (k odd) half of word k % 8 / 2. A weight is kept when it is >=
/// `weight_dropout_threshold(p)`, and kept weights are scaled by 1 / (1 - p).
inline uint32_t weight_dropout_bits(uint64_t seed, uint32_t batch, uint32_t head, uint32_t query,
                                    uint32_t key) {
  const auto words = philox4x32({key >> 3, query, head, batch},
                                {static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32)});
  return words[key % 8 / 2] >> (key % 2 * 16) & 0xFFFFu;
}

/// Smallest kept 16 bits for drop probability `p` in [0, 1): weights are dropped with the nearest
/// multiple of 2^-16 to p.
inline uint32_t weight_dropout_threshold(double p) {
  return p < 1 - 0x1p-16 ? static_cast<uint32_t>(p * 65536.0 + 0.5) : 65535;
}

/// True when the weight of (query, key) survives dropout with probability `p`.
inline bool dropout_keeps(uint64_t seed, uint32_t batch, uint32_t head, uint32_t query,
                          uint32_t key, double p) {
  return weight_dropout_bits(seed, batch, head, query, key) >= weight_dropout_threshold(p);
}

}  // namespace fovea
