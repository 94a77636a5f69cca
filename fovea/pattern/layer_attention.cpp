#include "fovea/pattern/layer_attention.h"

#include <algorithm>

#include "fovea/core/status.h"
#include "fovea/pattern/pattern_node.h"

namespace fovea {

std::string LayerAttention::to_string() const {
  if (mechanism == Mechanism::kSoftmax) return pattern.to_string();
  return pattern == Pattern() ? "linear" : "linear(" + pattern.to_string() + ")";
}

std::vector<std::string> explain(const LayerAttention& attention) {
  std::vector<std::string> lines = explain(attention.pattern);
  if (attention.mechanism == Mechanism::kLinear) {
    lines.push_back(attention.to_string() +
                    ": keys and values are summed up in a state of fixed size that every query "
                    "reads; the cost grows with the length, not with the pairs");
  }
  return lines;
}

std::vector<LayerRun> parse_layer_period(std::string_view text) {
  std::vector<LayerRun> period;
  for (const LayerEntry& entry : parse_layer_text(text)) {
    period.push_back({{entry.mechanism, Pattern(entry.node)}, entry.repeats});
  }
  return period;
}

std::vector<LayerAttention> parse_layers(std::string_view text, int64_t layers) {
  const std::vector<LayerRun> period = parse_layer_period(text);
  if (layers < 0) throw InputError("expected at least 0 layers, got " + std::to_string(layers));
  std::vector<LayerAttention> result;
  while (std::ssize(result) < layers) {
    for (const LayerRun& run : period) {
      const int64_t left = layers - std::ssize(result);
      result.insert(result.end(), std::min(run.layers, left), run.attention);
    }
  }
  return result;
}

}  // namespace fovea
