// What torch's two interfaces say of the products of float32.

#include "fovea/ops/precision.h"

#include <ATen/Context.h>
#include <gtest/gtest.h>

namespace fovea::ops {
namespace {

class Precision : public ::testing::Test {
 protected:
  void TearDown() override { at::globalContext().setFloat32MatmulPrecision("highest"); }
};

TEST_F(Precision, FollowsTheOlderInterface) {
  EXPECT_EQ(float32_precision(), Float32Precision::kHighest);
  for (const auto precision : {Float32Precision::kMedium, Float32Precision::kHigh}) {
    at::globalContext().setFloat32MatmulPrecision(name_of(precision));
    EXPECT_EQ(float32_precision(), precision) << name_of(precision);
  }
}

/// Of torch versions whose newer interface takes enumerators.
template <typename Context>
void check_newer() {
  if constexpr (requires { &Context::setFloat32Precision; }) {
    const auto set = [](const auto& choose) {
      const auto call = [&]<typename Backend, typename Op, typename Setting>(
                            void (Context::*method)(Backend, Op, Setting)) {
        (at::globalContext().*method)(Backend::MKLDNN, Op::MATMUL, choose(Setting{}));
      };
      call(&Context::setFloat32Precision);
    };
    set([]<typename S>(S) { return S::BF16; });
    EXPECT_EQ(float32_precision(), Float32Precision::kMedium);
    set([]<typename S>(S) { return S::TF32; });
    EXPECT_EQ(float32_precision(), Float32Precision::kHigh);
    // Torch's own getter throws now.
    at::globalContext().setFloat32MatmulPrecision("medium");
    set([]<typename S>(S) { return S::IEEE; });
    EXPECT_NO_THROW(EXPECT_EQ(float32_precision(), Float32Precision::kHighest));
    set([]<typename S>(S) { return S::NONE; });
  }
}

TEST_F(Precision, PrefersTheNewerInterface) { check_newer<at::Context>(); }

}  // namespace
}  // namespace fovea::ops
