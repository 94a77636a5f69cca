#include "fovea/core/cpu_features.h"

#include <cstdlib>
#include <fstream>

#include <unistd.h>

#include "fovea/core/status.h"

namespace fovea {
namespace {

constexpr const char* kNames[kIsaCount] = {"scalar", "avx2", "avx512", "avx512_bf16", "amx"};

CpuFeatures detect() {
  CpuFeatures f;
  std::ifstream cpuinfo("/proc/cpuinfo");
  std::string flags;
  for (std::string line; std::getline(cpuinfo, line);) {
    const size_t colon = line.find(": ");
    if (colon == std::string::npos) continue;
    if (line.starts_with("model name")) f.model_name = line.substr(colon + 2);
    if (line.starts_with("flags")) {
      flags = ' ' + line.substr(colon + 2) + ' ';
      break;
    }
  }
#if defined(__x86_64__)
  // __builtin_cpu_supports checks the operating system's register state (XCR0) too.
  __builtin_cpu_init();
  f.avx2_fma = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  f.avx512 = f.avx2_fma && __builtin_cpu_supports("avx512f") &&
             __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
             __builtin_cpu_supports("avx512vl");
  f.avx512_bf16 = f.avx512 && flags.find(" avx512_bf16 ") != std::string::npos;
  f.amx_bf16 = f.avx512_bf16 && flags.find(" amx_bf16 ") != std::string::npos;
#endif
  f.l1d_bytes = sysconf(_SC_LEVEL1_DCACHE_SIZE);
  f.l2_bytes = sysconf(_SC_LEVEL2_CACHE_SIZE);
  f.l3_bytes = sysconf(_SC_LEVEL3_CACHE_SIZE);
  return f;
}

}  // namespace

const char* name_of(Isa isa) { return kNames[static_cast<int>(isa)]; }

Isa parse_isa(std::string_view name) {
  for (int i = 0; i < kIsaCount; ++i) {
    if (name == kNames[i]) return static_cast<Isa>(i);
  }
  throw InputError("instruction set \"" + std::string(name) +
                   "\" is unknown; expected scalar, avx2, avx512, avx512_bf16 or amx");
}

bool CpuFeatures::supports(Isa isa) const {
  switch (isa) {
    case Isa::kScalar:
      return true;
    case Isa::kAvx2:
      return avx2_fma;
    case Isa::kAvx512:
      return avx512;
    case Isa::kAvx512Bf16:
      return avx512_bf16;
    case Isa::kAmx:
      return amx_bf16;
  }
  return false;
}

const CpuFeatures& cpu_features() {
  static const CpuFeatures features = detect();
  return features;
}

Isa max_isa() {
  Isa limit = Isa::kAmx;
  if (const char* value = std::getenv("FOVEA_MAX_ISA"); value && *value) limit = parse_isa(value);
  for (int i = static_cast<int>(limit); i > 0; --i) {
    if (cpu_features().supports(static_cast<Isa>(i))) return static_cast<Isa>(i);
  }
  return Isa::kScalar;
}

}  // namespace fovea
