#pragma once

#include <tuple>

#include <ATen/core/Tensor.h>

namespace fovea::ops {

/// Short causal depthwise convolution over packed documents, as recurrent layers mix neighbours
/// before their state (Yang et al. 2024, DeltaNet; Dao and Gu 2024, Mamba-2):
///
///     y_t = Σ_{w < W} weight[:, w] ∘ x_{t - W + 1 + w}        within the document of t
///
/// Shapes: x [T, C], weight [C, W] (the last column is of the row itself), cu_seqlens int32 or
/// int64 [N + 1] on the CPU; initial_state [N, W - 1, C], the rows before each document's first,
/// oldest first, zeros when undefined. Returns y [T, C] in x's dtype and the final state [N, W - 1,
/// C] in x's dtype, which carries generation on. Differentiable in x, weight and initial_state, not
/// through the final state. Numerics: sums in f32 (f64 for f64), one rounding; bits do not depend
/// on the thread count. Cost: W multiply-adds an element.
std::tuple<at::Tensor, at::Tensor> short_convolution(const at::Tensor& x, const at::Tensor& weight,
                                                     const at::Tensor& cu_seqlens,
                                                     const at::Tensor& initial_state = {});

}  // namespace fovea::ops
