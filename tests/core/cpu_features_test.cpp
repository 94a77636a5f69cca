#include "fovea/core/cpu_features.h"

#include <cstdlib>

#include <gtest/gtest.h>

#include "fovea/core/status.h"

namespace fovea {
namespace {

TEST(CpuFeatures, NamesRoundTrip) {
  for (int i = 0; i < kIsaCount; ++i) {
    EXPECT_EQ(parse_isa(name_of(static_cast<Isa>(i))), static_cast<Isa>(i));
  }
  EXPECT_THROW((void)parse_isa("avx1024"), InputError);
}

TEST(CpuFeatures, EnvironmentCapsTheLevel) {
  const char* old = std::getenv("FOVEA_MAX_ISA");
  const std::string saved = old ? old : "";
  setenv("FOVEA_MAX_ISA", "scalar", 1);
  EXPECT_EQ(max_isa(), Isa::kScalar);
  setenv("FOVEA_MAX_ISA", "avx2", 1);
  EXPECT_LE(max_isa(), Isa::kAvx2);
  setenv("FOVEA_MAX_ISA", "amx_emulated", 1);
  EXPECT_EQ(max_isa(), Isa::kAmxEmulated);
  unsetenv("FOVEA_MAX_ISA");
  EXPECT_NE(max_isa(), Isa::kAmxEmulated) << "only where it is named";
  setenv("FOVEA_MAX_ISA", "nonsense", 1);
  EXPECT_THROW((void)max_isa(), InputError);
  if (old) {
    setenv("FOVEA_MAX_ISA", saved.c_str(), 1);
  } else {
    unsetenv("FOVEA_MAX_ISA");
  }
}

}  // namespace
}  // namespace fovea
