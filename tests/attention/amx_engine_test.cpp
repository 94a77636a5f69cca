// Engine "amx" itself, its very instructions, where the processor has AVX-512 BF16 but no tiles:
// each tile instruction faults, and a signal handler decodes it, has the emulated tiles do it, and
// goes on behind it.

#if defined(__x86_64__)

#include <csignal>
#include <cstring>

#include "tests/support/oracle_check.h"
#include <gtest/gtest.h>
#include <ucontext.h>

#include "fovea/attention/launch.h"
#include "fovea/kernels/mma/emulated_tiles-inl.h"

namespace fovea::kernels {
extern const Engine kAmxEngine;
}

namespace fovea::testing {
namespace {

using kernels::EmulatedTiles;

/// One instruction under VEX with three prefix bytes and the opcode map 0F38.
class TileInstruction {
 public:
  TileInstruction(const ucontext_t& context)
      : registers_(context.uc_mcontext.gregs),
        code_(reinterpret_cast<const uint8_t*>(registers_[REG_RIP])) {}

  /// False for anything else than a tile instruction. Gives the address of the next one.
  bool execute(greg_t* next) {
    if (code_[0] != 0xC4 || (code_[1] & 0x1F) != 2 || (code_[2] & 0x84) != 0) return false;
    const int prefix = code_[2] & 3, opcode = code_[3];
    const int first = code_[4] >> 3 & 7, second = code_[4] & 7, third = ~code_[2] >> 3 & 15;
    const bool in_registers = code_[4] >> 6 == 3;
    size_ = 5;
    if (opcode == 0x49 && prefix == 0) {
      if (in_registers) {
        EmulatedTiles::release();
      } else {
        kernels::TileConfig config;
        std::memcpy(&config, address(), sizeof config);
        EmulatedTiles::configure(config);
      }
    } else if (opcode == 0x49 && prefix == 3 && in_registers) {
      EmulatedTiles::zero(first);
    } else if (opcode == 0x4B && prefix == 3) {
      char* const src = address();
      EmulatedTiles::load(first, src, stride_);
    } else if (opcode == 0x4B && prefix == 2) {
      char* const dst = address();
      EmulatedTiles::store(first, dst, stride_);
    } else if (opcode == 0x5C && prefix == 2 && in_registers) {
      EmulatedTiles::dot(first, second, third);
    } else {
      return false;
    }
    *next = registers_[REG_RIP] + size_;
    return true;
  }

 private:
  /// Base and displacement of the memory operand; the index register is the stride.
  char* address() {
    const int mode = code_[4] >> 6;
    int base = code_[4] & 7;
    if (base == 4) {
      const uint8_t sib = code_[size_++];
      base = sib & 7;
      const int index = (sib >> 3 & 7) | (code_[1] & 0x40 ? 0 : 8);
      if (index != 4) stride_ = general(index) << (sib >> 6);
    } else if (base == 5 && mode == 0) {
      __builtin_trap();  // relative to the instruction: the engine has no such operand
    }
    const int64_t start = general(base | (code_[1] & 0x20 ? 0 : 8));
    int64_t displacement = 0;
    if (mode == 1) displacement = static_cast<int8_t>(code_[size_++]);
    if (mode == 2) {
      int32_t wide;
      std::memcpy(&wide, code_ + size_, sizeof wide);
      displacement = wide;
      size_ += 4;
    }
    return reinterpret_cast<char*>(start + displacement);
  }

  int64_t general(int number) const {
    constexpr int kOrder[16] = {REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP,
                                REG_RSI, REG_RDI, REG_R8,  REG_R9,  REG_R10, REG_R11,
                                REG_R12, REG_R13, REG_R14, REG_R15};
    return registers_[kOrder[number]];
  }

  const greg_t* registers_;
  const uint8_t* code_;
  int size_ = 0;
  ptrdiff_t stride_ = 0;
};

int64_t emulated_instructions = 0;

void emulate(int signal, siginfo_t*, void* context) {
  auto* machine = static_cast<ucontext_t*>(context);
  if (!TileInstruction(*machine).execute(&machine->uc_mcontext.gregs[REG_RIP])) {
    std::signal(signal, SIG_DFL);  // and again
  }
  __atomic_add_fetch(&emulated_instructions, 1, __ATOMIC_RELAXED);
}

/// Tile instructions are emulated while it lives.
class EmulatedInstructions {
 public:
  EmulatedInstructions() {
    struct sigaction action = {};
    action.sa_sigaction = emulate;
    action.sa_flags = SA_SIGINFO;
    sigaction(SIGILL, &action, &before_);
  }
  ~EmulatedInstructions() { sigaction(SIGILL, &before_, nullptr); }

 private:
  struct sigaction before_;
};

class AmxEngine : public ::testing::TestWithParam<const char*> {};

TEST_P(AmxEngine, MatchesOracle) {
  if (!cpu_features().supports(Isa::kAvx512Bf16)) GTEST_SKIP() << "no AVX-512 BF16 beside AMX";
  const CaseTensors t(AttentionCase::parse(GetParam()));
  const Expected expected(t);
  const Tolerances& tolerance =
      expected.tolerance_of(operands_of(Isa::kAmx, t.c.dtype, t.c.precision));
  const AttentionStatistics statistics = {t.row_entropy.view(), t.column_mass.view()};
  {
    const bool native = cpu_features().supports(Isa::kAmx);
    const std::optional<EmulatedInstructions> emulated =
        native ? std::nullopt : std::optional<EmulatedInstructions>(std::in_place);
    const int64_t before = emulated_instructions;
    kernels::kAmxEngine.with_kernels(t.c.dtype, t.c.precision, [&](const auto& kernels) {
      run_forward(t.problem(), t.outputs(), kernels);
      run_statistics(t.problem(), t.outputs(), statistics, kernels);
      run_backward(t.problem(), t.outputs(), t.gradients(), kernels);
    });
    EXPECT_TRUE(native || emulated_instructions > before + 100) << "the engine used no tiles";
  }
  expect_near("o", t.o, expected.forward.o, tolerance.o);
  expect_near("lse", t.lse, expected.forward.lse, tolerance.lse);
  expect_near("row_entropy", t.row_entropy, expected.forward.row_entropy, tolerance.row_entropy);
  expect_near("column_mass", t.column_mass, expected.forward.column_mass, tolerance.column_mass);
  expect_near("d_q", t.d_q, expected.backward.d_q, tolerance.d_q);
  expect_near("d_k", t.d_k, expected.backward.d_k, tolerance.d_k);
  expect_near("d_v", t.d_v, expected.backward.d_v, tolerance.d_v);
}

INSTANTIATE_TEST_SUITE_P(Cases, AmxEngine,
                         ::testing::Values("b1_h2_q70_k70_d64_bf16_full_bwd",
                                           "b1_h1_q131_k131_d40_v24_bf16_causal_bwd",
                                           "b1_h2_kv1_q65_k150_d128_bf16_window20_bwd_drop10",
                                           "b1_h1_q100_k100_d16_v80_bf16_segments_bwd_softcap4",
                                           "b1_h2_q70_k90_d40_f32_causal_bwd_medium",
                                           "b1_h2_q70_k90_d40_f32_causal_bwd_high"));

}  // namespace
}  // namespace fovea::testing

#endif
