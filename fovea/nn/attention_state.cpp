#include "fovea/nn/attention_state.h"

#include <algorithm>
#include <tuple>

#include <ATen/ops/empty.h>
#include <ATen/ops/full.h>

#include "fovea/pattern/causality.h"

namespace fovea::nn {
namespace {

constexpr int64_t kLeastRows = 64;

/// Rows [1, H, C', D] that begin with those of `rows`.
at::Tensor grown(const at::Tensor& rows, int64_t capacity, const at::Tensor& like) {
  const at::Tensor result = at::empty({1, like.size(1), capacity, like.size(2)}, like.options());
  if (rows.defined()) result.narrow(2, 0, rows.size(2)).copy_(rows);
  return result;
}

/// Rows of a cache in the order of their positions: the last `window` of `length`, or all.
at::Tensor in_order(const at::Tensor& cache, int64_t length, int64_t window) {
  if (window == 0 || length <= window) return cache.narrow(2, 0, length);
  return cache.roll(-(length % window), 2);
}

}  // namespace

int64_t AttentionState::bytes() const {
  int64_t sum = 0;
  for (const at::Tensor* x : {&keys, &values, &memory, &convolved}) {
    if (x->defined()) sum += static_cast<int64_t>(x->nbytes());
  }
  for (const AttentionState& pool : pools) sum += pool.bytes();
  return sum;
}

void AttentionState::append(const at::Tensor& k, const at::Tensor& v, int64_t window) {
  const int64_t capacity = keys.defined() ? keys.size(2) : 0;
  int64_t wanted = tokens + k.size(0);
  if (window > 0) wanted = std::min(wanted, window);
  if (wanted > capacity) {  // nothing was overwritten yet: rows are in order
    int64_t rows = std::max({wanted, 2 * capacity, kLeastRows});
    if (window > 0) rows = std::min(rows, window);
    keys = grown(keys, rows, k);
    values = grown(values, rows, v);
  }
  const int64_t rows = keys.size(2), end = tokens + k.size(0);
  for (int64_t p = std::max(tokens, end - rows); p < end;) {  // runs up to the ring's end
    const int64_t count = std::min(end - p, rows - p % rows);
    keys[0].narrow(1, p % rows, count).copy_(k.narrow(0, p - tokens, count).transpose(0, 1));
    values[0].narrow(1, p % rows, count).copy_(v.narrow(0, p - tokens, count).transpose(0, 1));
    p += count;
  }
}

std::tuple<at::Tensor, at::Tensor> attend_cached(const at::Tensor& q, const AttentionState& state,
                                                 int64_t window, const Pattern& pattern,
                                                 const ops::AttentionArguments& arguments) {
  const int64_t length = state.tokens + 1;
  const at::Tensor rows = q.transpose(0, 1).unsqueeze(0);
  const auto [o, lse] =
      trailing_window(pattern) && arguments.plain()
          ? ops::attention_decode(rows, state.keys, state.values, at::full({1}, length, at::kInt),
                                  window > 0, window)
          : ops::attention(rows, in_order(state.keys, length, window),
                           in_order(state.values, length, window), pattern.to_string(), arguments);
  return {o[0].transpose(0, 1), lse[0]};
}

at::Tensor attend_linear(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                         const at::Tensor& cu_seqlens_q, const at::Tensor& cu_seqlens_k,
                         ops::LinearAttentionArguments arguments, AttentionState* state) {
  if (!state) {
    return std::get<0>(
        ops::linear_attention_varlen(q, k, v, cu_seqlens_q, cu_seqlens_k, arguments));
  }
  at::Tensor o;
  if (state->memory.defined() && q.size(0) == 1) {  // a packed row is a batch of one
    std::tie(o, state->memory) = ops::linear_attention_step(q, k, v, state->memory, arguments);
  } else {
    arguments.initial_state = state->memory;
    std::tie(o, state->memory) =
        ops::linear_attention_varlen(q, k, v, cu_seqlens_q, cu_seqlens_k, arguments);
  }
  return o;
}

}  // namespace fovea::nn
