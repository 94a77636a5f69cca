#pragma once

#include <cstdint>
#include <vector>

#include "fovea/data/random.h"

namespace fovea::data {

/// Token ids, and which of them are to be predicted from those before.
struct MarkedSequence {
  std::vector<int32_t> tokens;
  std::vector<bool> marked;
};

/// The id that fills or separates; never a key, a value or a symbol.
inline constexpr int32_t kBlank = 0;

/// Multi-query associative recall (Arora et al. 2023, Zoology, §3): pairs of a key and its value,
/// then each key once more, in random order and at random places among blanks, followed by its
/// value, which is marked. What it takes is to keep all pairs and to find one by its key. Keys are
/// ids from 1 on, values those from vocab / 2 on; keys of a sequence differ. Unlike the paper's,
/// the values stand in the text (next-token form) and places are uniform.
struct RecallSequenceOptions {
  int64_t length = 64;  ///< tokens: at least 4 pairs
  int pairs = 8;
  int vocab = 64;  ///< ids, the blank included: more than 2 pairs
};
MarkedSequence recall_sequence(const RecallSequenceOptions& options, Random& random);

/// `symbols` random ids from [1, vocab), a blank, the same again, marked.
MarkedSequence copy_sequence(int symbols, int vocab, Random& random);

/// Induction (Olsson et al. 2022, §2): `symbols` different ids from [1, vocab) in random order, and
/// the same again from a random one of them on, in a circle. Marked are those that follow the first
/// repeated one, but the first of all: what came after the present token the last time?
MarkedSequence induction_sequence(int symbols, int vocab, Random& random);

}  // namespace fovea::data
