#pragma once

// Small language models of every causal mechanism; a new one is a line in causal_shapes().

#include <cstdint>
#include <ostream>
#include <string>
#include <vector>

#include <torch/torch.h>

#include "fovea/models/language_model/model.h"

namespace fovea::models {

struct Shape {
  std::string attention;
  std::string positions = "rotary";
  int64_t kv_heads = 4;
  std::string scores = "";
};

inline void PrintTo(const Shape& shape, std::ostream* out) {
  *out << shape.attention << ", " << shape.positions << ", " << shape.kv_heads << " key heads"
       << shape.scores;
}

inline LanguageModelConfig config_of(const Shape& shape) {
  LanguageModelConfig config;
  config.vocab_size = 50;
  config.layers = 2;
  config.model_dim = 64;
  config.heads = 4;
  config.kv_heads = shape.kv_heads;
  config.ff_dim = 48;
  config.max_length = 200;
  config.attention = shape.attention;
  config.positions = shape.positions;
  if (shape.scores == "alibi" || shape.scores == "t5") config.position_bias = shape.scores;
  if (shape.scores == "additive" || shape.scores == "leaky") config.scores = shape.scores;
  config.softcap = shape.scores == "softcap" ? 2 : 0;
  config.cosine = shape.scores == "cosine";
  config.sinks = shape.scores == "sinks";
  return config;
}

inline LanguageModel model_of(const Shape& shape) {
  torch::manual_seed(3);
  LanguageModel model(config_of(shape));
  const torch::NoGradGuard no_grad;
  for (auto& p : model->named_parameters()) {  // those that start as 0
    const bool learned = p.key().ends_with("position_bias") || p.key().ends_with("sinks");
    if (learned) p.value().normal_();
  }
  model->eval();
  return model;
}

inline std::vector<Shape> causal_shapes() {
  return {Shape{"causal"},
          Shape{"causal", "learned", 1},
          Shape{"causal", "sinusoidal", 2},
          Shape{"window(9,0)", "rotary", 2},
          Shape{"window(99,0)", "none"},
          Shape{"window(0,0), causal"},
          Shape{"causal & (window(5)|global(1))", "rotary", 2},
          Shape{"dilated(8,0,2)"},
          Shape{"causal & chunked(16)"},
          Shape{"per_head(window(8,0), causal)", "none"},
          Shape{"linear(causal)"},
          Shape{"linear(causal)", "none", 2},
          Shape{"performer(causal)"},
          Shape{"based(causal)"},
          Shape{"hedgehog(causal)"},
          Shape{"retnet"},
          Shape{"gla"},
          Shape{"mamba2"},
          Shape{"deltanet"},
          Shape{"gated_deltanet"},
          Shape{"window(9,0)+linear(causal)", "rotary", 2},
          Shape{"window(0,0)+performer(causal)"},
          Shape{"window(60,0)+based(causal)", "none"},
          Shape{"causal & window(7,3)+hedgehog(causal)", "rotary", 1},
          Shape{"gate(window(9,0)+linear(causal))"},
          Shape{"gate(window(4,0)+performer(causal)), gate(window(30,0)+hedgehog(causal))"},
          Shape{"window(9,0)+linear(causal)", "none", 2, "alibi"},
          Shape{"window(9,0)+hedgehog(causal)", "none", 4, "t5"},
          Shape{"window(9,0)+linear(causal)", "rotary", 2, "cosine"},
          Shape{"gate(window(9,0)+based(causal))", "rotary", 2, "softcap"},
          Shape{"window(9,0)+performer(causal)", "rotary", 4, "sinks"},
          Shape{"moba(8,3,causal)", "rotary", 2},
          Shape{"moba(16,1,causal), moba(4,9,causal)", "none"},
          Shape{"hmatrix(8,causal)", "rotary", 2},
          Shape{"hmatrix(2,causal)"},
          Shape{"nsa(8,3,16,causal)", "rotary", 2},
          Shape{"nsa(5,6,3,causal), nsa(64,1,200,causal)"},
          Shape{"segment_encoder(16,causal)", "rotary", 1},
          Shape{"window(7,0), gated_deltanet", "learned"},
          Shape{"causal", "none", 2, "alibi"},
          Shape{"window(20,0)", "none", 4, "t5"},
          Shape{"causal", "rotary", 4, "softcap"},
          Shape{"window(20,0)", "rotary", 4, "cosine"},
          Shape{"causal", "rotary", 2, "sinks"},
          Shape{"causal", "none", 2, "additive"},
          Shape{"window(20,0)", "learned", 2, "leaky"}};
}

}  // namespace fovea::models
