#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "fovea/core/philox.h"

namespace fovea::data {

/// Random numbers whose sequence is a function of (seed, stream) only, on every machine and with
/// every standard library.
class Random {
 public:
  explicit Random(uint64_t seed, uint64_t stream = 0) : seed_(seed), stream_(stream) {}

  uint32_t next_u32() {
    if (used_ == 4) refill();
    return words_[used_++];
  }

  /// Uniform in [0, n), n in [1, 2^32), without bias (Lemire 2019).
  uint32_t below(uint32_t n) {
    uint64_t product = uint64_t{next_u32()} * n;
    const uint32_t threshold = (0u - n) % n;
    while (static_cast<uint32_t>(product) < threshold) product = uint64_t{next_u32()} * n;
    return static_cast<uint32_t>(product >> 32);
  }

  /// Uniform in [0, 1).
  double uniform() { return next_u32() * 0x1p-32; }

  /// Fisher and Yates.
  template <typename T>
  void shuffle(std::vector<T>& items) {
    for (size_t i = items.size(); i > 1; --i) {
      std::swap(items[i - 1], items[below(static_cast<uint32_t>(i))]);
    }
  }

 private:
  void refill() {
    words_ = philox4x32({static_cast<uint32_t>(block_), static_cast<uint32_t>(block_ >> 32),
                         static_cast<uint32_t>(stream_), static_cast<uint32_t>(stream_ >> 32)},
                        {static_cast<uint32_t>(seed_), static_cast<uint32_t>(seed_ >> 32)});
    ++block_;
    used_ = 0;
  }

  uint64_t seed_, stream_;
  uint64_t block_ = 0;
  std::array<uint32_t, 4> words_ = {};
  int used_ = 4;
};

}  // namespace fovea::data
