#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace fovea {

/// Instruction-set levels that engines are built for, weakest first. A level includes those of its
/// machine before it; `kNeon` is AArch64's only. `kAmxEmulated` is the scalar level with emulated
/// tiles: no machine's own, it is there for tests and taken only where FOVEA_MAX_ISA names it.
enum class Isa : uint8_t { kScalar, kAmxEmulated, kNeon, kAvx2, kAvx512, kAvx512Bf16, kAmx };

constexpr int kIsaCount = 7;

/// scalar, amx_emulated, neon, avx2, avx512, avx512_bf16, amx.
const char* name_of(Isa isa);

/// Parses a name; throws InputError that lists the names.
Isa parse_isa(std::string_view name);

/// What the processor and the operating system support together.
struct CpuFeatures {
  std::string model_name;  ///< as the kernel reports it
  bool neon = false;
  bool avx2_fma = false;
  bool avx512 = false;  ///< F, BW, DQ, VL
  bool avx512_bf16 = false;
  bool amx_bf16 = false;  ///< processor and operating system; supports() asks for the permission
  int64_t l1d_bytes = 0, l2_bytes = 0, l3_bytes = 0;

  /// Of kAmx: and Linux lets this process use the tiles, which is asked for on the first call.
  bool supports(Isa isa) const;
};

const CpuFeatures& cpu_features();

/// Strongest level that both the machine supports and FOVEA_MAX_ISA (a level's name) allows.
/// An unknown name in FOVEA_MAX_ISA throws InputError.
Isa max_isa();

}  // namespace fovea
