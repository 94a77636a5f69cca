#pragma once

#include <vector>

#include <torch/nn/modules/container/modulelist.h>
#include <torch/nn/pimpl.h>

#include "fovea/nn/attention.h"
#include "fovea/nn/feed_forward.h"
#include "fovea/nn/norm.h"
#include "fovea/nn/packing.h"

namespace fovea::nn {

struct EncoderLayerOptions {
  TORCH_ARG(AttentionOptions, attention);
  TORCH_ARG(int64_t, ff_dim) = 0;
  TORCH_ARG(Activation, activation) = Activation::kGelu;
  TORCH_ARG(bool, pre_norm) = true;
  TORCH_ARG(NormType, norm_type) = NormType::kLayer;
  TORCH_ARG(double, dropout) = 0;  ///< of what attention and feed-forward add
};

/// One encoder layer over packed documents, [T, E] to [T, E]:
///
///     pre-norm:   x += attention(norm(x));  x += feed_forward(norm(x))     Xiong et al. 2020
///     post-norm:  x = norm(x + attention(x));  x = norm(x + feed_forward(x))   Vaswani et al. 2017
///
/// Parameters: attention.*, attention_norm.*, feed_forward.*, feed_forward_norm.*.
class EncoderLayerImpl : public torch::nn::Module {
 public:
  explicit EncoderLayerImpl(const EncoderLayerOptions& options);
  at::Tensor forward(const at::Tensor& x, const Packing& packing, AttentionState* state = nullptr);
  bool incremental() const { return attention_->incremental(); }

  EncoderLayerOptions options;

 private:
  Attention attention_{nullptr};
  Norm attention_norm_{nullptr}, feed_forward_norm_{nullptr};
  FeedForward feed_forward_{nullptr};
};
TORCH_MODULE(EncoderLayer);

struct EncoderOptions {
  TORCH_ARG(EncoderLayerOptions, layer);  ///< of every layer, except for what it attends to
  TORCH_ARG(std::vector<LayerAttention>, attention);  ///< one a layer: parse_layers()
};

/// A stack of encoder layers, with a last norm after pre-norm layers: [T, E] to [T, E].
/// Parameters: layers.0.…, layers.1.…, norm.*.
class EncoderImpl : public torch::nn::Module {
 public:
  explicit EncoderImpl(const EncoderOptions& options);
  /// With states, one a layer (made where empty): the next rows of one document, without gradient
  /// checkpointing. Needs incremental().
  at::Tensor forward(at::Tensor x, const Packing& packing,
                     std::vector<AttentionState>* states = nullptr);
  /// Whether all layers are: Attention::incremental().
  bool incremental() const;
  /// Dense convenience: [B, S, E] to [B, S, E].
  at::Tensor forward_dense(const at::Tensor& x);

  /// See checkpoint() in nn/checkpoint.h; only in training, where gradients are recorded.
  void set_gradient_checkpointing(bool on) { gradient_checkpointing_ = on; }

 private:
  bool gradient_checkpointing_ = false;
  torch::nn::ModuleList layers_{nullptr};
  Norm norm_{nullptr};
};
TORCH_MODULE(Encoder);

}  // namespace fovea::nn
