#pragma once

// Sizes and parameters of the recurrent layers, without torch: a loader compares a file with them
// before anything is allocated, and the module registers exactly these.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "fovea/pattern/layer_attention.h"

namespace fovea::nn {

/// What a mixer is made of; see LinearMixer. Sizes are of a head.
struct MixerSizes {
  int64_t heads = 0;
  int64_t key_dim = 0, value_dim = 0;
  int64_t features = 0;      ///< of queries and keys after the feature map
  int64_t key_heads = 0;     ///< 1: all heads share queries and keys
  bool gate = false;         ///< silu(gate) times what the state gives
  bool delta = false;        ///< write strengths
  bool steps = false;        ///< a step size a head, whose rate and bias are learned
  bool convolution = false;  ///< of queries, keys and values
  bool norm = false;         ///< with a learned weight

  int64_t inner() const { return heads * value_dim; }
  int64_t convolved() const { return 2 * key_heads * key_dim + inner(); }
  /// Rows of the input projection: queries, keys, values, gate, write strengths, step sizes.
  int64_t inputs() const {
    return convolved() + (gate ? inner() : 0) + (delta ? heads : 0) + (steps ? heads : 0);
  }
};

inline constexpr int64_t kConvolutionWidth = 4;
inline constexpr int64_t kDecayRank = 16;        ///< of gated linear attention
inline constexpr int64_t kTaylorDim = 16;        ///< queries and keys of Based
inline constexpr int64_t kTaylorFeatures = 160;  ///< 1 + 16 + 136, and zeros
inline constexpr int64_t kStateDim = 64;         ///< queries and keys of Mamba-2

/// Random features for heads of `dim`: D ln D (Choromanski et al. 2021, §3.3) in whole eights.
inline int64_t random_features(int64_t dim) {
  const auto d = static_cast<double>(dim);
  return std::clamp<int64_t>(static_cast<int64_t>(std::ceil(d * std::log(d) / 8)) * 8, 8, 256);
}

inline MixerSizes mixer_sizes(Mechanism mechanism, int64_t model_dim, int64_t heads) {
  const int64_t dim = model_dim / heads;
  MixerSizes s;
  s.heads = s.key_heads = heads;
  s.key_dim = s.value_dim = s.features = dim;
  switch (mechanism) {
    case Mechanism::kPerformer:
      s.features = random_features(dim);
      break;
    case Mechanism::kRetNet:
      s.value_dim = 2 * dim;
      s.gate = true;
      break;
    case Mechanism::kGla:
      s.key_dim = s.features = dim / 2;
      s.gate = s.norm = true;
      break;
    case Mechanism::kMamba2:
      s.key_heads = 1;
      s.key_dim = s.features = kStateDim;
      s.value_dim = 2 * dim;
      s.gate = s.steps = s.convolution = s.norm = true;
      break;
    case Mechanism::kDeltaNet:
      s.delta = s.convolution = s.norm = true;
      break;
    case Mechanism::kGatedDeltaNet:
      s.gate = s.delta = s.steps = s.convolution = s.norm = true;
      break;
    case Mechanism::kBased:
      s.key_dim = kTaylorDim;
      s.features = kTaylorFeatures;
      break;
    case Mechanism::kHedgehog:
      s.features = 2 * dim;
      break;
    case Mechanism::kSoftmax:
    case Mechanism::kLinear:
    case Mechanism::kMoba:
    case Mechanism::kHMatrix:
    case Mechanism::kNsa:
    case Mechanism::kSegmentEncoder:
      break;
  }
  return s;
}

/// Why heads of this size cannot be; empty when they can.
inline std::string unmet_of_mixer(Mechanism mechanism, int64_t model_dim, int64_t heads) {
  const MixerSizes s = mixer_sizes(mechanism, model_dim, heads);
  const auto fits = [](int64_t dim) { return dim >= 8 && dim <= 256 && dim % 8 == 0; };
  if (fits(s.key_dim) && fits(s.value_dim) && fits(s.features)) return "";
  return std::string("heads whose queries, values and features under ") + name_of(mechanism) +
         " are multiples of 8 up to 256, found " + std::to_string(s.key_dim) + ", " +
         std::to_string(s.value_dim) + " and " + std::to_string(s.features) +
         " (model_dim / heads " + std::to_string(model_dim / heads) + ")";
}

/// Names and shapes of a mixer's parameters, in the order of its named_parameters().
inline std::vector<std::pair<std::string, std::vector<int64_t>>> mixer_parameters(
    Mechanism mechanism, int64_t model_dim, int64_t heads) {
  const MixerSizes s = mixer_sizes(mechanism, model_dim, heads);
  std::vector<std::pair<std::string, std::vector<int64_t>>> list;
  const auto add = [&](const char* name, std::vector<int64_t> shape) {
    list.emplace_back(name, std::move(shape));
  };
  add("input_weight", {s.inputs(), model_dim});
  if (s.convolution) add("convolution_weight", {s.convolved(), kConvolutionWidth});
  if (mechanism == Mechanism::kMamba2) add("convolution_bias", {s.convolved()});
  if (mechanism == Mechanism::kGla) {
    add("decay_down_weight", {kDecayRank, model_dim});
    add("decay_up_weight", {heads * s.key_dim, kDecayRank});
    add("decay_bias", {heads * s.key_dim});
  }
  if (s.steps) {
    add("log_rate", {heads});
    add("step_bias", {heads});
  }
  if (mechanism == Mechanism::kMamba2) add("skip", {heads});
  if (mechanism == Mechanism::kHedgehog) {
    add("query_map", {heads, s.key_dim, s.key_dim});
    add("key_map", {heads, s.key_dim, s.key_dim});
  }
  if (mechanism == Mechanism::kPerformer) add("random_directions", {s.features, s.key_dim});
  if (s.norm) add("norm_weight", {mechanism == Mechanism::kMamba2 ? s.inner() : s.value_dim});
  add("output_weight", {model_dim, s.inner()});
  return list;
}

/// Features of queries and keys of the memory of a window whose heads have `head_dim` numbers.
inline int64_t memory_features(Mechanism mechanism, int64_t head_dim) {
  switch (mechanism) {
    case Mechanism::kPerformer:
      return random_features(head_dim);
    case Mechanism::kBased:
      return kTaylorFeatures;
    case Mechanism::kHedgehog:
      return 2 * head_dim;
    default:
      return head_dim;
  }
}

/// Why such a memory cannot be; empty when it can.
inline std::string unmet_of_memory(const LayerMemory& memory, int64_t head_dim) {
  const int64_t features = memory_features(memory.mechanism, head_dim);
  if (memory.none() || features <= 256) return "";
  return std::string("heads of at most 128 with a memory of ") + name_of(memory.mechanism) +
         ", whose features are twice as many, found " + std::to_string(head_dim);
}

/// Names and shapes of the parameters of a window's memory, in the order of its named_parameters().
inline std::vector<std::pair<std::string, std::vector<int64_t>>> memory_parameters(
    const LayerMemory& memory, int64_t heads, int64_t kv_heads, int64_t head_dim) {
  std::vector<std::pair<std::string, std::vector<int64_t>>> list;
  list.emplace_back(memory.gated ? "gate" : "gain", std::vector<int64_t>{heads});
  if (memory.mechanism == Mechanism::kHedgehog || memory.mechanism == Mechanism::kBased) {
    const int64_t rows = memory.mechanism == Mechanism::kBased ? kTaylorDim : head_dim;
    list.emplace_back("query_map", std::vector<int64_t>{heads, rows, head_dim});
    list.emplace_back("key_map", std::vector<int64_t>{kv_heads, rows, head_dim});
  }
  if (memory.mechanism == Mechanism::kPerformer) {
    list.emplace_back("random_directions",
                      std::vector<int64_t>{random_features(head_dim), head_dim});
  }
  return list;
}

}  // namespace fovea::nn
