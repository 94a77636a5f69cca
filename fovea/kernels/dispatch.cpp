#include "fovea/kernels/attention/engine.h"

namespace fovea::kernels {

extern const Engine kScalarEngine;
#if defined(__x86_64__)
extern const Engine kAvx2Engine, kAvx512Engine, kAvx512Bf16Engine, kAmxEngine, kAmxEmulatedEngine;
#endif
#if defined(__aarch64__)
extern const Engine kNeonEngine;
#endif

namespace {

/// An engine, and the levels that it is meant for: what the machine and FOVEA_MAX_ISA allow.
struct Choice {
  const Engine* engine;
  Isa from, to;
};

/// Every engine of this build in the order of preference: a problem runs on the first one that is
/// meant for the level and has kernels for the problem's storage type.
constexpr Choice kChoices[] = {
#if defined(__x86_64__)
    // bf16, f32 at high and medium.
    {&kAmxEngine, Isa::kAmx, Isa::kAmx},
    {&kAmxEmulatedEngine, Isa::kAmxEmulated, Isa::kAmxEmulated},
    // bf16, f32 at medium. Twice the FMA's peak, so three products would cost 1.5 times f32's one.
    // Processors with AMX have vdpbf16ps too, slower than their FMA (Sapphire Rapids).
    {&kAvx512Bf16Engine, Isa::kAvx512Bf16, Isa::kAvx512Bf16},
    {&kAvx512Engine, Isa::kAvx512, Isa::kAmx},  // f32, bf16 and f16 widened
    {&kAvx2Engine, Isa::kAvx2, Isa::kAmx},      // f32, bf16 and f16 widened
#endif
#if defined(__aarch64__)
    {&kNeonEngine, Isa::kNeon, Isa::kAmx},  // f32, bf16 and f16 widened
#endif
    {&kScalarEngine, Isa::kScalar, Isa::kAmx},  // f32, f16 widened, bf16 emulated, f64
};

}  // namespace

const Engine& engine_for(DType dtype, Float32Precision precision) {
  const Isa level = max_isa();
  for (const Choice& choice : kChoices) {
    if (level < choice.from || level > choice.to) continue;
    if (choice.engine->with_kernels(dtype, precision, [](const auto&) {})) return *choice.engine;
  }
  return kScalarEngine;
}

}  // namespace fovea::kernels
