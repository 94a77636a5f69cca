#pragma once

#include <cstdint>

#include <torch/nn/module.h>
#include <torch/nn/pimpl.h>

#include "fovea/nn/packing.h"
#include "fovea/pattern/layer_attention.h"

namespace fovea::nn {

/// Learned tokens before each document, which all its tokens see and which see all of them, beside
/// whatever pattern there is: a memory of fixed size that every layer reads and writes (the global
/// tokens of Ainslie et al. 2020, ETC, and Beltagy et al. 2020, Longformer, that stand for no word;
/// Burtsev et al. 2020, Memory Transformer). Parameter: weight [count, E], normal of deviation 1,
/// as large as what embeddings give.
class SummaryTokensImpl : public torch::nn::Module {
 public:
  SummaryTokensImpl(int64_t count, int64_t model_dim);

  /// Where documents begin when each has its summary tokens.
  Packing around(const Packing& packing) const;
  /// x [T, E] with them before each of the N documents, [T + N count, E].
  at::Tensor insert(const at::Tensor& x, const Packing& packing);
  /// The documents' own rows of such a tensor, [T, E].
  at::Tensor strip(const at::Tensor& x, const Packing& packing) const;

 private:
  int64_t count_;
  at::Tensor weight_;
};
TORCH_MODULE(SummaryTokens);

/// The attention of a layer whose documents begin with `count` such tokens: a pattern joined with
/// global(count). Mechanisms and memories see them as tokens.
LayerAttention with_summary(LayerAttention attention, int64_t count);

}  // namespace fovea::nn
