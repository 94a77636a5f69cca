#pragma once

#include <cstdint>
#include <vector>

namespace fovea::reference {

/// One document in double precision, contiguous: q [Hq, T, D], k, v [Hkv, T, D]; Hq a multiple of
/// Hkv. Scores are q·k / sqrt(D). Block b is tokens [b size, (b + 1) size), the last one may be
/// shorter. Causal: nothing depends on a later token.
struct BlockProblem {
  int64_t heads = 1, kv_heads = 1, tokens = 1, head_dim = 8;
  std::vector<double> q, k, v;
  bool causal = false;
};

/// Softmax over the own block and the blocks - 1 others, before it where causal, with the highest
/// q·mean(k of the block), ties to the first: [Hq, T, D].
std::vector<double> moba(const BlockProblem& problem, int64_t block, int64_t blocks);

}  // namespace fovea::reference
