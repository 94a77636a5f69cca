#include "fovea/train/precision.h"

#include <ATen/autocast_mode.h>

#include "fovea/core/cpu_features.h"
#include "fovea/core/status.h"

namespace fovea::train {

bool use_bf16(const std::string& precision) {
  if (precision == "fp32") return false;
  if (precision == "bf16") return true;
  // A rule and no measurement, so that equal machines choose alike. CPU time of a training step,
  // fp32 over bf16, on Zen 4 (avx512_bf16): 2 layers x 128 words 1.6, 6 layers x 256 bytes 1.8.
  if (precision == "auto") return max_isa() >= Isa::kAvx512Bf16;
  throw InputError("precision \"" + precision + "\" is unknown; expected auto, fp32 or bf16");
}

AutocastScope::AutocastScope(bool on) : on_(on) {
  if (!on_) return;
  at::autocast::set_autocast_dtype(at::kCPU, at::kBFloat16);
  at::autocast::set_autocast_enabled(at::kCPU, true);
  at::autocast::increment_nesting();
}

AutocastScope::~AutocastScope() {
  if (!on_) return;
  if (at::autocast::decrement_nesting() == 0) at::autocast::clear_cache();
  at::autocast::set_autocast_enabled(at::kCPU, false);
}

}  // namespace fovea::train
