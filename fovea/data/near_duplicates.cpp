#include "fovea/data/near_duplicates.h"

#include <algorithm>
#include <string>

#include <xxhash.h>

namespace fovea::data {
namespace {

std::vector<uint64_t> word_hashes(std::string_view text) {
  std::vector<uint64_t> words;
  std::string word;
  for (size_t i = 0; i <= text.size(); ++i) {
    const char c = i < text.size() ? text[i] : ' ';
    const bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
                        (c >= '0' && c <= '9') || c == '_' || static_cast<unsigned char>(c) >= 0x80;
    if (letter) {
      word += c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c;
    } else if (!word.empty()) {
      words.push_back(XXH3_64bits(word.data(), word.size()));
      word.clear();
    }
  }
  return words;
}

}  // namespace

NearDuplicates::Signature NearDuplicates::signature_of(std::string_view text) {
  constexpr size_t kShingle = 5;
  const std::vector<uint64_t> words = word_hashes(text);
  Signature signature;
  signature.fill(UINT32_MAX);
  const size_t length = std::min(kShingle, words.size());
  for (size_t i = 0; i + length <= words.size() && length > 0; ++i) {
    const uint64_t shingle = XXH3_64bits(&words[i], length * sizeof words[i]);
    // 64 hash functions of the shingle: multiply and take the upper half (Dietzfelbinger 1996).
    uint64_t multiplier = 0x9E3779B97F4A7C15u;
    for (uint32_t& least : signature) {
      least = std::min(least, static_cast<uint32_t>((shingle * multiplier) >> 32));
      multiplier = (multiplier * 0xD1342543DE82EF95u + 0x632BE59BD9B4E019u) | 1;
    }
  }
  return signature;
}

bool NearDuplicates::seen_or_add(std::string_view text) {
  const Signature signature = signature_of(text);
  std::array<uint64_t, kBands> keys;
  for (size_t band = 0; band < kBands; ++band) {
    keys[band] = XXH3_64bits_withSeed(&signature[band * kRows], kRows * sizeof(uint32_t), band);
    const auto [begin, end] = bands_.equal_range(keys[band]);
    for (auto candidate = begin; candidate != end; ++candidate) {
      const Signature& other = kept_[candidate->second];
      int equal = 0;
      for (size_t i = 0; i < kValues; ++i) equal += signature[i] == other[i];
      if (equal >= kSimilar * kValues) return true;
    }
  }
  for (const uint64_t key : keys) bands_.emplace(key, static_cast<uint32_t>(kept_.size()));
  kept_.push_back(signature);
  return false;
}

}  // namespace fovea::data
