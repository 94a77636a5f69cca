#pragma once

#include <cstdint>

#include <ATen/core/Tensor.h>

namespace fovea::nn {

/// A seed for one dropout, drawn from torch's default CPU generator: a checkpoint of that
/// generator's state therefore covers all randomness of a model. In [0, 2^63).
int64_t draw_seed();

/// x with elements dropped with probability p and the others scaled by 1 / (1 - p), in training;
/// x itself otherwise, without drawing. See ops/dropout.h.
at::Tensor apply_dropout(const at::Tensor& x, double p, bool training);

/// residual + dropout(x, p, training), in one pass over memory.
at::Tensor add_dropout(const at::Tensor& residual, const at::Tensor& x, double p, bool training);

/// Fills `weight` [out, in] by Glorot and Bengio 2010: uniform in ±sqrt(6 / (in + out)).
void init_xavier_(at::Tensor weight);

/// Fills `weight` from a normal of the given deviation, cut at two deviations.
void init_truncated_normal_(at::Tensor weight, double deviation);

}  // namespace fovea::nn
