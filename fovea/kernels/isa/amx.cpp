// Engine "amx": 512-bit vectors x the tile matrix unit of AMX. f32 runs on it only
// where high or medium precision is allowed, and on "avx512" else.
// Exports its table and nothing else (scripts/check_isa_objects.py).
#define HWY_COMPILE_ONLY_STATIC
#define FOVEA_ISA_NAMESPACE isa_amx
#define FOVEA_TILES AmxTiles
#include "fovea/kernels/mma/amx_tiles-inl.h"
//
#include "fovea/kernels/isa/engine-inl.h"

namespace fovea::kernels {

extern const Engine kAmxEngine;
const Engine kAmxEngine = {.name = "amx",
                           .isa = Isa::kAmx,
                           .flags = FOVEA_ENGINE_FLAGS,
                           .bf16 = &isa_amx::kAttentionKernels<BFloat16>,
                           .f32_medium = &isa_amx::kAttentionKernels<BFloat16>,
                           .f32_high = &isa_amx::kAttentionKernels<SplitBf16>};

}  // namespace fovea::kernels
