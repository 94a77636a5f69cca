#include "fovea/nn/encoder.h"

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

at::Tensor EncoderLayerImpl::forward(const at::Tensor& x, const Packing& packing) {
  const auto add = [&](const at::Tensor& residual, const at::Tensor& y) {
    return add_dropout(residual, y, options.dropout(), is_training());
  };
  if (options.pre_norm()) {
    const at::Tensor h = add(x, attention_(attention_norm_(x), packing));
    return add(h, feed_forward_(feed_forward_norm_(h)));
  }
  const at::Tensor h = attention_norm_(add(x, attention_(x, packing)));
  return feed_forward_norm_(add(h, feed_forward_(h)));
}

EncoderImpl::EncoderImpl(const EncoderOptions& options) {
  if (options.attention().empty()) throw InputError("Encoder: expected at least one layer");
  layers_ = register_module("layers", torch::nn::ModuleList());
  for (const LayerAttention& attention : options.attention()) {
    EncoderLayerOptions layer = options.layer();
    layer.attention().mechanism(attention.mechanism).pattern(attention.pattern);
    layers_->push_back(EncoderLayer(layer));
  }
  if (options.layer().pre_norm()) {
    norm_ = register_module(
        "norm", Norm(options.layer().attention().model_dim(), options.layer().norm_type()));
  }
}

at::Tensor EncoderImpl::forward(at::Tensor x, const Packing& packing) {
  const bool recompute = gradient_checkpointing_ && is_training() && at::GradMode::is_enabled();
  for (const auto& module : *layers_) {
    auto* layer = module->as<EncoderLayerImpl>();
    if (recompute) {
      x = checkpoint([=](const at::Tensor& input) { return layer->forward(input, packing); }, x,
                     layer->parameters());
    } else {
      x = layer->forward(x, packing);
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
