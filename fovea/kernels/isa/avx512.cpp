// Engine "avx512": Highway's vectors at this file's compiler flags x the FMA matrix unit. Exports
// its table and nothing else (scripts/check_isa_objects.py).
#define HWY_COMPILE_ONLY_STATIC
#define FOVEA_ISA_NAMESPACE isa_avx512
#include "fovea/kernels/isa/engine-inl.h"

namespace fovea::kernels {

extern const Engine kAvx512Engine;
const Engine kAvx512Engine = {"avx512",
                              Isa::kAvx512,
                              &isa_avx512::kAttentionKernels<float>,
                              nullptr,
                              &isa_avx512::kLinearKernels<float>,
                              nullptr,
                              isa_avx512::measure_peak,
                              FOVEA_ENGINE_FLAGS};

}  // namespace fovea::kernels
