#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace fovea::data {

/// Indices of the two parts of a split, each in ascending order.
struct Split {
  std::vector<int64_t> train;
  std::vector<int64_t> valid;
};

/// Splits examples by label: of each class with n >= 2 examples, round(n * valid_share) but at
/// least one and at most n - 1 go to `valid`, drawn without replacement by (seed, class). A
/// function of labels, share and seed only, on any machine. Throws InputError unless 0 <
/// valid_share < 1.
Split split_by_label(const std::vector<std::string>& labels, double valid_share, uint64_t seed);

}  // namespace fovea::data
