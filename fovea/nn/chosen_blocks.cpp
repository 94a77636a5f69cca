#include "fovea/nn/chosen_blocks.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include <ATen/Dispatch.h>
#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/bmm.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/exp.h>
#include <ATen/ops/full.h>
#include <c10/core/impl/LocalDispatchKeySet.h>

namespace fovea::nn {
namespace {

using at::Tensor;

constexpr int64_t kScores = 1 << 18;  ///< of a step, over all heads: they stay in the cache
constexpr int64_t kTile = 64;         ///< rows of a tile of attention

Tensor wide(const Tensor& x) { return x.scalar_type() == at::kDouble ? x : x.to(at::kFloat); }

/// The blocks with the highest scores so far, descending; of equal scores the one offered first.
template <typename T>
class Ranking {
 public:
  explicit Ranking(int64_t slots) : scores_(static_cast<size_t>(slots)) {}
  void begin(int64_t* out) {
    out_ = out;
    std::fill(scores_.begin(), scores_.end(), -std::numeric_limits<T>::infinity());
    std::fill_n(out_, scores_.size(), int64_t{-1});
  }
  void offer(T score, int64_t block) {
    if (!(score > scores_.back())) return;
    size_t at = scores_.size() - 1;
    for (; at > 0 && score > scores_[at - 1]; --at) {
      scores_[at] = scores_[at - 1];
      out_[at] = out_[at - 1];
    }
    scores_[at] = score;
    out_[at] = block;
  }
  /// Blocks block0 + [first, last) with scores row[first, last). Most are below all that is kept,
  /// which one look at eight of them shows.
  void offer(const T* row, int64_t first, int64_t last, int64_t block0) {
    constexpr int64_t kLook = 8;
    int64_t b = first;
    for (; b + kLook <= last; b += kLook) {
      const T lowest = scores_.back();
      int any = 0;
      for (int64_t i = 0; i < kLook; ++i) any |= row[b + i] > lowest ? 1 : 0;
      for (int64_t i = 0; any && i < kLook; ++i) offer(row[b + i], block0 + b + i);
    }
    for (; b < last; ++b) offer(row[b], block0 + b);
  }

 private:
  std::vector<T> scores_;
  int64_t* out_ = nullptr;
};

/// Ranks of tokens [first, first + count) of a document whose blocks begin with `block0`; scores
/// [G, count, blocks]. `fixed`: neighbours, then the first block come before all others.
template <typename T>
void rank(const Tensor& scores, int64_t first, const Blocks& blocks, int64_t block0, bool causal,
          bool fixed, const Tensor& chosen) {
  const int64_t groups = scores.size(0), count = scores.size(1), width = scores.size(2);
  const int64_t slots = chosen.size(2);
  const T* all = scores.const_data_ptr<T>();
  const int64_t* own_of = blocks.block_of.const_data_ptr<int64_t>();
  int64_t* to = chosen.mutable_data_ptr<int64_t>();
  constexpr T kAbove = std::numeric_limits<T>::max();
  at::parallel_for(0, count, 16, [&](int64_t begin, int64_t end) {
    Ranking<T> ranking(slots);
    for (int64_t i = begin; i < end; ++i) {
      const int64_t own = own_of[first + i] - block0, last = causal ? own : width;
      for (int64_t g = 0; g < groups; ++g) {
        const T* row = all + (g * count + i) * width;
        ranking.begin(to + ((first + i) * groups + g) * slots);
        if (fixed) {
          if (own > 0) ranking.offer(kAbove, block0 + own - 1);
          if (own + 1 < last) ranking.offer(kAbove, block0 + own + 1);
          if (own > 1) ranking.offer(kAbove / 2, block0);
        }
        ranking.offer(row, fixed ? 1 : 0, fixed ? own - 1 : own, block0);
        ranking.offer(row, fixed ? own + 2 : own + 1, last, block0);
      }
    }
  });
}

/// Documents of the gathered problem, three a (key head, block): its queries and its keys; queries
/// that fill its last tile, which see nothing; keys that fill its last tile, which nobody sees.
/// Every block begins a tile, so tiles hold no two blocks, and where a query stands depends on no
/// later token.
struct Gathered {
  std::vector<int32_t> cu_q = {0}, cu_k = {0};
  void add(int64_t queries, int64_t keys) {
    cu_q.push_back(cu_q.back() + static_cast<int32_t>(queries));
    cu_k.push_back(cu_k.back() + static_cast<int32_t>(keys));
  }
};

int64_t up_to_tile(int64_t rows) { return (rows + kTile - 1) / kTile * kTile; }

Tensor tensor_of(const std::vector<int32_t>& values) {
  const Tensor result = at::empty({std::ssize(values)}, at::TensorOptions().dtype(at::kInt));
  std::copy(values.begin(), values.end(), result.mutable_data_ptr<int32_t>());
  return result;
}

}  // namespace

Tensor choose_blocks(const Tensor& q, const Tensor& summaries, const Packing& packing,
                     const Blocks& blocks, const ChoiceOptions& options) {
  const at::NoGradGuard no_grad;
  const c10::impl::ExcludeDispatchKeyGuard no_autocast(c10::DispatchKey::AutocastCPU);
  const int64_t heads = q.size(1), kv_heads = summaries.size(1), group = heads / kv_heads;
  const int64_t groups = options.lse.defined() ? kv_heads : heads;
  const Tensor chosen =
      at::empty({packing.tokens, groups, options.slots}, at::TensorOptions().dtype(at::kLong));
  const int32_t* rows = packing.cu_seqlens.const_data_ptr<int32_t>();
  const int64_t* own_of = blocks.block_of.const_data_ptr<int64_t>();
  const int32_t* first_block = blocks.cu_blocks.const_data_ptr<int32_t>();
  const double scale = 1 / std::sqrt(static_cast<double>(q.size(2)));
  for (int64_t n = 0; n < packing.documents; ++n) {
    const int64_t width = first_block[n + 1] - first_block[n];
    const Tensor keys =
        wide(summaries.narrow(0, first_block[n], width)).permute({1, 2, 0}).contiguous();
    const int64_t step = std::max<int64_t>(kTile, kScores / std::max<int64_t>(1, heads * width));
    for (int64_t first = rows[n]; first < rows[n + 1]; first += step) {
      const int64_t count = std::min<int64_t>(step, rows[n + 1] - first);
      const int64_t own = own_of[first + count - 1] - first_block[n];
      const int64_t seen = options.causal ? std::max<int64_t>(1, own) : width;
      const Tensor queries = wide(q.narrow(0, first, count)).transpose(0, 1);  // [Hq, count, D]
      Tensor scores =
          at::bmm(queries.reshape({kv_heads, group * count, q.size(2)}), keys.narrow(2, 0, seen));
      if (options.lse.defined() &&
          group > 1) {  // a single head's weights are ordered as its scores
        const Tensor lse = options.lse.narrow(1, first, count).reshape({kv_heads, -1, 1});
        scores = scores.mul_(scale).sub_(lse).exp_().view({kv_heads, group, count, seen}).sum(1);
      }
      scores = scores.view({groups, count, seen});
      AT_DISPATCH_FLOATING_TYPES(scores.scalar_type(), "choose_blocks", [&] {
        rank<scalar_t>(scores, first, blocks, first_block[n], options.causal, options.lse.defined(),
                       chosen);
      });
    }
  }
  return chosen;
}

PartialResult attend_to_chosen(const Tensor& q, const Tensor& k, const Tensor& v,
                               const Tensor& chosen, const Blocks& blocks,
                               const ops::AttentionArguments& arguments) {
  const int64_t tokens = q.size(0), heads = q.size(1), kv_heads = k.size(1);
  const int64_t slots = chosen.size(2), group = heads / kv_heads;
  const int64_t sharing = heads / chosen.size(1);  // query heads with one choice
  const int64_t* choice = chosen.const_data_ptr<int64_t>();
  const int64_t* begin = blocks.cu_rows.const_data_ptr<int64_t>();
  const auto segment_of = [&](int64_t h, int64_t block) {
    return h / group * blocks.count + block;
  };
  // Queries of each (key head, block), tokens ascending.
  std::vector<int64_t> at(static_cast<size_t>(kv_heads * blocks.count), 0);
  const auto for_entries = [&](auto f) {
    for (int64_t r = 0; r < tokens * heads; ++r) {
      const int64_t* own = choice + (r / heads * chosen.size(1) + r % heads / sharing) * slots;
      for (int64_t s = 0; s < slots; ++s) {
        if (own[s] >= 0) f(r * slots + s, segment_of(r % heads, own[s]));
      }
    }
  };
  for_entries([&](int64_t, int64_t segment) { ++at[static_cast<size_t>(segment)]; });
  Gathered gathered;
  std::vector<int64_t> key_rows;
  int64_t queries = 0;
  for (int64_t h = 0; h < kv_heads; ++h) {
    for (int64_t b = 0; b < blocks.count; ++b) {
      int64_t& wanted = at[static_cast<size_t>(h * blocks.count + b)];
      const int64_t keys = begin[b + 1] - begin[b], count = wanted;
      const int64_t fill = up_to_tile(blocks.size) - keys;
      gathered.add(count, keys);
      gathered.add(up_to_tile(count) - count, 0);
      gathered.add(0, fill);
      for (int64_t row = begin[b]; row < begin[b + 1]; ++row)
        key_rows.push_back(row * kv_heads + h);
      key_rows.insert(key_rows.end(), static_cast<size_t>(fill), -1);
      wanted = queries;  // from here on: where its next query goes
      queries += up_to_tile(count);
    }
  }
  const auto whole = at::TensorOptions().dtype(at::kLong);
  const Tensor query_rows = at::full({queries}, -1, whole);
  const Tensor slot_rows = at::full({tokens * heads * slots}, -1, whole);
  for_entries([&](int64_t entry, int64_t segment) {
    const int64_t row = at[static_cast<size_t>(segment)]++;
    query_rows.mutable_data_ptr<int64_t>()[row] = entry / slots;
    slot_rows.mutable_data_ptr<int64_t>()[entry] = row;
  });
  const Tensor key_index = at::empty({std::ssize(key_rows)}, whole);
  std::copy(key_rows.begin(), key_rows.end(), key_index.mutable_data_ptr<int64_t>());
  const RowMap of_keys = make_row_map(key_index, tokens * kv_heads);
  const auto rows = [](const Tensor& x, const RowMap& map) {
    return take_rows(x.flatten(0, 1), map).unsqueeze(1);
  };
  const auto [o, lse] = ops::attention_varlen(
      rows(q, make_row_map(query_rows, tokens * heads)), rows(k, of_keys), rows(v, of_keys),
      tensor_of(gathered.cu_q), tensor_of(gathered.cu_k), "full", arguments);
  return {o, lse, make_row_map(slot_rows, queries), slots};
}

}  // namespace fovea::nn
