#include "fovea/nn/hmatrix.h"

#include <cmath>
#include <string>
#include <vector>

#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>

#include "fovea/nn/merge_rows.h"
#include "fovea/nn/row_map.h"

namespace fovea::nn {
namespace {

using at::Tensor;

/// Pools of one level, packed as their documents are.
struct Level {
  Tensor cu_seqlens;         ///< int32 [N + 1]
  std::vector<double> size;  ///< tokens of each pool
  RowMap mean;               ///< sum_rows: from the rows of the level below
  bool uneven = false;       ///< some pool has fewer than 2^l tokens

  int64_t rows() const { return std::ssize(size); }
};

Level finest(const Packing& packing) {
  Level level;
  level.cu_seqlens = packing.cu_seqlens;
  level.size.assign(static_cast<size_t>(packing.tokens), 1);
  return level;
}

/// Two pools of `below` each, the last of a document alone where their number is odd.
Level above(const Level& below, int64_t l) {
  const int32_t* from = below.cu_seqlens.const_data_ptr<int32_t>();
  Level level;
  level.cu_seqlens = at::empty_like(below.cu_seqlens);
  int32_t* to = level.cu_seqlens.mutable_data_ptr<int32_t>();
  to[0] = 0;
  const Tensor parent = at::empty({below.rows()}, at::TensorOptions().dtype(at::kLong));
  for (int64_t n = 0; n + 1 < level.cu_seqlens.size(0); ++n) {
    to[n + 1] = to[n] + (from[n + 1] - from[n] + 1) / 2;
    level.size.resize(static_cast<size_t>(to[n + 1]), 0);
    for (int64_t i = from[n]; i < from[n + 1]; ++i) {
      const int64_t p = to[n] + (i - from[n]) / 2;
      parent.mutable_data_ptr<int64_t>()[i] = p;
      level.size[static_cast<size_t>(p)] += below.size[static_cast<size_t>(i)];
    }
  }
  const auto full = static_cast<double>(int64_t{1} << l);
  for (const double size : level.size) level.uneven = level.uneven || size != full;
  const Tensor weight = at::empty({below.rows()}, at::TensorOptions().dtype(at::kDouble));
  for (int64_t i = 0; i < below.rows(); ++i) {
    const int64_t p = parent.const_data_ptr<int64_t>()[i];
    weight.mutable_data_ptr<double>()[i] =
        below.size[static_cast<size_t>(i)] / level.size[static_cast<size_t>(p)];
  }
  level.mean = make_row_map(parent, level.rows(), weight);
  return level;
}

/// log(size / 2^l) of each pool.
Tensor log_shares(const Level& level, int64_t l) {
  const Tensor result = at::empty({level.rows()}, at::TensorOptions().dtype(at::kDouble));
  for (int64_t i = 0; i < level.rows(); ++i) {
    result.mutable_data_ptr<double>()[i] =
        std::log(std::ldexp(level.size[static_cast<size_t>(i)], -static_cast<int>(l)));
  }
  return result;
}

/// Pools of level l that a token sees, int32 [T, 2]: with h its half of a block, those of halves
/// before h - 1, which the level below has, from the block before its own on.
Tensor pools_before(const Packing& packing, int64_t l, int64_t block) {
  const Tensor result = at::empty({packing.tokens, 2}, at::TensorOptions().dtype(at::kInt));
  const int64_t* position = packing.positions.const_data_ptr<int64_t>();
  const int64_t half = block / 2;
  for (int64_t t = 0; t < packing.tokens; ++t) {
    const int64_t h = (position[t] >> l) / half;
    int32_t* range = result.mutable_data_ptr<int32_t>() + 2 * t;
    range[0] = static_cast<int32_t>(std::max<int64_t>(0, h / 2 * 2 - 2) * half);
    range[1] = static_cast<int32_t>(std::max<int64_t>(0, h - 1) * half);
  }
  return result;
}

}  // namespace

Tensor hmatrix(const Tensor& q, const Tensor& k, const Tensor& v, const Packing& packing,
               int64_t block, bool causal, ops::AttentionArguments arguments) {
  // Means are made from means, and results of levels merged, in float32.
  const at::ScalarType type = q.scalar_type(), wide = type == at::kDouble ? type : at::kFloat;
  const std::string size = std::to_string(block);
  const auto [o, lse] = ops::attention_varlen(
      q, k, v, packing.cu_seqlens, packing.cu_seqlens,
      causal ? "block_neighbours(" + size + ",1,0)&causal" : "block_neighbours(" + size + ")",
      arguments);
  std::vector<PartialResult> levels = {{o.to(wide), lse, {}, 1}};
  std::vector<RowMap> pools;  // of the rows of each level but the last, those of the next
  Tensor queries = q.to(wide), keys = k.to(wide), values = v.to(wide);
  Level level = finest(packing);
  for (int64_t l = 1; packing.max_length > (2 * block) << (l - 1); ++l) {
    level = above(level, l);
    keys = sum_rows(keys, level.mean);
    values = sum_rows(values, level.mean);
    if (!causal) queries = sum_rows(queries, level.mean);
    ++arguments.dropout_seed;
    arguments.intervals = causal ? pools_before(packing, l, block) : Tensor();
    arguments.bias = level.uneven && !causal ? log_shares(level, l) : Tensor();
    const auto [o_l, lse_l] =
        ops::attention_varlen(causal ? q : queries.to(type), keys.to(type), values.to(type),
                              causal ? packing.cu_seqlens : level.cu_seqlens, level.cu_seqlens,
                              causal ? "intervals" : "block_ring(" + size + ")", arguments);
    levels.push_back({o_l.to(wide), lse_l + static_cast<double>(l) * std::log(2.0), {}, 1});
    pools.push_back({level.mean.index, level.mean.begin, level.mean.order, {}});
  }
  if (levels.size() == 1) return o;
  if (causal) return std::get<0>(merge_rows(levels)).to(type);
  // From the coarsest level down: what a pool got is merged with what its halves did.
  PartialResult coarse = levels.back();
  for (size_t l = pools.size(); l-- > 0;) {
    coarse.rows = pools[l];
    const auto [merged, total] = merge_rows({levels[l], coarse});
    coarse = {merged, total, {}, 1};
  }
  return coarse.o.to(type);
}

}  // namespace fovea::nn
