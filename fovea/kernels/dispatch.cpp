#include "fovea/kernels/attention/engine.h"

namespace fovea::kernels {

extern const Engine kScalarEngine;
#if defined(__x86_64__)
extern const Engine kAvx2Engine, kAvx512Engine, kAvx512Bf16Engine;
#endif

namespace {

/// Every engine of this build in the order of preference: a problem runs on the first one that the
/// machine and FOVEA_MAX_ISA allow and that has kernels for its storage type.
constexpr const Engine* kEngines[] = {
#if defined(__x86_64__)
    &kAvx512Bf16Engine,  // bf16
    &kAvx512Engine,      // f32, bf16 widened
    &kAvx2Engine,        // f32, bf16 widened
#endif
    &kScalarEngine,  // f32, bf16 widened, f64
};

}  // namespace

const Engine& engine_for(DType dtype) {
  const Isa limit = max_isa();
  for (const Engine* engine : kEngines) {
    if (engine->isa <= limit && engine->with_kernels(dtype, [](const auto&) {})) return *engine;
  }
  return kScalarEngine;
}

}  // namespace fovea::kernels
