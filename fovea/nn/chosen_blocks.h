#pragma once

#include <vector>

#include <ATen/core/Tensor.h>

#include "fovea/nn/blocks.h"
#include "fovea/nn/merge_rows.h"
#include "fovea/ops/attention.h"

namespace fovea::nn {

/// What decides which blocks a token sees beside its own.
struct ChoiceOptions {
  int64_t slots = 1;    ///< blocks to choose, at most
  bool causal = false;  ///< among those before the own block, else among all others
  /// Of the softmax over q·summary, [Hq, T]: blocks are ranked by their weights, summed over the
  /// heads that share a key head, and the document's first block and the own block's neighbours
  /// come before all others. None: by q·summary, for each query head alone.
  at::Tensor lse;
};

/// The blocks with the highest scores, int64 [T, G, slots] with G = Hq, or Hkv given lse; -1 where
/// there are fewer. q [T, Hq, D], summaries [NB, Hkv, D]. In ascending order of rank, equal scores
/// by block; scores in float32 (float64 for float64) whatever the type; never differentiable.
/// Cost: T NB D products a head (half of it, causal), in memory that does not grow with T · NB.
at::Tensor choose_blocks(const at::Tensor& q, const at::Tensor& summaries, const Packing& packing,
                         const Blocks& blocks, const ChoiceOptions& options);

/// Attention of each query over the blocks chosen for it, one softmax a slot: q [T, Hq, D], k, v
/// [T, Hkv, D], to merge_rows() with what the queries see besides. The queries that chose a block
/// are gathered into one document that attends to that block (Lu et al. 2025, MoBA, Alg. 1).
PartialResult attend_to_chosen(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                               const at::Tensor& chosen, const Blocks& blocks,
                               const ops::AttentionArguments& arguments);

}  // namespace fovea::nn
