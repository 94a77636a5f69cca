#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "fovea/text/string_table.h"

namespace fovea {

/// A learned vocabulary: the strings of bytes by id, and the pairs of ids joined, in order.
struct LearnedBpe {
  std::vector<std::string> tokens;  ///< the first 256 are the bytes in GPT-2's order
  std::vector<std::pair<int32_t, int32_t>> merges;
};

/// Learns merges from words and how often each occurs, until there are `vocab_size` tokens or no
/// pair occurs `min_frequency` times. The most frequent pair is joined first; of equal ones that
/// with the smaller left, then right id. Deterministic.
/// Cost: linear in the words' bytes, and for each merge in the words that hold the pair.
/// Sennrich et al. 2016, algorithm 1, with counts kept up to date instead of counted anew.
LearnedBpe learn_bpe(const StringTable& words, const std::vector<int64_t>& counts,
                     int64_t vocab_size, int64_t min_frequency);

}  // namespace fovea
