#include "fovea/data/sequences.h"

#include <algorithm>
#include <numeric>
#include <string>

#include "fovea/core/status.h"

namespace fovea::data {
namespace {

void require(bool condition, const std::string& expected) {
  if (!condition) throw InputError("sequences: expected " + expected);
}

/// `count` different ids of [begin, end), in random order.
std::vector<int32_t> draw(int count, int begin, int end, Random& random) {
  std::vector<int32_t> ids(static_cast<size_t>(end - begin));
  std::iota(ids.begin(), ids.end(), begin);
  random.shuffle(ids);
  ids.resize(static_cast<size_t>(count));
  return ids;
}

}  // namespace

MarkedSequence recall_sequence(const RecallSequenceOptions& options, Random& random) {
  const int pairs = options.pairs, half = options.vocab / 2;
  require(pairs >= 1 && pairs < half, "pairs from 1 to below vocab / 2 = " + std::to_string(half));
  require(options.length >= 4 * pairs && options.length % 2 == 0,
          "an even length of at least 4 * pairs = " + std::to_string(4 * pairs));
  const std::vector<int32_t> keys = draw(pairs, 1, half, random);
  MarkedSequence sequence;
  sequence.tokens.assign(static_cast<size_t>(options.length), kBlank);
  sequence.marked.assign(sequence.tokens.size(), false);
  std::vector<int32_t> values;
  for (size_t i = 0; i < keys.size(); ++i) {
    values.push_back(
        half + static_cast<int32_t>(random.below(static_cast<uint32_t>(options.vocab - half))));
    sequence.tokens[2 * i] = keys[i];
    sequence.tokens[2 * i + 1] = values[i];
  }
  const auto slots = static_cast<int>(options.length / 2);
  const std::vector<int32_t> places = draw(pairs, pairs, slots, random);
  for (size_t i = 0; i < keys.size(); ++i) {
    const auto at = 2 * static_cast<size_t>(places[i]);
    sequence.tokens[at] = keys[i];
    sequence.tokens[at + 1] = values[i];
    sequence.marked[at + 1] = true;
  }
  return sequence;
}

MarkedSequence copy_sequence(int symbols, int vocab, Random& random) {
  require(symbols >= 1 && vocab >= 2, "a symbol or more from a vocabulary of 2 or more");
  MarkedSequence sequence;
  for (int i = 0; i < symbols; ++i) {
    sequence.tokens.push_back(1 +
                              static_cast<int32_t>(random.below(static_cast<uint32_t>(vocab - 1))));
  }
  const std::vector<int32_t> first = sequence.tokens;
  sequence.tokens.push_back(kBlank);
  sequence.marked.assign(sequence.tokens.size(), false);
  sequence.tokens.insert(sequence.tokens.end(), first.begin(), first.end());
  sequence.marked.resize(sequence.tokens.size(), true);
  return sequence;
}

MarkedSequence induction_sequence(int symbols, int vocab, Random& random) {
  require(symbols >= 1 && symbols < vocab,
          "symbols from 1 to below vocab = " + std::to_string(vocab));
  MarkedSequence sequence;
  sequence.tokens = draw(symbols, 1, vocab, random);
  const std::vector<int32_t> circle = sequence.tokens;
  const size_t start = random.below(static_cast<uint32_t>(symbols));
  sequence.marked.assign(circle.size(), false);
  for (size_t i = 0; i < circle.size(); ++i) {
    const size_t at = (start + i) % circle.size();
    sequence.tokens.push_back(circle[at]);
    sequence.marked.push_back(i > 0 && at > 0);  // the first of all has followed nothing yet
  }
  return sequence;
}

}  // namespace fovea::data
