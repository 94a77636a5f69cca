#pragma once

#include <cstdint>

#include <ATen/core/Tensor.h>

namespace fovea::nn {

/// Taylor features of x [..., 16], [..., 160]: φ(q)·φ(k) = 1 + s + s²/2 with s = q·k / √16, the
/// exponential's first terms (Arora et al. 2024, Based, §4.2). Products of two elements appear once
/// each, not twice as in the paper: the same inner product from 153 features, then zeros.
at::Tensor taylor_features(const at::Tensor& x);

/// Positive random features of x [..., D] along the rows of directions [M, D]: M numbers
/// exp(w·x' - |x'|²/2 - c) / √M with x' = x / D^(1/4), whose inner products are softmax's weights
/// exp(q·k / √D) on average (Choromanski et al. 2021, Performer, lemma 1). c, the largest exponent
/// of a row, is subtracted where `stabilise`: of queries only, for it cancels there under the
/// normaliser; a key's own would not, and one for all keys would see the future. In float32.
/// c, [..., 1], is told where the caller has no normaliser of its own for it.
at::Tensor random_positive_features(const at::Tensor& x, const at::Tensor& directions,
                                    bool stabilise, at::Tensor* c = nullptr);

/// Fills directions [M, D] with blocks of D orthogonal rows whose lengths are those of normal
/// vectors (Choromanski et al. 2021, §2.4), from torch's default CPU generator.
void draw_orthogonal_directions_(at::Tensor directions);

/// Does so once in 1000 calls on average: for every forward pass in training.
void redraw_orthogonal_directions_(at::Tensor directions);

/// Learned features of x [T, H, D], [T, H, 2 D]: softmax(y) and softmax(-y) with y = map x, map
/// [H, D, D] (Zhang et al. 2024, Hedgehog, §4.2, eq. 6).
at::Tensor hedgehog_features(const at::Tensor& x, const at::Tensor& map);

}  // namespace fovea::nn
