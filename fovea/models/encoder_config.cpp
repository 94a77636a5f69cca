#include "fovea/models/encoder_config.h"

#include <functional>
#include <numeric>

#include "fovea/core/status.h"
#include "fovea/nn/mixer_shapes.h"
#include "fovea/pattern/layer_attention.h"

namespace fovea::models {
namespace {

void check_shape(const EncoderConfig& c, const ConfigChecker& check) {
  check.integer("vocab_size", c.vocab_size, 1, int64_t{1} << 24);
  check.integer("layers", c.layers, 1, 1024);
  check.integer("model_dim", c.model_dim, 8, 65536);
  check.integer("heads", c.heads, 1, c.model_dim / 8);
  if (c.model_dim % c.heads != 0 || c.model_dim / c.heads % 8 != 0 || c.model_dim / c.heads > 256) {
    fail_config(check.place, "heads",
                "expected model_dim / heads to be a multiple of 8 up to 256, found " +
                    std::to_string(c.model_dim) + " / " + std::to_string(c.heads));
  }
  check.integer("kv_heads", c.kv_heads, 1, c.heads);
  if (c.heads % c.kv_heads != 0) {
    fail_config(check.place, "kv_heads",
                "expected a divisor of heads (" + std::to_string(c.heads) + "), found " +
                    std::to_string(c.kv_heads));
  }
  check.integer("ff_dim", c.ff_dim, 1, 1 << 20);
  check.integer("max_length", c.max_length, 1, int64_t{1} << 27);
}

void check_attention(const EncoderConfig& c, std::string_view place) {
  std::vector<LayerAttention> layers;
  try {
    layers = parse_layers(c.attention, c.layers);
    check_heads(layers, c.heads);
  } catch (const InputError& error) {
    fail_config(place, "attention", error.what());
  }
  for (const LayerAttention& layer : layers) {
    if (is_recurrent(layer.mechanism)) {
      const std::string unmet = nn::unmet_of_mixer(layer.mechanism, c.model_dim, c.heads);
      if (!unmet.empty()) fail_config(place, "attention", "expected " + unmet);
      if (c.kv_heads != c.heads) {
        fail_config(place, "kv_heads",
                    "expected as many as heads with " + layer.to_string() + ", found " +
                        std::to_string(c.kv_heads));
      }
    }
    const std::string unmet = nn::unmet_of_memory(layer.memory, c.model_dim / c.heads);
    if (!unmet.empty()) fail_config(place, "attention", "expected " + unmet);
    if (!layer.pattern.uses_inputs()) continue;
    fail_config(place, "attention",
                "expected patterns without per-batch tensors (packed documents are kept apart "
                "anyway), found \"" +
                    layer.to_string() + '"');
  }
}

void check_scores(const EncoderConfig& c, const ConfigChecker& check) {
  check.choice("scores", c.scores, {"dot", "additive", "leaky"});
  if (c.scores != "dot" && (c.positions == "rotary" || c.cosine)) {
    fail_config(check.place, "scores",
                "expected dot with positions \"rotary\" or cosine, which are about products, found "
                "\"" +
                    c.scores + "\"; use positions learned, sinusoidal or none");
  }
  check.choice("position_bias", c.position_bias, {"none", "alibi", "t5"});
  check.integer("bias_buckets", c.bias_buckets, 4, 4096);
  if (c.bias_buckets % 4 != 0) {
    fail_config(check.place, "bias_buckets",
                "expected a multiple of 4, found " + std::to_string(c.bias_buckets));
  }
  check.integer("bias_max_distance", c.bias_max_distance, c.bias_buckets / 4 + 1, 1 << 20);
  if (!(c.softcap >= 0 && c.softcap < 1e6)) {
    fail_config(check.place, "softcap",
                "expected a number from 0 (off) to below 1e6, found " + std::to_string(c.softcap));
  }
  const char* changed = c.scores != "dot"           ? "scores"
                        : c.position_bias != "none" ? "position_bias"
                        : c.softcap > 0             ? "softcap"
                        : c.cosine                  ? "cosine"
                        : c.sinks                   ? "sinks"
                                                    : nullptr;
  if (!changed) return;
  for (const LayerAttention& layer : parse_layers(c.attention, c.layers)) {
    if (c.scores != "dot" && !layer.memory.none()) {
      fail_config(check.place, "scores",
                  "expected dot with a memory, whose weights are about products, found \"" +
                      layer.to_string() + '"');
    }
    if (layer.mechanism == Mechanism::kSoftmax) continue;
    fail_config(check.place, changed,
                (is_over_blocks(layer.mechanism)
                     ? "expected none with layers over blocks, found attention \""
                     : "expected none with linear layers, which have no scores to change, found "
                       "attention \"") +
                    shortened(c.attention) + '"');
  }
}

}  // namespace

int64_t parameter_count(const std::vector<TensorSpec>& specs) {
  int64_t count = 0;
  for (const TensorSpec& spec : specs) {
    count += std::accumulate(spec.shape.begin(), spec.shape.end(), int64_t{1}, std::multiplies<>());
  }
  return count;
}

void add_linear_specs(std::vector<TensorSpec>& specs, const std::string& name, int64_t in,
                      int64_t out) {
  specs.push_back({name + ".weight", {out, in}});
  specs.push_back({name + ".bias", {out}});
}

std::vector<ConfigField> EncoderConfig::encoder_fields() {
  return {{"vocab_size", &vocab_size},
          {"layers", &layers},
          {"model_dim", &model_dim},
          {"heads", &heads},
          {"kv_heads", &kv_heads},
          {"ff_dim", &ff_dim},
          {"attention", &attention},
          {"positions", &positions},
          {"rope_theta", &rope_theta},
          {"max_length", &max_length},
          {"norm", &norm},
          {"norm_type", &norm_type},
          {"activation", &activation},
          {"dropout", &dropout},
          {"attention_dropout", &attention_dropout},
          {"embedding_dropout", &embedding_dropout},
          {"token_dropout", &token_dropout},
          {"scores", &scores, 4},
          {"position_bias", &position_bias, 2},
          {"bias_buckets", &bias_buckets, 2},
          {"bias_max_distance", &bias_max_distance, 2},
          {"softcap", &softcap, 2},
          {"cosine", &cosine, 2},
          {"sinks", &sinks, 2}};
}

void EncoderConfig::validate_encoder(std::string_view place) const {
  const ConfigChecker check{place};
  check_shape(*this, check);
  check.choice("positions", positions, {"rotary", "learned", "sinusoidal", "none"});
  if (!(rope_theta > 1 && rope_theta < 1e12)) {
    fail_config(place, "rope_theta",
                "expected a number above 1 and below 1e12, found " + std::to_string(rope_theta));
  }
  check.choice("norm", norm, {"pre", "post"});
  check.choice("norm_type", norm_type, {"layer", "rms"});
  check.choice("activation", activation, {"gelu", "relu", "swiglu", "geglu"});
  check.probability("dropout", dropout);
  check.probability("attention_dropout", attention_dropout);
  check.probability("embedding_dropout", embedding_dropout);
  check.probability("token_dropout", token_dropout);
  check_attention(*this, place);
  check_scores(*this, check);
}

std::vector<TensorSpec> EncoderConfig::encoder_specs() const {
  std::vector<TensorSpec> specs;
  const auto add_norm = [&](const std::string& name) {
    specs.push_back({name + ".weight", {model_dim}});
    if (norm_type == "layer") specs.push_back({name + ".bias", {model_dim}});
  };
  const bool gated = activation == "swiglu" || activation == "geglu";
  specs.push_back({"embeddings.tokens.weight", {vocab_size, model_dim}});
  if (positions == "learned") {
    specs.push_back({"embeddings.positions.weight", {max_length, model_dim}});
  }
  add_norm("embeddings.norm");
  const std::vector<LayerAttention> attentions = parse_layers(attention, layers);
  for (int64_t i = 0; i < layers; ++i) {
    const std::string layer = "encoder.layers." + std::to_string(i) + ".";
    const int64_t head_dim = model_dim / heads;
    if (position_bias == "t5") {
      specs.push_back({layer + "attention.position_bias", {bias_buckets, heads}});
    }
    if (cosine) specs.push_back({layer + "attention.log_scale", {heads}});
    if (sinks) specs.push_back({layer + "attention.sinks", {heads}});
    if (scores == "additive") {
      specs.push_back({layer + "attention.score_weight", {heads, head_dim}});
    }
    if (scores == "leaky") {
      specs.push_back({layer + "attention.query_vector", {heads, head_dim}});
      specs.push_back({layer + "attention.key_vector", {kv_heads, head_dim}});
    }
    const LayerAttention& of_layer = attentions[static_cast<size_t>(i)];
    const Mechanism mechanism = of_layer.mechanism;
    if (!is_recurrent(mechanism)) {
      add_linear_specs(specs, layer + "attention.qkv", model_dim,
                       (heads + 2 * kv_heads) * head_dim);
      add_linear_specs(specs, layer + "attention.output", model_dim, model_dim);
      if (!of_layer.memory.none()) {
        for (auto& [name, shape] :
             nn::memory_parameters(of_layer.memory, heads, kv_heads, head_dim)) {
          specs.push_back({layer + "attention.memory." + name, std::move(shape)});
        }
      }
      if (const int64_t gates = gates_of(mechanism); gates > 0) {
        add_linear_specs(specs, layer + "attention.gate", model_dim, gates * heads);
      }
    } else {
      for (auto& [name, shape] : nn::mixer_parameters(mechanism, model_dim, heads)) {
        specs.push_back({layer + "attention.mixer." + name, std::move(shape)});
      }
    }
    add_norm(layer + "attention_norm");
    add_linear_specs(specs, layer + "feed_forward.input", model_dim, gated ? 2 * ff_dim : ff_dim);
    add_linear_specs(specs, layer + "feed_forward.output", ff_dim, model_dim);
    add_norm(layer + "feed_forward_norm");
  }
  if (norm == "pre") add_norm("encoder.norm");
  return specs;
}

}  // namespace fovea::models
