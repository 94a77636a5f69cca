#include "fovea/data/package_split.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "fovea/data/random.h"

namespace fovea::data {
namespace {

// The largest level with sum(min(count, level)) <= wanted, so that no package is cut below another.
int64_t even_level(const std::vector<int64_t>& counts, int64_t wanted) {
  int64_t low = 0, high = wanted;
  while (low < high) {
    const int64_t middle = (low + high + 1) / 2;
    int64_t sum = 0;
    for (const int64_t count : counts) sum += std::min(count, middle);
    if (sum <= wanted) {
      low = middle;
    } else {
      high = middle - 1;
    }
  }
  return low;
}

// Lowers what is above `share` of the sum, until nothing is.
void cap_share(std::map<std::string, int64_t>& chosen, double share) {
  for (;;) {
    int64_t sum = 0;
    for (const auto& [package, count] : chosen) sum += count;
    const auto limit = static_cast<int64_t>(std::floor(share * static_cast<double>(sum)));
    bool changed = false;
    for (auto& [package, count] : chosen) {
      if (count <= limit) continue;
      count = limit;
      changed = true;
    }
    if (!changed) return;
  }
}

struct Tally {
  std::array<int64_t, kSplits> files = {}, packages = {};
};

class Climber {
 public:
  Climber(const PackageCounts& counts, const PackageSplitOptions& options)
      : options_(options), random_(options.seed) {
    for (const auto& [label, packages] : counts) {
      std::map<std::string, int64_t> capped = packages;
      cap_share(capped, options.max_package_share);
      const size_t index = tallies_.size();
      for (const auto& [package, count] : capped) {
        if (count > 0) members_[package].emplace_back(index, count);
      }
      tallies_.emplace_back();
    }
    for (const auto& [package, classes] : members_) names_.push_back(package);
    where_.resize(names_.size());
    for (size_t i = 0; i < names_.size(); ++i) {
      constexpr double kTrain = 0.5, kValid = 0.75;
      const double r = random_.uniform();
      where_[i] = r < kTrain ? 0 : r < kValid ? 1 : 2;
      move(i, where_[i], +1);
    }
  }

  std::map<std::string, int> climb() {
    constexpr int kMovesPerPackage = 400;
    for (size_t n = kMovesPerPackage * names_.size(); n > 0; --n) {
      const size_t i = random_.below(static_cast<uint32_t>(names_.size()));
      const int from = where_[i];
      const int to = static_cast<int>(random_.below(kSplits));
      const double before = score_of(i);
      move(i, from, -1);
      move(i, to, +1);
      if (score_of(i) < before) {
        move(i, to, -1);
        move(i, from, +1);
      } else {
        where_[i] = to;
      }
    }
    std::map<std::string, int> split;
    for (size_t i = 0; i < names_.size(); ++i) split[names_[i]] = where_[i];
    return split;
  }

 private:
  void move(size_t i, int split, int sign) {
    for (const auto& [index, count] : members_.at(names_[i])) {
      tallies_[index].files[static_cast<size_t>(split)] += sign * count;
      tallies_[index].packages[static_cast<size_t>(split)] += sign;
    }
  }

  // Over the classes that package i has a part in; the others do not change when it moves.
  double score_of(size_t i) const {
    double sum = 0;
    for (const auto& [index, count] : members_.at(names_[i])) sum += class_score(tallies_[index]);
    return sum;
  }

  double class_score(const Tally& tally) const {
    // A margin over the minimum, for what evening out and the share's limit still take away; train
    // is to get three times as much as each of the others.
    constexpr double kMargin = 1.1, kAlive = 100, kProgress = 10;
    constexpr std::array<double, kSplits> kWeight = {3, 1, 1};
    double score = 0;
    bool alive = true;
    for (size_t s = 0; s < kSplits; ++s) {
      const auto files = static_cast<double>(std::min(tally.files[s], options_.max_files[s]));
      const double enough = std::min(kMargin * static_cast<double>(options_.min_files),
                                     static_cast<double>(options_.max_files[s]));
      const double packages =
          static_cast<double>(tally.packages[s]) / static_cast<double>(options_.min_packages);
      alive = alive && files >= enough && packages >= 1;
      score += kProgress * (std::min(files / enough, 1.0) + std::min(packages, 1.0));
      score += kWeight[s] * std::log1p(files / enough);
    }
    return score + (alive ? kAlive : 0);
  }

  const PackageSplitOptions& options_;
  Random random_;
  std::vector<Tally> tallies_;                                              // by class
  std::map<std::string, std::vector<std::pair<size_t, int64_t>>> members_;  // class, files
  std::vector<std::string> names_;
  std::vector<int> where_;
};

}  // namespace

std::map<std::string, int> split_packages(const PackageCounts& counts,
                                          const PackageSplitOptions& options) {
  return Climber(counts, options).climb();
}

std::map<std::string, int64_t> choose_counts(const std::map<std::string, int64_t>& packages,
                                             const std::map<std::string, int>& split,
                                             const PackageSplitOptions& options, std::string* why) {
  std::map<std::string, int64_t> chosen;
  for (int s = 0; s < kSplits; ++s) {
    std::vector<int64_t> counts;
    for (const auto& [package, count] : packages) {
      const auto found = split.find(package);
      if (found != split.end() && found->second == s) counts.push_back(count);
    }
    const int64_t level = even_level(counts, options.max_files[static_cast<size_t>(s)]);
    for (const auto& [package, count] : packages) {
      const auto found = split.find(package);
      if (found != split.end() && found->second == s) chosen[package] = std::min(count, level);
    }
  }
  cap_share(chosen, options.max_package_share);
  Tally tally;
  for (const auto& [package, count] : chosen) {
    const auto s = static_cast<size_t>(split.at(package));
    tally.files[s] += count;
    tally.packages[s] += count > 0;
  }
  for (size_t s = 0; s < kSplits; ++s) {
    if (tally.files[s] >= options.min_files && tally.packages[s] >= options.min_packages) continue;
    *why = std::to_string(tally.files[s]) + " files of " + std::to_string(tally.packages[s]) +
           " packages in " + kSplitNames[s] + ", " + std::to_string(options.min_files) + " of " +
           std::to_string(options.min_packages) + " are needed";
    return {};
  }
  return chosen;
}

}  // namespace fovea::data
