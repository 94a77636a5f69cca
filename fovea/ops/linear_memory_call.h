#pragma once

// Internal to ops: linear memories through the dispatcher, in the order of schema.cpp.

#include <string>
#include <tuple>

#include <ATen/core/Tensor.h>

#include "fovea/ops/attention_call.h"

namespace fovea::ops {

struct MemoryCall {
  int64_t left, right;
  std::string map;
};

/// d_q, d_k, d_v, d_gain.
using MemoryGradients = std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor>;

// The dispatcher's entries: every internal call goes through them.
Pair call_linear_memory(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                        const at::Tensor& o, const at::Tensor& lse, const at::Tensor& gain,
                        const at::Tensor& cu_seqlens, const MemoryCall& call);
MemoryGradients call_linear_memory_backward(const at::Tensor& d_o, const MaybeTensor& d_lse,
                                            const at::Tensor& q, const at::Tensor& k,
                                            const at::Tensor& v, const at::Tensor& o,
                                            const at::Tensor& lse, const at::Tensor& gain,
                                            const at::Tensor& cu_seqlens, const MemoryCall& call);

}  // namespace fovea::ops
