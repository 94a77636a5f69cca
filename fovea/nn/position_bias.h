#pragma once

#include <string>

#include <ATen/core/Tensor.h>

namespace fovea::nn {

/// What the distance of two tokens does to their score; distances count inside a document.
enum class PositionBias {
  kNone,
  kAlibi,  ///< minus a fixed slope for each head times the distance (Press et al. 2022)
  kT5,     ///< plus a learned number for each head and bucket of distances (Raffel et al. 2020)
};

/// none, alibi, t5; throws InputError that lists them.
PositionBias parse_position_bias(const std::string& name);

/// What a score is made of.
enum class Scores {
  kDot,       ///< scale · q·k
  kAdditive,  ///< Σ w tanh(q + k), w learned for each head (Bahdanau et al. 2015)
  kLeaky,  ///< leaky ReLU, slope 0.2, of a_q·q + a_k·k, learned vectors a head (GAT, Veličković
           ///< et al. 2018)
};

/// dot, additive, leaky; throws InputError that lists them.
Scores parse_scores(const std::string& name);

/// ALiBi's slopes, float [H]: 2^(-8 i / H) for i = 1 … H where H is a power of two; else those of
/// the power below, then every other one of the power above, as the authors' code has it.
at::Tensor alibi_slopes(int64_t heads);

/// T5's buckets of the distances -m … m, key position minus query position: int64 [2 m + 1], in
/// [0, buckets). One half of the buckets is for keys ahead; half of each half holds one distance
/// each, the others grow logarithmically up to m = max_distance. `buckets` is a multiple of 4, m
/// above buckets / 4. Logarithms in float32, as T5 computes them: edges are matters of rounding.
at::Tensor t5_buckets(int64_t buckets, int64_t max_distance);

}  // namespace fovea::nn
