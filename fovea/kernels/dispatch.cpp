#include "fovea/kernels/attention/engine.h"

namespace fovea::kernels {

extern const Engine kScalarEngine;
#if defined(__x86_64__)
extern const Engine kAvx2Engine, kAvx512Engine;
#endif

namespace {

/// Every engine of this build, strongest first: the order of preference.
constexpr const Engine* kEngines[] = {
#if defined(__x86_64__)
    &kAvx512Engine,
    &kAvx2Engine,
#endif
    &kScalarEngine,
};
constexpr int kEngineCount = sizeof kEngines / sizeof kEngines[0];

}  // namespace

const Engine* const* available_engines(int* count) {
  int first = kEngineCount - 1;  // scalar always runs
  const Isa limit = max_isa();
  while (first > 0 && kEngines[first - 1]->isa <= limit) --first;
  *count = kEngineCount - first;
  return kEngines + first;
}

const Engine& engine_for(bool f64) {
  int count = 0;
  const Engine* const* engines = available_engines(&count);
  for (int i = 0; i < count; ++i) {
    if (f64 ? engines[i]->f64 != nullptr : engines[i]->f32 != nullptr) return *engines[i];
  }
  return kScalarEngine;
}

}  // namespace fovea::kernels
