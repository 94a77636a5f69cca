#include "fovea/models/language_model/config.h"

#include "fovea/pattern/causality.h"
#include "fovea/pattern/layer_attention.h"

namespace fovea::models {
namespace {

constexpr ConfigFormat kFormat = {LanguageModelConfig::kModelType,
                                  LanguageModelConfig::kFormatVersion, "a fovea language model"};

// What to write instead of an attention that looks ahead.
std::string causal_form(LayerAttention layer) {
  if (!layer.memory.none()) {
    if (!is_causal(layer.pattern)) {
      const WindowReach reach = *window_reach(layer.pattern.node());
      layer.pattern = Pattern::parse("window(" + std::to_string(reach.left) + ",0)");
    }
    layer.memory.causal = true;
    return layer.to_string();
  }
  if (layer.mechanism != Mechanism::kSoftmax) {
    return LayerAttention{layer.mechanism, Pattern::parse("causal"), layer.numbers}.to_string();
  }
  if (layer.pattern == Pattern()) return "causal";
  return "causal & (" + layer.pattern.to_string() + ")";
}

void check_causal(const LanguageModelConfig& c, std::string_view place) {
  const std::vector<LayerAttention> layers = parse_layers(c.attention, c.layers);
  for (size_t i = 0; i < layers.size(); ++i) {
    if (is_causal(layers[i])) continue;
    fail_config(place, "attention",
                "expected every layer of a language model to be causal, found \"" +
                    layers[i].to_string() + "\" in layer " + std::to_string(i) +
                    ", which lets a token see the ones that it is to predict; use \"" +
                    causal_form(layers[i]) +
                    "\", or another of causal, window(w,0), causal & ..., linear(causal)");
  }
}

}  // namespace

std::vector<ConfigField> LanguageModelConfig::fields() {
  std::vector<ConfigField> all = encoder_fields();
  all.push_back({"tie_embeddings", &tie_embeddings});
  return all;
}

void LanguageModelConfig::validate(std::string_view place) const {
  validate_encoder(place);
  ConfigChecker{place}.integer("max_length", max_length, 2, int64_t{1} << 27);
  check_causal(*this, place);
}

LanguageModelConfig LanguageModelConfig::from_json(std::string_view text, std::string_view place) {
  LanguageModelConfig config;
  read_config(text, place, kFormat, config.fields());
  config.validate(place);
  return config;
}

std::string LanguageModelConfig::to_json() const {
  LanguageModelConfig copy = *this;
  return write_config(kFormat, copy.fields());
}

std::vector<TensorSpec> LanguageModelConfig::tensor_specs() const {
  std::vector<TensorSpec> specs = encoder_specs();
  if (!tie_embeddings) specs.push_back({"output.weight", {vocab_size, model_dim}});
  return specs;
}

}  // namespace fovea::models
