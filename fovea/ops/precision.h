#pragma once

#include "fovea/core/float32_precision.h"

namespace fovea::ops {

/// What torch lets the products of float32 be computed in on a CPU, now: by its newer interface
/// (torch.backends.mkldnn.matmul.fp32_precision and what that inherits: bf16 is medium, tf32 high)
/// where that says something, else by torch.set_float32_matmul_precision(). Never throws, though
/// torch's own getter does once both were used.
Float32Precision float32_precision();

}  // namespace fovea::ops
