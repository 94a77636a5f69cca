// Engine "scalar": the baseline of the build, for every machine, and the only one that computes in
// double, one lane at a time. Highway's emulated 128-bit vectors are switched off for GCC by
// Highway itself. Its bf16 matrix unit is the emulated one, so that the bodies are tested with bf16
// operands on every machine. Exports its table and nothing else (scripts/check_isa_objects.py).
#define HWY_COMPILE_ONLY_SCALAR
#define FOVEA_ISA_NAMESPACE isa_scalar
#include "fovea/kernels/isa/engine-inl.h"

namespace fovea::kernels {

extern const Engine kScalarEngine;
const Engine kScalarEngine = {.name = "scalar",
                              .isa = Isa::kScalar,
                              .flags = FOVEA_ENGINE_FLAGS,
                              .f32 = &isa_scalar::kAttentionKernels<float>,
                              .f64 = &isa_scalar::kAttentionKernels<double>,
                              .bf16 = &isa_scalar::kAttentionKernels<BFloat16>,
                              .linear_f32 = &isa_scalar::kLinearKernels<float>,
                              .linear_f64 = &isa_scalar::kLinearKernels<double>,
                              .linear_bf16 = &isa_scalar::kLinearKernels<float, BFloat16>};

}  // namespace fovea::kernels
