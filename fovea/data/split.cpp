#include "fovea/data/split.h"

#include <algorithm>
#include <cmath>
#include <map>

#include <xxhash.h>

#include "fovea/core/status.h"
#include "fovea/data/random.h"

namespace fovea::data {

Split split_by_label(const std::vector<std::string>& labels, double valid_share, uint64_t seed) {
  if (!(valid_share > 0 && valid_share < 1)) {
    throw InputError("share of the validation part: expected a number between 0 and 1, found " +
                     std::to_string(valid_share));
  }
  std::map<std::string, std::vector<int64_t>> classes;
  for (size_t i = 0; i < labels.size(); ++i) classes[labels[i]].push_back(static_cast<int64_t>(i));
  Split split;
  for (auto& [label, members] : classes) {
    const auto n = static_cast<int64_t>(members.size());
    const int64_t valid =
        n < 2 ? 0
              : std::clamp<int64_t>(std::llround(static_cast<double>(n) * valid_share), 1, n - 1);
    // A stream for each class: adding a class leaves the others' split as it was.
    Random random(seed, XXH3_64bits(label.data(), label.size()));
    random.shuffle(members);
    split.valid.insert(split.valid.end(), members.begin(), members.begin() + valid);
    split.train.insert(split.train.end(), members.begin() + valid, members.end());
  }
  std::sort(split.train.begin(), split.train.end());
  std::sort(split.valid.begin(), split.valid.end());
  return split;
}

}  // namespace fovea::data
