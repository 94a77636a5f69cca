// Engine "amx_emulated": the tile matrix unit of engine "amx" on tiles in plain C++, for tests on
// any machine; only FOVEA_MAX_ISA=amx_emulated chooses it. Exports its table and nothing else
// (scripts/check_isa_objects.py).
#define HWY_COMPILE_ONLY_SCALAR
#define FOVEA_ISA_NAMESPACE isa_amx_emulated
#define FOVEA_TILES EmulatedTiles
#include "fovea/kernels/mma/emulated_tiles-inl.h"
//
#include "fovea/kernels/isa/engine-inl.h"

namespace fovea::kernels {

extern const Engine kAmxEmulatedEngine;
const Engine kAmxEmulatedEngine = {.name = "amx_emulated",
                                   .isa = Isa::kAmxEmulated,
                                   .flags = FOVEA_ENGINE_FLAGS,
                                   .bf16 = &isa_amx_emulated::kAttentionKernels<BFloat16>,
                                   .f32_medium = &isa_amx_emulated::kAttentionKernels<BFloat16>,
                                   .f32_high = &isa_amx_emulated::kAttentionKernels<SplitBf16>};

}  // namespace fovea::kernels
