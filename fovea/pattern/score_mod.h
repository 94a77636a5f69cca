#pragma once

#include "fovea/core/tensor_view.h"

namespace fovea {

/// Least length that a vector is divided by in cosine attention.
constexpr double kCosineEps = 1e-12;

/// What is done to a score between q·k and the softmax. In this order:
///
///     s = scale · (q·k)                       q, k normalised to length 1 first when `cosine`
///     s = softcap · tanh(s / softcap)         when softcap > 0
///     s = s + bias[b, h, i, j]                when a bias is given (broadcast: stride 0)
///     s = s − slope[h] · |i' − j|             ALiBi (Press et al. 2022); i' is the aligned query
///     softmax over the allowed keys and, when sinks are given, one more score sink[h] whose
///     weight is dropped (gpt-oss): it only enlarges the denominator
///
/// Cosine divides by max(|x|, kCosineEps), so a zero vector stays zero. The slope's distance is
/// Pattern::aligned_key's.
///
/// Per-distance bias tables (T5 buckets included) are `bias` views built by the caller for now.
struct ScoreMod {
  double scale = 0;                     ///< 0 means 1/sqrt(head_dim)
  bool cosine = false;                  ///< scale then is the temperature's inverse
  double softcap = 0;                   ///< 0: off
  TensorView bias;                      ///< [B|1, H|1, Sq|1, Sk|1]; extents of 1 broadcast
  const float* alibi_slopes = nullptr;  ///< [H]
  const float* sinks = nullptr;         ///< [H]

  /// True when a score is the plain scaled dot product.
  bool plain() const { return !cosine && softcap == 0 && bias.empty() && !alibi_slopes && !sinks; }
};

}  // namespace fovea
