#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "fovea/pattern/pattern.h"

namespace fovea {

/// How a layer weighs what its pattern lets it see.
enum class Mechanism : uint8_t {
  kSoftmax,  ///< exactly, over any pattern
  kLinear,   ///< features elu + 1 summed up in a state (Katharopoulos et al. 2020); full or causal
};

/// The attention of one layer as command line and configs write it: a pattern, `linear`, or
/// `linear(causal)`.
struct LayerAttention {
  Mechanism mechanism = Mechanism::kSoftmax;
  Pattern pattern;

  std::string to_string() const;
  friend bool operator==(const LayerAttention&, const LayerAttention&) = default;
};

/// One line for each distinct name, "window(128,128): a token sees …".
std::vector<std::string> explain(const LayerAttention& attention);

/// An entry of a layer list: an attention and for how many layers in a row.
struct LayerRun {
  LayerAttention attention;
  int64_t layers = 1;
};

/// Parses a comma-separated list with repeats, e.g. "window(64)*2, linear". Throws InputError.
std::vector<LayerRun> parse_layer_period(std::string_view text);

/// The attention of each of `layers` layers: the list is a period that repeats over the depth ("two
/// local, one global"). Throws InputError.
std::vector<LayerAttention> parse_layers(std::string_view text, int64_t layers);

}  // namespace fovea
