// Pattern::parse on any text: an InputError or a pattern whose canonical text means the same, whose
// plan and definition agree on the number of pairs.
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "fovea/core/status.h"
#include "fovea/pattern/block_plan.h"
#include "fovea/pattern/layer_attention.h"
#include "fovea/pattern/pattern.h"

namespace {

void check(const fovea::Pattern& pattern) {
  if (fovea::Pattern::parse(pattern.to_string()) != pattern) std::abort();
  constexpr int64_t kTokens = 80;  // two tiles
  const fovea::PatternScope scope{.q_len = kTokens, .kv_len = kTokens};
  if (!pattern.unmet(scope, 1, 1).empty()) return;
  int64_t pairs = 0;
  for (int64_t q = 0; q < kTokens; ++q) {
    for (int64_t k = 0; k < kTokens; ++k) pairs += pattern.allows(scope, q, k);
  }
  if (fovea::build_plan(pattern, scope)->counts().pairs != pairs) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  try {
    check(fovea::Pattern::parse(text));
  } catch (const fovea::InputError&) {
  }
  try {
    for (const fovea::LayerAttention& layer : fovea::parse_layers(text, 6)) {
      if (fovea::parse_layers(layer.to_string(), 1).at(0) != layer) std::abort();
    }
  } catch (const fovea::InputError&) {
  }
  return 0;
}
