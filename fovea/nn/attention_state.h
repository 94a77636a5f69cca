#pragma once

#include <cstdint>
#include <tuple>
#include <vector>

#include <ATen/core/Tensor.h>

#include "fovea/ops/attention.h"
#include "fovea/ops/linear_attention.h"
#include "fovea/pattern/pattern.h"

namespace fovea::nn {

/// What an attention layer keeps of one document that grows: the first call with an empty state
/// takes the document's beginning, every later one the next token. No gradients are kept.
struct AttentionState {
  int64_t tokens = 0;  ///< of the document so far

  // Softmax: position p is row p mod C; its rows grow with the document, those of a window only
  // until they hold the window.
  at::Tensor keys, values;  ///< [1, Hkv, C, D]

  // Linear and recurrent layers, and what a window has left behind: constant memory.
  at::Tensor memory;     ///< [1, H, D, Dv + normalise], see ops/linear_attention.h, WindowMemory
  at::Tensor convolved;  ///< [1, 3, C], the last inputs of a short convolution

  /// Layers over blocks: means of rows, which grow with the document; `tokens` are their number.
  std::vector<AttentionState> pools;

  /// Of all that is kept.
  int64_t bytes() const;

  /// Adds the keys and values [n, Hkv, D] of the positions from `tokens` on, which it does not
  /// advance. `window` > 0: no more than the last `window` positions are read again.
  void append(const at::Tensor& k, const at::Tensor& v, int64_t window);
};

/// Softmax attention of a document's newest token, q [1, H, D], whose key append() has added under
/// the same `window`, to what `pattern` shows it: o [1, H, Dv], lse [H, 1]. Plain scores over a run
/// of keys are the decode operator's, everything else the exact engine's.
std::tuple<at::Tensor, at::Tensor> attend_cached(const at::Tensor& q, const AttentionState& state,
                                                 int64_t window, const Pattern& pattern,
                                                 const ops::AttentionArguments& arguments);

/// ops::linear_attention_varlen; with a state, of the next rows of its one document, which goes on
/// from the state's memory.
at::Tensor attend_linear(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                         const at::Tensor& cu_seqlens_q, const at::Tensor& cu_seqlens_k,
                         ops::LinearAttentionArguments arguments, AttentionState* state);

}  // namespace fovea::nn
