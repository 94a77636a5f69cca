#pragma once

#include <cstdint>

#include "fovea/core/tensor_view.h"
#include "fovea/pattern/feature_map.h"

namespace fovea::kernels {

/// Steps that are worked on together: inside a chunk attention is quadratic, between chunks it goes
/// through the state.
constexpr int kLinearChunk = 16;
constexpr int kLargestLinearChunk = 32;  ///< that an engine may take instead

/// Columns of a panel that holds rows of `dim` values: whole cache lines of f32.
constexpr int linear_stride(int dim) { return (dim + 15) / 16 * 16; }

/// Rows of one head in the storage type of the problem; `stride` counts elements.
struct LinearRows {
  void* data = nullptr;
  int64_t stride = 0;
};

/// One number a row, in the compute type; null data: absent.
template <typename T>
struct LinearValues {
  T* data = nullptr;
  int64_t stride = 0;
};

/// One head of one sequence of linear attention. A state is [D, Dv + normalise], row-major,
/// contiguous; the last column of a normalised one is z, the sum of features.
template <typename T>
struct LinearHead {
  int64_t q_len, kv_len;  ///< equal when causal
  int head_dim, value_dim;
  DType dtype;
  FeatureMap map;
  bool causal, normalise;
  T scale;  ///< of outputs; 1 when normalised
  T eps;
  LinearRows q, k, v, o;
  LinearValues<const T> decay;  ///< natural logarithm for each step, or for each of its channels
  bool decay_by_channel;        ///< head_dim numbers a step, side by side
  LinearValues<const T> beta;   ///< strengths of delta writes; null: additive writes
  LinearValues<T> denominator;  ///< z·f(q) + eps; written by the forward when normalised
  /// Null lse: none. Else o and lse hold attention over other keys, which the forward joins under
  /// one denominator, weights here being e^gain f(q)·f(k); the backward reads what it left there.
  LinearValues<T> lse;
  LinearValues<const T> gain;
  const T* initial_state;  ///< null: zeros
  T* final_state;          ///< null: not wanted; may be initial_state
  T* scratch;              ///< linear_scratch() elements on a cache line
};

template <typename T>
struct LinearHeadGradients {
  LinearRows d_o;
  const T* d_final_state;  ///< null: zeros
  LinearRows d_q, d_k, d_v;
  LinearValues<T> d_decay;      ///< set if and only if there is a decay, and by channel as it is
  LinearValues<T> d_beta;       ///< set if and only if there are delta writes
  T* d_initial_state;           ///< null: not wanted
  LinearValues<const T> d_lse;  ///< with an lse; null: zeros
  LinearValues<T> d_gain;       ///< set if and only if there is an lse
  bool add_q = false;           ///< d_q and d_gain are added to
  bool add_k = false;           ///< d_k and d_v are
};

/// Chunks between the states that the backward of delta writes keeps.
constexpr int kLinearSegment = 16;

/// Elements of scratch that the forward needs, and the backward of additive writes, operands of
/// bf16 with them.
inline int64_t linear_scratch(int head_dim, int value_dim) {
  const int64_t d = linear_stride(head_dim), dv = linear_stride(value_dim), c = kLargestLinearChunk;
  return 4 * d * dv + c * (18 * d + 10 * dv) + 7 * c * c + 11 * c;
}

/// Elements of scratch that the backward of delta writes needs: D · Dv every 256 steps, and more.
inline int64_t linear_delta_scratch(int head_dim, int value_dim, int64_t kv_len) {
  const int64_t d = linear_stride(head_dim), dv = linear_stride(value_dim), c = kLinearChunk;
  const int64_t chunk = d * dv + 2 * c * c + 2 * c * dv;  // its state and its DeltaChunk
  const int64_t segments = kv_len / (c * kLinearSegment) + 1;
  return (4 + segments) * d * dv + c * (14 * d + 6 * dv) + 4 * c * c + 4 * c +
         kLinearSegment * chunk;
}

/// What one engine can do for linear attention in compute type T; noexcept, without allocation.
template <typename T>
struct LinearKernels {
  void (*forward)(const LinearHead<T>& head);
  /// Row 0 alone, causally; both states are set, and may be the same.
  void (*step)(const LinearHead<T>& head);
  /// Reads head.o, head.denominator and the inputs; head.final_state is not touched.
  void (*backward)(const LinearHead<T>& head, const LinearHeadGradients<T>& gradients);
};

}  // namespace fovea::kernels
