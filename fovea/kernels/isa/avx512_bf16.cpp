// Engine "avx512_bf16": 512-bit vectors x the bf16 dot matrix unit (vdpbf16ps). Other storage types
// run on "avx512". Exports its table and nothing else (scripts/check_isa_objects.py).
#define HWY_COMPILE_ONLY_STATIC
#define FOVEA_ISA_NAMESPACE isa_avx512_bf16
#define FOVEA_LINEAR_CHUNK 32
#include "fovea/kernels/isa/engine-inl.h"

namespace fovea::kernels {

extern const Engine kAvx512Bf16Engine;
const Engine kAvx512Bf16Engine = {.name = "avx512_bf16",
                                  .isa = Isa::kAvx512Bf16,
                                  .flags = FOVEA_ENGINE_FLAGS,
                                  .bf16 = &isa_avx512_bf16::kAttentionKernels<BFloat16>,
                                  .f32_medium = &isa_avx512_bf16::kAttentionKernels<BFloat16>,
                                  .linear_bf16 = &isa_avx512_bf16::kLinearKernels<float, BFloat16>};

}  // namespace fovea::kernels
