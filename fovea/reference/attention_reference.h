#pragma once

#include <cstdint>
#include <vector>

#include "fovea/pattern/pattern.h"
#include "fovea/pattern/score_mod.h"

namespace fovea::reference {

/// A problem in double precision, contiguous: q [B, Hq, Sq, D], k [B, Hkv, Sk, D], v [B, Hkv, Sk,
/// Dv]. `score_mod`'s biases, where given, are f64 views; a scale of 0 means 1/sqrt(D).
struct Problem {
  int64_t batch = 1, heads = 1, kv_heads = 1, q_len = 1, kv_len = 1, head_dim = 8, value_dim = 8;
  std::vector<double> q, k, v;
  Pattern pattern;
  Alignment alignment = Alignment::kBottomRight;
  PatternInputs inputs;
  ScoreMod score_mod;
  double dropout_p = 0;
  uint64_t dropout_seed = 0;
};

struct Forward {
  std::vector<double> o;            ///< [B, Hq, Sq, Dv]
  std::vector<double> lse;          ///< [B, Hq, Sq]; -inf where a row sees nothing
  std::vector<double> column_mass;  ///< [B, Hq, Sk]: Σ of a key's weights, before dropout
  std::vector<double> row_entropy;  ///< [B, Hq, Sq]: -Σ w ln w of a row's weights, likewise
};

struct Backward {
  std::vector<double> d_q, d_k, d_v;  ///< shapes of q, k, v
  std::vector<double>
      d_bias;  ///< [B, Hq, Sq, Sk], before any broadcast is summed; empty without bias
  std::vector<double> d_distance_bias;  ///< [Hq, 2 m + 1], of each head, summed over the batch
  std::vector<double> d_additive;       ///< [Hq, D] of each head, likewise; empty without
  std::vector<double> d_sinks;          ///< [Hq]; empty without sinks
  std::vector<double> d_scales;         ///< [Hq], of `scales`, or of each head's use of `scale`
  double d_scale = 0;                   ///< their sum
};

/// The definition of attention, one loop for each sum: the oracle of every engine. O(B·H·Sq·Sk·D).
Forward attention_forward(const Problem& problem);

/// Gradients by the chain rule written out, with the full row of weights in memory.
/// d_o: [B, Hq, Sq, Dv]; d_lse: [B, Hq, Sq] or empty.
Backward attention_backward(const Problem& problem, const std::vector<double>& d_o,
                            const std::vector<double>& d_lse);

}  // namespace fovea::reference
