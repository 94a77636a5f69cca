#include "fovea/nn/block_attention.h"

#include <algorithm>
#include <string>
#include <utility>

#include <ATen/ops/empty.h>

#include "fovea/nn/blocks.h"
#include "fovea/nn/chosen_blocks.h"
#include "fovea/nn/merge_rows.h"

namespace fovea::nn {
namespace {

using at::Tensor;

/// For choices, which have no gradient: a rounded mean could choose another block.
Tensor unrounded(const Tensor& x) {
  return x.detach().to(x.scalar_type() == at::kDouble ? at::kDouble : at::kFloat);
}

/// The own block, up to the own position where causal.
PartialResult own_block(const Tensor& q, const Tensor& k, const Tensor& v, const Packing& packing,
                        int64_t block, bool causal, const ops::AttentionArguments& arguments) {
  const std::string chunk = "chunked(" + std::to_string(block) + ")";
  const auto [o, lse] = ops::attention_varlen(q, k, v, packing.cu_seqlens, packing.cu_seqlens,
                                              causal ? chunk + "&causal" : chunk, arguments);
  return {o, lse, {}};
}

using Result = std::tuple<Tensor, Tensor>;

/// Blocks that end at or before each token, int32 [T, 2], counted in its document.
Tensor blocks_before(const Packing& packing, int64_t block) {
  const Tensor result = at::empty({packing.tokens, 2}, at::TensorOptions().dtype(at::kInt));
  int32_t* range = result.mutable_data_ptr<int32_t>();
  const int64_t* position = packing.positions.const_data_ptr<int64_t>();
  for (int64_t t = 0; t < packing.tokens; ++t) {
    range[2 * t] = 0;
    range[2 * t + 1] = static_cast<int32_t>((position[t] + 1) / block);
  }
  return result;
}

/// Every token's query over the mean keys and values of blocks.
Result over_means(const Tensor& q, const Tensor& k, const Tensor& v, const Packing& packing,
                  const Blocks& cut, bool causal, ops::AttentionArguments arguments) {
  if (causal) arguments.intervals = blocks_before(packing, cut.size);
  return ops::attention_varlen(q, sum_rows(k, cut.mean), sum_rows(v, cut.mean), packing.cu_seqlens,
                               cut.cu_blocks, causal ? "intervals" : "full", arguments);
}

}  // namespace

Tensor moba(const Tensor& q, const Tensor& k, const Tensor& v, const Packing& packing,
            int64_t block, int64_t blocks, bool causal, ops::AttentionArguments arguments) {
  const PartialResult own = own_block(q, k, v, packing, block, causal, arguments);
  if (blocks == 1 || packing.max_length <= block) return own.o;
  const Blocks cut(packing, block);
  const Tensor chosen = choose_blocks(q, sum_rows(unrounded(k), cut.mean), packing, cut,
                                      {.slots = blocks - 1, .causal = causal, .lse = {}});
  ++arguments.dropout_seed;
  return std::get<0>(merge_rows({own, attend_to_chosen(q, k, v, chosen, cut, arguments)}));
}

Tensor nsa(const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& gates,
           const Packing& packing, int64_t block, int64_t blocks, int64_t window, bool causal,
           ops::AttentionArguments arguments) {
  const Blocks cut(packing, block);
  const auto [compressed, lse] = over_means(q, k, v, packing, cut, causal, arguments);
  ++arguments.dropout_seed;
  const PartialResult own = own_block(q, k, v, packing, block, causal, arguments);
  Tensor selected = own.o;
  if (blocks > 1 && packing.max_length > block) {
    const Tensor chosen =
        choose_blocks(q, sum_rows(unrounded(k), cut.mean), packing, cut,
                      {.slots = blocks - 1, .causal = causal, .lse = lse.detach()});
    ++arguments.dropout_seed;
    selected = std::get<0>(merge_rows({own, attend_to_chosen(q, k, v, chosen, cut, arguments)}));
  }
  ++arguments.dropout_seed;
  const std::string reach = std::to_string(causal ? window - 1 : window / 2);
  const Tensor near =
      std::get<0>(ops::attention_varlen(q, k, v, packing.cu_seqlens, packing.cu_seqlens,
                                        "window(" + reach + (causal ? ",0)" : ")"), arguments));
  return gates.narrow(2, 0, 1) * compressed + gates.narrow(2, 1, 1) * selected +
         gates.narrow(2, 2, 1) * near;
}

Tensor segment_encoder(const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& gate,
                       const Packing& packing, int64_t size, bool causal,
                       ops::AttentionArguments arguments) {
  const Blocks cut(packing, size);
  const Tensor own = own_block(q, k, v, packing, size, causal, arguments).o;
  ++arguments.dropout_seed;
  if (causal) {
    return own + gate * std::get<0>(over_means(q, k, v, packing, cut, causal, arguments));
  }
  const Tensor summaries = std::get<0>(
      ops::attention_varlen(sum_rows(q, cut.mean), sum_rows(k, cut.mean), sum_rows(v, cut.mean),
                            cut.cu_blocks, cut.cu_blocks, "full", arguments));
  return own + gate * take_rows(summaries, make_row_map(cut.block_of, cut.count));
}

}  // namespace fovea::nn
