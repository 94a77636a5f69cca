#pragma once

#include <string>
#include <tuple>

#include <torch/nn/module.h>
#include <torch/nn/pimpl.h>

#include "fovea/nn/attention_state.h"
#include "fovea/nn/mixer_shapes.h"
#include "fovea/nn/packing.h"
#include "fovea/ops/attention.h"
#include "fovea/pattern/layer_attention.h"

namespace fovea::nn {

struct WindowMemoryOptions {
  TORCH_ARG(LayerMemory, memory);
  TORCH_ARG(Pattern, window);  ///< a window: window_reach()
  TORCH_ARG(int64_t, heads) = 1;
  TORCH_ARG(int64_t, kv_heads) = 1;
  TORCH_ARG(int64_t, head_dim) = 0;
};

/// Softmax attention within a window and a linear memory of the tokens outside of it, from one
/// qkv [T, H + 2 Hkv, D] of packed documents to o [T, H, D]. With f the memory's feature map
/// (linear: elu + 1; performer, based, hedgehog: see LinearMixer), window W(i) and the tokens M(i)
/// outside of it, on both sides or before it:
///
///     shared   o_i = (Σ_W e^(s_ij) v_j + e^g Σ_M f(q_i)·f(k_j) v_j) / (the same sum without v)
///     gated    o_i = (1 - σ(b)) softmax_W + σ(b) Σ_M f(q_i)·f(k_j) v_j / Σ_M f(q_i)·f(k_j)
///
/// Shared: Zhang et al. 2024 (LoLCATs), eq. 6-7, there with hedgehog and causally; g, `gain` [H],
/// starts so that a key of average features weighs about 1, as e^0 does. Where M(i) is empty the
/// window alone is left. Gated: Munkhdalai et al. 2024 (Infini-attention), eq. 3, 5, 10, with
/// additive writes and a window that slides where theirs jumps; b, `gate` [H], starts at 0; an
/// empty memory gives 0. Theirs replaces values by a delta rule between segments; a normalised
/// state has none here. Hedgehog's maps, [H, D, D] for queries and [Hkv, D, D] for keys, start as
/// the identity; Based's, [., 16, D], from a normal distribution; Performer's directions are drawn
/// anew as LinearMixer's are. Cost: the window's and that of linear attention for each side.
class WindowMemoryImpl : public torch::nn::Module {
 public:
  /// Throws InputError where the options do not fit together.
  explicit WindowMemoryImpl(const WindowMemoryOptions& options);
  /// `arguments` are those of the window's scores. With a state: the next rows of its document,
  /// causal only. The state keeps the window's keys, and sums of those that have left it (memory
  /// [Hkv, F, D + 1], float32, or float64 for float64).
  at::Tensor forward(const at::Tensor& qkv, const Packing& packing,
                     const ops::AttentionArguments& arguments, AttentionState* state = nullptr);

  WindowMemoryOptions options;

 private:
  struct Features {
    at::Tensor rows;        ///< undefined: elu + 1 of the rows themselves
    at::Tensor subtracted;  ///< from the logarithms of queries', [T, H], or undefined
  };
  Features query_features(const at::Tensor& q);
  at::Tensor key_features(const at::Tensor& k);
  at::Tensor whole(const at::Tensor& qkv, const Packing& packing,
                   const ops::AttentionArguments& arguments);
  at::Tensor step(const at::Tensor& qkv, const ops::AttentionArguments& arguments,
                  AttentionState* state);
  void remember(const at::Tensor& k, const at::Tensor& v, AttentionState* state);
  std::tuple<at::Tensor, at::Tensor> remembered(const at::Tensor& q, const AttentionState& state);
  at::Tensor gated(const at::Tensor& o, const at::Tensor& remembered);
  at::Tensor& parameter(const char* name) { return parameters_[name]; }

  int64_t left_ = 0, right_ = 0;
  std::string window_text_;
};
TORCH_MODULE(WindowMemory);

}  // namespace fovea::nn
