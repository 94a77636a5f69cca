#include "fovea/nn/block_steps.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <tuple>
#include <vector>

#include <ATen/OpMathType.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/full.h>
#include <ATen/ops/zeros_like.h>
#include <c10/core/impl/LocalDispatchKeySet.h>

#include "fovea/nn/blocks.h"
#include "fovea/nn/chosen_blocks.h"
#include "fovea/ops/attention.h"

namespace fovea::nn {
namespace {

using at::Tensor;
using Result = std::tuple<Tensor, Tensor>;  // o [1, H, D], lse [H, 1]

/// Adds to `pools` the means of those blocks of `size` rows that have ended in `from`, of `rows`.
void pool(const AttentionState& from, int64_t rows, int64_t size, AttentionState* pools) {
  const int64_t ended = rows / size, fresh = ended - pools->tokens;
  if (fresh == 0) return;
  const auto means = [&](const Tensor& x) {  // [n, Hkv, D]
    const Tensor last = x[0].narrow(1, pools->tokens * size, fresh * size);
    return last.unflatten(1, {fresh, size})
        .to(at::toOpMathType(x.scalar_type()))
        .mean(2)
        .transpose(0, 1);
  };
  pools->append(means(from.keys), means(from.values), 0);
  pools->tokens = ended;
}

/// q over keys and values [1, Hkv, n, D].
Result attend(const Tensor& q, const Tensor& keys, const Tensor& values) {
  if (keys.size(2) == 0) {
    const double none = -std::numeric_limits<double>::infinity();
    return {at::zeros_like(q),
            at::full({q.size(1), 1}, none, q.options().dtype(at::toOpMathType(q.scalar_type())))};
  }
  const auto [o, lse] =
      ops::attention_decode(q.transpose(0, 1).unsqueeze(0), keys.to(q.scalar_type()),
                            values.to(q.scalar_type()), at::full({1}, keys.size(2), at::kInt));
  return {o[0].transpose(0, 1), lse[0]};
}

/// q over rows [begin, end) of a cache.
Result attend_rows(const Tensor& q, const AttentionState& cache, int64_t begin, int64_t end) {
  return attend(q, cache.keys.narrow(2, begin, end - begin),
                cache.values.narrow(2, begin, end - begin));
}

/// q over the means of all blocks that have ended, the own one too.
Result attend_means(const Tensor& q, const AttentionState& state) {
  const AttentionState& means = state.pools[0];
  if (means.tokens == 0) return attend_rows(q, state, 0, 0);
  return attend_rows(q, means, 0, means.tokens);
}

/// q over its own block, up to itself, and those before that it chooses; `lse`: ChoiceOptions.
Tensor attend_chosen(const Tensor& q, const AttentionState& state, int64_t block, int64_t slots,
                     const Tensor& lse) {
  const int64_t own = state.tokens / block, count = std::min(slots, own);
  const auto [o, own_lse] = attend_rows(q, state, own * block, state.tokens + 1);
  if (count == 0) return o;
  const Tensor means = state.pools[0].keys[0].narrow(1, 0, own).transpose(0, 1);
  const Tensor chosen = choose_blocks(q, means, Packing::dense(1, 1), Blocks::before(own, block),
                                      {.slots = count, .causal = true, .lse = lse})[0];
  // What a choice takes in is a key head of its own.
  const int64_t groups = chosen.size(0), sharing = groups / state.keys.size(1);
  const Tensor head = at::arange(groups).div(sharing, "floor").view({groups, 1, 1});
  const Tensor rows = chosen.unsqueeze(2) * block + at::arange(block) + head * state.keys.size(2);
  const auto taken = [&](const Tensor& x) {
    return x[0].flatten(0, 1).index_select(0, rows.flatten()).view({1, groups, -1, x.size(3)});
  };
  const auto [far, far_lse] = attend(q, taken(state.keys), taken(state.values));
  return std::get<0>(ops::attention_merge({o, far}, {own_lse, far_lse}));
}

}  // namespace

void append_blocks(const Tensor& k, const Tensor& v, int64_t block, AttentionState* state) {
  state->append(k, v, 0);
  state->pools.resize(1);
  pool(*state, state->tokens + k.size(0), block, &state->pools[0]);
}

void append_pools(const Tensor& k, const Tensor& v, AttentionState* state) {
  state->append(k, v, 0);
  int64_t rows = state->tokens + k.size(0);
  for (size_t l = 0; rows > 1; ++l, rows /= 2) {
    if (l == state->pools.size()) state->pools.emplace_back();
    pool(l == 0 ? *state : state->pools[l - 1], rows, 2, &state->pools[l]);
  }
}

Tensor moba_step(const Tensor& q, const AttentionState& state, int64_t block, int64_t blocks) {
  return attend_chosen(q, state, block, blocks - 1, {});
}

Tensor nsa_step(const Tensor& q, const Tensor& gates, const AttentionState& state, int64_t block,
                int64_t blocks, int64_t window) {
  const auto [compressed, lse] = attend_means(q, state);
  const Tensor selected = attend_chosen(q, state, block, blocks - 1, lse);
  const int64_t length = state.tokens + 1;
  const Tensor near =
      std::get<0>(attend_rows(q, state, std::max<int64_t>(0, length - window), length));
  return gates.narrow(2, 0, 1) * compressed + gates.narrow(2, 1, 1) * selected +
         gates.narrow(2, 2, 1) * near;
}

Tensor segment_encoder_step(const Tensor& q, const Tensor& gate, const AttentionState& state,
                            int64_t size) {
  const Tensor own =
      std::get<0>(attend_rows(q, state, state.tokens / size * size, state.tokens + 1));
  return own + gate * std::get<0>(attend_means(q, state));
}

Tensor hmatrix_step(const Tensor& q, const AttentionState& state, int64_t block) {
  const int64_t position = state.tokens, half = block / 2;
  std::vector<Tensor> o, lse;
  const auto add = [&](const Result& part, int64_t l) {
    o.push_back(std::get<0>(part).to(at::toOpMathType(q.scalar_type())));
    lse.push_back(std::get<1>(part) + static_cast<double>(l) * std::log(2.0));
  };
  const int64_t own = position / block;
  add(attend_rows(q, state, std::max<int64_t>(0, own - 1) * block, position + 1), 0);
  // As pools_before() of hmatrix.cpp has it; levels above see nothing yet.
  for (int64_t l = 1, h = 0; (h = (position >> l) / half) >= 2; ++l) {
    const AttentionState& pools = state.pools[static_cast<size_t>(l - 1)];
    add(attend_rows(q, pools, (h / 2 * 2 - 2) * half, (h - 1) * half), l);
  }
  return std::get<0>(ops::attention_merge(o, lse)).to(q.scalar_type());
}

}  // namespace fovea::nn
