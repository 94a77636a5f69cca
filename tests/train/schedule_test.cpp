#include "fovea/train/schedule.h"

#include <cmath>

#include <gtest/gtest.h>

#include "fovea/core/status.h"

namespace fovea::train {
namespace {

TEST(Schedule, WarmupRisesByEqualStepsToThePeak) {
  for (const Schedule s :
       {Schedule::kLinear, Schedule::kCosine, Schedule::kInverseSqrt, Schedule::kConstant}) {
    EXPECT_DOUBLE_EQ(schedule_factor(s, 0, 4, 20), 0.25);
    EXPECT_DOUBLE_EQ(schedule_factor(s, 1, 4, 20), 0.50);
    EXPECT_DOUBLE_EQ(schedule_factor(s, 3, 4, 20), 1.00);
    EXPECT_DOUBLE_EQ(schedule_factor(s, 4, 4, 20), 1.00);
  }
}

TEST(Schedule, LinearFallsToZero) {
  EXPECT_DOUBLE_EQ(schedule_factor(Schedule::kLinear, 8, 4, 20), 0.75);
  EXPECT_DOUBLE_EQ(schedule_factor(Schedule::kLinear, 12, 4, 20), 0.5);
  EXPECT_DOUBLE_EQ(schedule_factor(Schedule::kLinear, 20, 4, 20), 0);
  EXPECT_DOUBLE_EQ(schedule_factor(Schedule::kLinear, 25, 4, 20), 0);
}

TEST(Schedule, CosineIsHalfWayAtHalfTime) {
  EXPECT_DOUBLE_EQ(schedule_factor(Schedule::kCosine, 12, 4, 20), 0.5);
  // 60 degrees: (1 + 1/2) / 2.
  EXPECT_NEAR(schedule_factor(Schedule::kCosine, 4 + 16.0 / 3, 4, 20), 0.75, 1e-15);
  EXPECT_NEAR(schedule_factor(Schedule::kCosine, 20, 4, 20), 0, 1e-15);
}

TEST(Schedule, InverseSqrtHalvesWhenUpdatesQuadruple) {
  EXPECT_DOUBLE_EQ(schedule_factor(Schedule::kInverseSqrt, 16, 4, 1000), 0.5);
  EXPECT_DOUBLE_EQ(schedule_factor(Schedule::kInverseSqrt, 36, 4, 1000), 1.0 / 3);
  EXPECT_DOUBLE_EQ(schedule_factor(Schedule::kInverseSqrt, 3, 0, 1000), 0.5);
}

TEST(Schedule, ConstantStays) {
  EXPECT_DOUBLE_EQ(schedule_factor(Schedule::kConstant, 999, 4, 20), 1);
}

TEST(Schedule, UnknownNameIsRefused) {
  EXPECT_EQ(parse_schedule("inverse_sqrt"), Schedule::kInverseSqrt);
  EXPECT_THROW(parse_schedule("exponential"), InputError);
}

}  // namespace
}  // namespace fovea::train
