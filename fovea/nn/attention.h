#pragma once

#include <torch/nn/modules/linear.h>
#include <torch/nn/pimpl.h>

#include "fovea/nn/attention_state.h"
#include "fovea/nn/linear_mixer.h"
#include "fovea/nn/packing.h"
#include "fovea/nn/position_bias.h"
#include "fovea/nn/window_memory.h"
#include "fovea/ops/attention.h"
#include "fovea/pattern/layer_attention.h"

namespace fovea::nn {

struct AttentionOptions {
  TORCH_ARG(int64_t, model_dim) = 0;
  TORCH_ARG(int64_t, heads) = 1;
  TORCH_ARG(int64_t, kv_heads) = 0;    ///< divides heads; 0 means heads
  TORCH_ARG(bool, bias) = true;        ///< of the projections
  TORCH_ARG(bool, cross) = false;      ///< keys and values come from another sequence
  TORCH_ARG(int64_t, memory_dim) = 0;  ///< features of that sequence; 0 means model_dim
  TORCH_ARG(Pattern, pattern);         ///< full unless set; `segments` is added by itself
  /// Others than softmax: pattern full or causal, or causal only; see LinearMixer.
  TORCH_ARG(Mechanism, mechanism) = Mechanism::kSoftmax;
  TORCH_ARG(std::vector<int64_t>, numbers);  ///< of the mechanism; none: its presets
  TORCH_ARG(LayerMemory, memory);   ///< of what the pattern, a window, leaves out; softmax only
  TORCH_ARG(bool, rotary) = false;  ///< rotate queries and keys by position (self only)
  TORCH_ARG(double, rope_theta) = 10000;
  TORCH_ARG(double, dropout) = 0;  ///< of softmax's weights, in training

  // What is done to a score (docs/scores.md); with softmax only.
  TORCH_ARG(Scores, scores) = Scores::kDot;  ///< others without rotary and cosine
  TORCH_ARG(PositionBias, position_bias) = PositionBias::kNone;  ///< self only
  TORCH_ARG(int64_t, bias_buckets) = 32;                         ///< of kT5: a multiple of 4
  TORCH_ARG(int64_t, bias_max_distance) = 128;  ///< of kT5: what is farther shares a bucket
  TORCH_ARG(double, softcap) = 0;               ///< s = c tanh(s / c); 0: off
  TORCH_ARG(bool, cosine) = false;  ///< of unit vectors, with a learned temperature for each head
  TORCH_ARG(bool, sinks) = false;   ///< a learned score for each head that gives nothing
};

/// Multi-head attention over packed documents (Vaswani et al. 2017, §3.2.2), with fewer key heads
/// where asked (GQA, Ainslie et al. 2023) and exact attention over any pattern (ops/attention.h),
/// or linear attention with features elu + 1 (ops/linear_attention.h; positions are rotated before
/// the map, as Zhang et al. 2024, LoLCATs, do), or softmax over blocks (nn/block_attention.h;
/// self-attention only). With any other mechanism the layer is a LinearMixer of the same options,
/// whose parameters lie under mixer.*; self-attention only, kv_heads = heads.
///
/// With a memory, of the rotated queries and keys, the layer is a WindowMemory between the same
/// projections, parameters under memory.*; self-attention only.
///
/// Self: x [T, E] to [T, E]; parameters qkv.weight [(Hq + 2 Hkv) D, E] (rows: queries, keys,
/// values) and output.weight. Cross: queries from x, keys and values from memory [M, E']; query,
/// key_value, output. Query document n attends to memory document n. D = E / heads, a multiple of 8
/// up to 256. Rotary pairs element i with i + D/2 (Su et al. 2021, in the order that Hugging Face
/// checkpoints use). Xavier-uniform weights, zero biases.
///
/// Mechanisms with gates (gates_of): sigmoid of gate.weight [gates H, E], rows by head.
///
/// Learned parts of scores: position_bias [buckets, Hq] of kT5, from zeros; log_scale [Hq] of
/// `cosine`, the scale is exp of it, at most 100, and begins as 10 (Liu et al. 2022, Swin v2);
/// sinks [Hq], from zeros; of Scores::kAdditive score_weight [Hq, D]; of kLeaky query_vector [Hq,
/// D] and key_vector [Hkv, D]; these three from normal numbers of deviation 1/sqrt(D).
class AttentionImpl : public torch::nn::Module {
 public:
  /// Throws InputError where the options do not fit together.
  explicit AttentionImpl(const AttentionOptions& options);

  /// With a state: the next rows of its document, under Packing::continued. Needs incremental().
  at::Tensor forward(const at::Tensor& x, const Packing& packing, AttentionState* state = nullptr);
  /// Whether a document can grow token by token with the results of forward() over all of it, to
  /// rounding: a causal layer, but those that see other tokens once later ones are added.
  bool incremental() const;
  /// For options with `cross`.
  at::Tensor forward_cross(const at::Tensor& x, const Packing& packing, const at::Tensor& memory,
                           const Packing& memory_packing);
  /// Dense convenience: [B, S, E] to [B, S, E].
  at::Tensor forward_dense(const at::Tensor& x);

  AttentionOptions options;

 private:
  void register_score_parameters();
  ops::AttentionArguments arguments() const;
  at::Tensor scored(const at::Tensor& x, const at::Tensor& vector, bool queries) const;
  at::Tensor project(const at::Tensor& o, int64_t tokens);
  at::Tensor self(const at::Tensor& x, const Packing& packing, AttentionState* state);
  at::Tensor softmax(const at::Tensor& qkv, const Packing& packing, AttentionState* state);
  at::Tensor over_blocks(const at::Tensor& x, const at::Tensor& qkv, const Packing& packing,
                         AttentionState* state);
  at::Tensor block_step(const at::Tensor& q, const at::Tensor& gates, const AttentionState& state);

  int64_t head_dim_;
  std::string pattern_text_;
  LinearMixer mixer_{nullptr};
  WindowMemory memory_{nullptr};
  at::Tensor slopes_, buckets_;                   // constants
  at::Tensor position_bias_, log_scale_, sinks_;  // parameters, as the next
  at::Tensor score_weight_, query_vector_, key_vector_;
  torch::nn::Linear qkv_{nullptr}, query_{nullptr}, key_value_{nullptr}, output_{nullptr};
  torch::nn::Linear gate_{nullptr};
};
TORCH_MODULE(Attention);

}  // namespace fovea::nn
