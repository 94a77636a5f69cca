#include "fovea/nn/block_attention.h"

#include <string>

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

}  // namespace fovea::nn
