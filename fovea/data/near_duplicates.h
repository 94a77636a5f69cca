#pragma once

#include <array>
#include <cstdint>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace fovea::data {

/// Finds texts that are nearly equal to one seen before: Jaccard similarity of their sets of five
/// consecutive words (case and layout ignored), estimated by MinHash (Broder 1997) with 64 values,
/// candidates by 16 bands of 4. Texts as similar as 0.8 are found with probability 0.9998, those
/// below 0.5 hardly ever taken. Cost: linear in the text; 600 bytes for a text kept.
class NearDuplicates {
 public:
  static constexpr double kSimilar = 0.7;

  /// True when an earlier text is similar; otherwise remembers this one.
  bool seen_or_add(std::string_view text);

 private:
  static constexpr int kValues = 64, kBands = 16, kRows = kValues / kBands;
  using Signature = std::array<uint32_t, kValues>;
  static Signature signature_of(std::string_view text);

  std::vector<Signature> kept_;
  std::unordered_multimap<uint64_t, uint32_t> bands_;
};

}  // namespace fovea::data
