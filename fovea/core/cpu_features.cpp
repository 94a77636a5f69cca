#include "fovea/core/cpu_features.h"

#include <cstdlib>
#include <fstream>

#include <unistd.h>
#if defined(__x86_64__)
#include <cpuid.h>
#include <sys/syscall.h>
#endif

#include "fovea/core/status.h"

namespace fovea {
namespace {

constexpr const char* kNames[kIsaCount] = {"scalar", "amx_emulated", "neon", "avx2",
                                           "avx512", "avx512_bf16",  "amx"};

#if defined(__x86_64__)
/// AMX tiles with bf16 products, and the tiles' two states enabled by the operating system (XCR0).
bool detect_amx_bf16() {
  unsigned a, b, c, d;
  if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & bit_OSXSAVE)) return false;
  uint32_t low, high;
  asm("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  constexpr uint32_t kTileStates = 3u << 17;
  if ((low & kTileStates) != kTileStates || !__get_cpuid_count(7, 0, &a, &b, &c, &d)) return false;
  constexpr unsigned kAmxBf16 = 1u << 22, kAmxTile = 1u << 24;
  return (d & kAmxBf16) && (d & kAmxTile);
}

/// Linux grants a process the tiles' 8 KiB of state on request (Documentation/arch/x86/xstate.rst).
bool request_tiles() {
  constexpr long kRequestPermission = 0x1023, kTileData = 18;
  return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
}
#endif

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
  f.amx_bf16 = f.avx512_bf16 && detect_amx_bf16();
#elif defined(__aarch64__)
  f.neon = true;  // a part of AArch64
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
  throw InputError(
      "instruction set \"" + std::string(name) +
      "\" is unknown; expected scalar, neon, avx2, avx512, avx512_bf16, amx or, for tests, "
      "amx_emulated");
}

bool CpuFeatures::supports(Isa isa) const {
  switch (isa) {
    case Isa::kScalar:
      return true;
    case Isa::kNeon:
      return neon;
    case Isa::kAvx2:
      return avx2_fma;
    case Isa::kAvx512:
      return avx512;
    case Isa::kAvx512Bf16:
      return avx512_bf16;
    case Isa::kAmx: {
#if defined(__x86_64__)
      static const bool granted = cpu_features().amx_bf16 && request_tiles();
      return amx_bf16 && granted;
#else
      return false;
#endif
    }
    case Isa::kAmxEmulated:
      return false;
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
  if (limit == Isa::kAmxEmulated) return limit;
  for (int i = static_cast<int>(limit); i > 0; --i) {
    if (cpu_features().supports(static_cast<Isa>(i))) return static_cast<Isa>(i);
  }
  return Isa::kScalar;
}

}  // namespace fovea
