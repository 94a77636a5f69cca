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

/// Σ_j w_ij v_j / Σ_j w_ij with w_ij = exp(q_i^l · k_j^l / sqrt(D)), x_i^l the mean over the tokens
/// of pool i / 2^l, and l the first level at which pools i / 2^l and j / 2^l stand in the same or
/// adjacent blocks of `block` pools: [Hq, T, D]. Causal: j ≤ i, and q_i as it is.
std::vector<double> hmatrix(const BlockProblem& problem, int64_t block);

/// The three branches of nn::nsa (fovea/nn/block_attention.h), gates [Hq, T, 3]: [Hq, T, D].
std::vector<double> nsa(const BlockProblem& problem, const std::vector<double>& gates,
                        int64_t block, int64_t blocks, int64_t window);

/// nn::segment_encoder, gate [Hq, T]: [Hq, T, D].
std::vector<double> segment_encoder(const BlockProblem& problem, const std::vector<double>& gate,
                                    int64_t size);

}  // namespace fovea::reference
