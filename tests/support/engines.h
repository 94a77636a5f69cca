#pragma once

#include <cstdlib>
#include <optional>
#include <string>
#include <vector>

#include "fovea/core/cpu_features.h"
#include "fovea/core/float32_precision.h"
#include "fovea/core/parallel.h"
#include "fovea/core/tensor_view.h"

namespace fovea::testing {

/// Instruction sets that have an engine of their own and that this machine can run.
inline std::vector<Isa> runnable_isas() {
  std::vector<Isa> isas;
#if defined(__x86_64__)
  isas.push_back(Isa::kAmxEmulated);
#endif
  for (const Isa isa :
       {Isa::kScalar, Isa::kNeon, Isa::kAvx2, Isa::kAvx512, Isa::kAvx512Bf16, Isa::kAmx}) {
    if (cpu_features().supports(isa)) isas.push_back(isa);
  }
  return isas;
}

/// Whether problems of this storage type and precision run on an engine of this very level.
inline bool has_own_engine(Isa isa, DType dtype, Float32Precision precision) {
  if (dtype == DType::kF64) return isa == Isa::kScalar;
  if (dtype == DType::kF32 && precision != Float32Precision::kHighest) {
    return isa == Isa::kAmxEmulated || isa >= Isa::kAvx512Bf16;
  }
  if (dtype != DType::kBF16) return isa != Isa::kAmxEmulated && isa <= Isa::kAvx512;
  return true;
}

/// What the matrix unit's operands are made of.
enum class Operands { kStored, kBf16, kSplitBf16 };

inline Operands operands_of(Isa isa, DType dtype, Float32Precision precision) {
  const bool tiles = isa == Isa::kAmxEmulated || isa == Isa::kAmx;
  if (dtype == DType::kF32 && precision == Float32Precision::kHigh && tiles) {
    return Operands::kSplitBf16;
  }
  bool bf16 = tiles || isa == Isa::kAvx512Bf16;
  if (dtype == DType::kF32) bf16 &= precision == Float32Precision::kMedium;
  bf16 |= isa == Isa::kScalar && dtype == DType::kBF16;  // emulated
  return bf16 && (dtype == DType::kF32 || dtype == DType::kBF16) ? Operands::kBf16
                                                                 : Operands::kStored;
}

/// Forces an engine through FOVEA_MAX_ISA while it lives.
class ForcedIsa {
 public:
  explicit ForcedIsa(Isa isa) {
    if (const char* value = std::getenv("FOVEA_MAX_ISA")) before_ = value;
    setenv("FOVEA_MAX_ISA", name_of(isa), 1);
  }
  ~ForcedIsa() {
    before_ ? setenv("FOVEA_MAX_ISA", before_->c_str(), 1) : unsetenv("FOVEA_MAX_ISA");
  }

 private:
  std::optional<std::string> before_;
};

class ForcedThreads {
 public:
  explicit ForcedThreads(int n) : before_(num_threads()) { set_num_threads(n); }
  ~ForcedThreads() { set_num_threads(before_); }

 private:
  int before_;
};

}  // namespace fovea::testing
