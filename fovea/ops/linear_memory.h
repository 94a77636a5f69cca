#pragma once

#include <cstdint>
#include <string_view>
#include <tuple>

#include <ATen/core/Tensor.h>

#include "fovea/ops/attention.h"
#include "fovea/pattern/feature_map.h"

namespace fovea::ops {

/// Which keys a linear memory holds, and how it weighs them; see attention/linear_memory.h.
struct LinearMemoryArguments {
  int64_t left = 0;   ///< keys at least so many tokens before the query; 0: none of that side
  int64_t right = 0;  ///< keys at least so many after it
  FeatureMap map = FeatureMap::kEluPlusOne;
};

/// Joins keys outside a window to what attention made of the window, packed: q [T, H, D], k
/// [T, Hkv, D], v [T, Hkv, Dv], o [T, H, Dv] and lse [H, T] as attention_varlen() gives them, gain
/// [T, H], logarithm of the weights' factor, cu_seqlens [N + 1]. Returns the joined o and lse.
/// Differentiable in the first six. Errors: c10::Error that lists every unmet condition. Numerics,
/// cost: attention/linear_memory.h. Autocast: its lower type for q, k, v and o.
std::tuple<at::Tensor, at::Tensor> linear_memory(const at::Tensor& q, const at::Tensor& k,
                                                 const at::Tensor& v, const at::Tensor& o,
                                                 const at::Tensor& lse, const at::Tensor& gain,
                                                 const at::Tensor& cu_seqlens,
                                                 const LinearMemoryArguments& memory);

/// attention_qkv() and linear_memory() of its keys and values in one: o, lse. The gradient is that
/// of both from the joined result, so nothing is divided up again. memory_q [T, H, F] and memory_k
/// [T, Hkv, F], features with the map identity, stand for queries and keys there; undefined:
/// the queries and keys themselves.
std::tuple<at::Tensor, at::Tensor> attention_qkv_memory(
    const at::Tensor& qkv, int64_t heads, const at::Tensor& cu_seqlens, std::string_view pattern,
    const AttentionArguments& arguments, const at::Tensor& memory_q, const at::Tensor& memory_k,
    const at::Tensor& gain, const LinearMemoryArguments& memory);

}  // namespace fovea::ops
