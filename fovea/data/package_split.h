#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace fovea::data {

constexpr int kSplits = 3;  // train, valid, test
constexpr const char* kSplitNames[kSplits] = {"train", "valid", "test"};

/// What a split by package must reach for each class.
struct PackageSplitOptions {
  int64_t min_files = 50;                                     ///< of a class in a split
  int64_t min_packages = 3;                                   ///< of a class in a split
  std::array<int64_t, kSplits> max_files = {1500, 300, 300};  ///< of a class in a split
  double max_package_share = 0.3;                             ///< of a class over all splits
  uint64_t seed = 0;
};

/// files[class][package] = how many there are.
using PackageCounts = std::map<std::string, std::map<std::string, int64_t>>;

/// Puts every package into one split, so that as many classes as possible have enough files and
/// packages in each, then as many files as are wanted: a hill climb from a random start, a function
/// of counts and options only.
std::map<std::string, int> split_packages(const PackageCounts& counts,
                                          const PackageSplitOptions& options);

/// How many files to take from each package for one class: in each split the wanted number, spread
/// as evenly over its packages as can be, and no package above its share of the class. Empty when
/// the class does not reach the minima; `why` then says what is missing.
std::map<std::string, int64_t> choose_counts(const std::map<std::string, int64_t>& packages,
                                             const std::map<std::string, int>& split,
                                             const PackageSplitOptions& options, std::string* why);

}  // namespace fovea::data
