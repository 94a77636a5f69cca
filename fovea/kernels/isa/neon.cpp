// Engine "neon": AArch64's 128-bit vectors, which every such processor has, x the FMA matrix unit.
// Exports its table and nothing else (scripts/check_isa_objects.py).
#define HWY_COMPILE_ONLY_STATIC
#define FOVEA_ISA_NAMESPACE isa_neon
#include "fovea/kernels/isa/engine-inl.h"

namespace fovea::kernels {

extern const Engine kNeonEngine;
const Engine kNeonEngine = {.name = "neon",
                            .isa = Isa::kNeon,
                            .flags = FOVEA_ENGINE_FLAGS,
                            .f32 = &isa_neon::kAttentionKernels<float>,
                            .linear_f32 = &isa_neon::kLinearKernels<float>};

}  // namespace fovea::kernels
