#include "fovea/nn/encoder.h"

#include <algorithm>

#include <c10/core/GradMode.h>

#include "fovea/core/status.h"
#include "fovea/nn/checkpoint.h"
#include "fovea/nn/random.h"

namespace fovea::nn {

EncoderLayerImpl::EncoderLayerImpl(const EncoderLayerOptions& options_) : options(options_) {
  const int64_t dim = options.attention().model_dim();
  attention_ = register_module("attention", Attention(options.attention()));
  attention_norm_ = register_module("attention_norm", Norm(dim, options.norm_type()));
  feed_forward_ =
      register_module("feed_forward", FeedForward(dim, options.ff_dim(), options.activation()));
  feed_forward_norm_ = register_module("feed_forward_norm", Norm(dim, options.norm_type()));
}

at::Tensor EncoderLayerImpl::forward(const at::Tensor& x, const Packing& packing,
                                     AttentionState* state) {
  const auto add = [&](const at::Tensor& residual, const at::Tensor& y) {
    return add_dropout(residual, y, options.dropout(), is_training());
  };
  if (options.pre_norm()) {
    const at::Tensor h = add(x, attention_(attention_norm_(x), packing, state));
    return add(h, feed_forward_(feed_forward_norm_(h)));
  }
  const at::Tensor h = attention_norm_(add(x, attention_(x, packing, state)));
  return feed_forward_norm_(add(h, feed_forward_(h)));
}

EncoderImpl::EncoderImpl(const EncoderOptions& options) {
  if (options.attention().empty()) throw InputError("Encoder: expected at least one layer");
  layers_ = register_module("layers", torch::nn::ModuleList());
  for (const LayerAttention& attention : options.attention()) {
    EncoderLayerOptions layer = options.layer();
    layer.attention()
        .mechanism(attention.mechanism)
        .numbers(attention.numbers)
        .pattern(attention.pattern)
        .memory(attention.memory);
    layers_->push_back(EncoderLayer(layer));
  }
  if (options.layer().pre_norm()) {
    norm_ = register_module(
        "norm", Norm(options.layer().attention().model_dim(), options.layer().norm_type()));
  }
}

bool EncoderImpl::incremental() const {
  return std::all_of(layers_->begin(), layers_->end(), [](const auto& layer) {
    return layer->template as<EncoderLayerImpl>()->incremental();
  });
}

at::Tensor EncoderImpl::forward(at::Tensor x, const Packing& packing,
                                std::vector<AttentionState>* states) {
  const bool recompute =
      gradient_checkpointing_ && !states && is_training() && at::GradMode::is_enabled();
  if (states) states->resize(layers_->size());
  for (size_t i = 0; i < layers_->size(); ++i) {
    auto* layer = (*layers_)[i]->as<EncoderLayerImpl>();
    if (recompute) {
      x = checkpoint([=](const at::Tensor& input) { return layer->forward(input, packing); }, x,
                     layer->parameters());
    } else {
      x = layer->forward(x, packing, states ? &(*states)[i] : nullptr);
    }
  }
  return norm_ ? norm_(x) : x;
}

at::Tensor EncoderImpl::forward_dense(const at::Tensor& x) {
  TORCH_CHECK(x.dim() == 3, "Encoder: expected x [B, S, E], got ", x.sizes());
  const Packing packing = Packing::dense(x.size(0), x.size(1));
  return forward(x.reshape({packing.tokens, x.size(2)}), packing).view(x.sizes());
}

}  // namespace fovea::nn
