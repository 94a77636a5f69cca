#pragma once

#include "fovea/core/tensor_view.h"

namespace fovea {

/// Least length that a vector is divided by in cosine attention.
constexpr double kCosineEps = 1e-12;

/// What is done to a score between q·k and the softmax. In this order:
///
///     s = scale · (q·k)                       q, k normalised to length 1 first when `cosine`
///     s = Σ_d w[h, d] tanh(q_d + k_d)         in their place when `additive` weights are given
///                                             (Bahdanau et al. 2015)
///     s = s < 0 ? negative_slope · s : s      leaky ReLU, unless 1 (GAT, Veličković et al. 2018)
///     s = softcap · tanh(s / softcap)         when softcap > 0
///     s = s + bias[b, h, i, j]                when a bias is given (broadcast: stride 0)
///     s = s + distance_bias[h, m + clamp(j − i', −m, m)]      relative positions (Shaw et al.
///     2018,
///                                             T5: the caller lays its buckets out by distance)
///     s = s − slope[h] · |i' − j|             ALiBi (Press et al. 2022); i' is the aligned query
///     softmax over the allowed keys and, when sinks are given, one more score sink[h] whose
///     weight is dropped (gpt-oss): it only enlarges the denominator
///
/// Cosine divides by max(|x|, kCosineEps), so a zero vector stays zero. i' is
/// Pattern::aligned_key: distances count inside a document where there are segments. A row whose
/// every score is −inf sees nothing, sink or not, as if the pattern hid its keys.
struct ScoreMod {
  double scale = 0;                      ///< 0 means 1/sqrt(head_dim)
  const double* scales = nullptr;        ///< [H], in place of `scale`: a learned temperature
  bool cosine = false;                   ///< scale then is the temperature's inverse
  TensorView additive;                   ///< [1, H|1, 1, D]; without scale, scales and cosine
  double negative_slope = 1;             ///< in [0, 1]
  double softcap = 0;                    ///< 0: off
  TensorView bias;                       ///< [B|1, H|1, Sq|1, Sk]; extents of 1 broadcast
  TensorView distance_bias;              ///< [1, H|1, 1, 2 m + 1]
  const double* alibi_slopes = nullptr;  ///< [H]
  const double* sinks = nullptr;         ///< [H]

  /// True when a score is a scaled dot product and nothing else.
  bool plain() const {
    return !cosine && additive.empty() && negative_slope == 1 && softcap == 0 && bias.empty() &&
           distance_bias.empty() && !alibi_slopes && !sinks;
  }
};

}  // namespace fovea
