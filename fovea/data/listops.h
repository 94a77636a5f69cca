#pragma once

#include <cstdint>
#include <string>
#include <unordered_set>

#include "fovea/data/random.h"

namespace fovea::data {

/// Shape of the ListOps trees; the defaults are those of the Long Range Arena.
struct ListOpsOptions {
  int64_t min_length = 500;   ///< tokens; trees must be longer
  int64_t max_length = 2000;  ///< tokens; trees must be shorter
  int max_depth = 10;         ///< nodes at this depth are digits; 1 to 1,000
  int max_args = 10;          ///< 2 to 1,000
  uint64_t seed = 0;
};

/// One expression, tokens separated by blanks, such as `[MAX 2 9 [MIN 4 7 ] 0 ]`, and its value.
struct ListOps {
  std::string text;
  int value = 0;
  int64_t tokens = 0;
};

/// Draws ListOps expressions by the rules of the Long Range Arena (Tay et al. 2021,
/// arXiv:2011.04006; Nangia and Bowman 2018): a node above the last depth is an operator (MIN, MAX,
/// MED, SM = sum modulo 10) with probability 1/4, with 2 to max_args arguments; other nodes are
/// digits. No expression comes twice. A function of the options only, on any machine.
class ListOpsGenerator {
 public:
  /// Throws InputError for limits that leave no tree.
  explicit ListOpsGenerator(const ListOpsOptions& options);

  /// Throws InputError when 20 million draws in a row gave nothing new within the limits.
  ListOps next();

 private:
  int draw_node(int depth, ListOps& out);

  ListOpsOptions options_;
  Random random_;
  std::unordered_set<uint64_t> seen_;
};

}  // namespace fovea::data
