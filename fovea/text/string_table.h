#pragma once

#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

namespace fovea {

/// 64-bit hash of bytes for tables in memory (not for files, not against adversaries).
inline uint64_t hash_bytes(std::string_view bytes) {
  constexpr uint64_t kMultiplier = 0x9E3779B97F4A7C15u;
  const char* p = bytes.data();
  size_t left = bytes.size();
  uint64_t hash = left * kMultiplier;
  const auto mix = [&hash](uint64_t word) {
    hash = (hash ^ word) * kMultiplier;
    hash ^= hash >> 32;
  };
  for (; left >= 8; left -= 8, p += 8) {
    uint64_t word;
    std::memcpy(&word, p, 8);
    mix(word);
  }
  uint64_t word = 0;
  std::memcpy(&word, p, left);
  mix(word);
  return hash;
}

/// Distinct strings numbered 0, 1, 2, … in the order they were added. Cost: one hash and about one
/// comparison for each look-up.
class StringTable {
 public:
  StringTable() : slots_(16, -1) {}

  int32_t size() const { return static_cast<int32_t>(begins_.size()); }

  std::string_view operator[](int32_t number) const {
    const size_t begin = begins_[number];
    const size_t end = number + 1 < size() ? begins_[number + 1] : bytes_.size();
    return std::string_view(bytes_).substr(begin, end - begin);
  }

  /// Number of `key`, or -1.
  int32_t find(std::string_view key) const { return slots_[slot(key, hash_bytes(key))]; }

  /// Number of `key`, which is added if it is new.
  int32_t add(std::string_view key) {
    const uint64_t hash = hash_bytes(key);
    const size_t at = slot(key, hash);
    if (slots_[at] >= 0) return slots_[at];
    const int32_t number = size();
    slots_[at] = number;
    begins_.push_back(bytes_.size());
    hashes_.push_back(hash);
    bytes_.append(key);
    if (begins_.size() * 2 > slots_.size()) grow();
    return number;
  }

 private:
  size_t slot(std::string_view key, uint64_t hash) const {
    const size_t mask = slots_.size() - 1;
    size_t at = hash & mask;
    while (slots_[at] >= 0 && (hashes_[slots_[at]] != hash || (*this)[slots_[at]] != key)) {
      at = (at + 1) & mask;
    }
    return at;
  }

  void grow() {
    slots_.assign(slots_.size() * 2, -1);
    const size_t mask = slots_.size() - 1;
    for (int32_t number = 0; number < size(); ++number) {
      size_t at = hashes_[number] & mask;
      while (slots_[at] >= 0) at = (at + 1) & mask;
      slots_[at] = number;
    }
  }

  std::vector<int32_t> slots_;
  std::vector<uint64_t> hashes_;
  std::vector<size_t> begins_;
  std::string bytes_;
};

}  // namespace fovea
