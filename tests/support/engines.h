#pragma once

#include <cstdlib>
#include <optional>
#include <string>
#include <vector>

#include "fovea/core/cpu_features.h"
#include "fovea/core/parallel.h"
#include "fovea/core/tensor_view.h"

namespace fovea::testing {

/// Instruction sets that have an engine of their own and that this machine can run.
inline std::vector<Isa> runnable_isas() {
  std::vector<Isa> isas;
#if defined(__x86_64__)
  isas.push_back(Isa::kAmxEmulated);
#endif
  for (const Isa isa : {Isa::kScalar, Isa::kAvx2, Isa::kAvx512, Isa::kAvx512Bf16, Isa::kAmx}) {
    if (cpu_features().supports(isa)) isas.push_back(isa);
  }
  return isas;
}

/// Whether problems of this storage type run on an engine of this very level.
inline bool has_own_engine(Isa isa, DType dtype) {
  if (dtype == DType::kF64) return isa == Isa::kScalar;
  if (dtype != DType::kBF16) return isa != Isa::kAmxEmulated && isa <= Isa::kAvx512;
  return true;
}

/// Whether problems of this storage type run on a matrix unit of bf16 operands.
inline bool has_bf16_operands(Isa isa, DType dtype) {
#if defined(__x86_64__)
  if (isa <= Isa::kAmxEmulated) return dtype == DType::kBF16;  // emulated
#endif
  return dtype == DType::kBF16 && isa >= Isa::kAvx512Bf16;
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
