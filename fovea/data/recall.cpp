#include "fovea/data/recall.h"

#include <algorithm>
#include <numeric>
#include <vector>

#include "fovea/core/status.h"

namespace fovea::data {
namespace {

constexpr char kValues[] = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ";

// Bytes in which pairs may lie: the first from min_distance on, the last min_distance before the
// end.
int64_t room_of(const RecallOptions& options) { return options.length - 2 * options.min_distance; }

}  // namespace

RecallGenerator::RecallGenerator(const RecallOptions& options)
    : options_(options), random_(options.seed) {
  constexpr int64_t kLongest = int64_t{1} << 30;
  if (options.pairs < 1 || options.pairs > 26 || options.classes < 2 || options.classes > 36) {
    throw InputError("recall: expected pairs in [1, 26] and classes in [2, 36]");
  }
  if (options.min_distance < 2 || options.length > kLongest ||
      room_of(options) < 2 * options.pairs) {
    throw InputError(
        "recall: expected min-distance of at least 2 and length of at least 2 * "
        "min-distance + 2 * pairs = " +
        std::to_string(2 * options.min_distance + 2 * options.pairs) + ", found " +
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

  // Uniform over all ways to lay `pairs` two-byte tiles into the room: distinct cells of the room
  // without the tiles' second bytes.
  const auto cells = static_cast<uint32_t>(room_of(options_) - options_.pairs);
  std::vector<uint32_t> starts;
  while (starts.size() < pairs) {
    const uint32_t cell = random_.below(cells);
    if (std::find(starts.begin(), starts.end(), cell) == starts.end()) starts.push_back(cell);
  }
  std::sort(starts.begin(), starts.end());

  Recall out;
  out.text.assign(static_cast<size_t>(options_.length), '.');
  for (size_t i = 0; i < pairs; ++i) {
    const size_t at = static_cast<size_t>(options_.min_distance) + starts[i] + i;
    out.text[at] = keys[i];
    out.text[at + 1] = values[i];
  }
  const uint32_t asked = random_.below(static_cast<uint32_t>(pairs));
  const size_t query = options_.query_last ? out.text.size() - 2 : 0;
  out.text[query] = '?';
  out.text[query + 1] = keys[asked];
  out.label = std::string(1, values[asked]);
  return out;
}

}  // namespace fovea::data
