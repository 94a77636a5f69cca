#include "fovea/data/recall.h"

#include <algorithm>
#include <numeric>
#include <vector>

#include "fovea/core/status.h"

namespace fovea::data {
namespace {

constexpr char kValues[] = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ";

// Words that may be pairs: the first at min_distance, the last min_distance before the last word.
int64_t room_of(const RecallOptions& options) { return options.length - 2 * options.min_distance; }

}  // namespace

RecallGenerator::RecallGenerator(const RecallOptions& options)
    : options_(options), random_(options.seed) {
  constexpr int64_t kLongest = int64_t{1} << 30;
  if (options.pairs < 1 || options.pairs > 26 || options.classes < 2 || options.classes > 36) {
    throw InputError("recall: expected pairs in [1, 26] and classes in [2, 36]");
  }
  if (options.min_distance < 2 || options.length > kLongest || room_of(options) < options.pairs) {
    throw InputError(
        "recall: expected min-distance of at least 2 and length of at least 2 * "
        "min-distance + pairs = " +
        std::to_string(2 * options.min_distance + options.pairs) + ", found " +
        std::to_string(options.length));
  }
}

Recall RecallGenerator::next() {
  const auto pairs = static_cast<size_t>(options_.pairs);
  std::vector<char> keys(26);
  std::iota(keys.begin(), keys.end(), 'a');
  random_.shuffle(keys);

  std::vector<char> classes(kValues, kValues + options_.classes);
  std::vector<char> values;
  while (values.size() < pairs) {  // whole rounds, the last one cut at random
    random_.shuffle(classes);
    values.insert(values.end(), classes.begin(), classes.end());
  }
  values.resize(pairs);
  random_.shuffle(values);

  const auto room = static_cast<uint32_t>(room_of(options_));
  const auto distance = static_cast<size_t>(options_.min_distance);
  std::vector<std::string> words(static_cast<size_t>(options_.length), ".");
  for (size_t i = 0; i < pairs;) {
    std::string& word = words[distance + random_.below(room)];
    if (word != ".") continue;
    word = {keys[i], values[i]};
    ++i;
  }
  const uint32_t asked = random_.below(static_cast<uint32_t>(pairs));
  (options_.query_last ? words.back() : words.front()) = {'?', keys[asked]};

  Recall out;
  for (const std::string& word : words) {
    if (!out.text.empty()) out.text += ' ';
    out.text += word;
  }
  out.label = std::string(1, values[asked]);
  return out;
}

}  // namespace fovea::data
