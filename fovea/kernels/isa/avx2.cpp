// Engine "avx2": Highway's vectors at this file's compiler flags x the FMA matrix unit. Exports
// its table and nothing else (scripts/check_isa_objects.py).
#define HWY_COMPILE_ONLY_STATIC
#define FOVEA_ISA_NAMESPACE isa_avx2
#include "fovea/kernels/isa/engine-inl.h"

namespace fovea::kernels {

extern const Engine kAvx2Engine;
const Engine kAvx2Engine = {.name = "avx2",
                            .isa = Isa::kAvx2,
                            .flags = FOVEA_ENGINE_FLAGS,
                            .f32 = &isa_avx2::kAttentionKernels<float>,
                            .linear_f32 = &isa_avx2::kLinearKernels<float>};

}  // namespace fovea::kernels
