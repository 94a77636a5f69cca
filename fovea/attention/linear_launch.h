#pragma once

#include <algorithm>
#include <cstdint>
#include <new>
#include <span>
#include <string>

#include "fovea/attention/conditions.h"
#include "fovea/kernels/attention/engine.h"

namespace fovea {

// What the calls of linear attention and of linear memories share.

/// Of states, decays and all sums.
inline DType linear_state_type(DType operands) {
  return operands == DType::kF64 ? DType::kF64 : DType::kF32;
}

inline void expect_bounds(Conditions& c, const char* name, std::span<const int32_t> bounds,
                          int64_t rows) {
  if (bounds.empty() || bounds.front() != 0 || bounds.back() != rows ||
      !std::is_sorted(bounds.begin(), bounds.end())) {
    c.add(std::string(name) + " that ascends from 0 to " + std::to_string(rows),
          bounds.empty() ? "none"
                         : "one from " + std::to_string(bounds.front()) + " to " +
                               std::to_string(bounds.back()));
  }
}

/// Rows of one head from `begin` on; with `step` -1 backwards.
inline kernels::LinearRows rows_at(const TensorView& t, int64_t batch, int64_t head, int64_t begin,
                                   int64_t step = 1) {
  const int64_t offset = batch * t.strides[0] + head * t.strides[1] + begin * t.strides[2];
  return {static_cast<char*>(t.data) + offset * size_of(t.dtype), step * t.strides[2]};
}

/// The same of numbers; absent where the view is empty.
template <typename T>
kernels::LinearValues<T> values_at(const TensorView& t, int64_t batch, int64_t head, int64_t begin,
                                   int64_t step = 1) {
  if (t.empty()) return {};
  return {t.row<T>(batch, head, begin), step * t.strides[2]};
}

/// Runs `body` with the kernels for operands of `dtype`; a failed allocation becomes a status.
/// Delta writes have none for operands of bf16.
template <typename Body>
Status run_linear(DType dtype, bool delta, const Body& body) {
  try {
    const kernels::LinearKernels<float>* bf16 =
        dtype == DType::kBF16 && !delta ? kernels::engine_for(dtype).linear_bf16 : nullptr;
    if (dtype == DType::kF64) {
      body(*kernels::engine_for(dtype).linear_f64);
    } else {
      body(bf16 ? *bf16 : *kernels::engine_for(DType::kF32).linear_f32);
    }
  } catch (const std::bad_alloc&) {
    return {ErrorCode::kFailed, "linear_attention: no memory for the scratch of this problem"};
  } catch (const Error& error) {  // FOVEA_MAX_ISA names no instruction set
    return {error.code(), error.what()};
  }
  return {};
}

}  // namespace fovea
