#include "fovea/train/metrics.h"

#include <cmath>

#include <gtest/gtest.h>

namespace fovea::train {
namespace {

ConfusionMatrix from(const std::vector<std::vector<int>>& counts) {
  ConfusionMatrix m(static_cast<int64_t>(counts.size()));
  for (size_t t = 0; t < counts.size(); ++t) {
    for (size_t p = 0; p < counts.size(); ++p) {
      for (int n = 0; n < counts[t][p]; ++n) {
        m.add(static_cast<int64_t>(t), static_cast<int64_t>(p));
      }
    }
  }
  return m;
}

// Truth in rows: 6 + 2, 1 + 3. Of class 1: TP 3, FP 2, FN 1, TN 6.
TEST(Metrics, TwoClassesByHand) {
  const ConfusionMatrix m = from({{6, 2}, {1, 3}});
  EXPECT_EQ(m.total(), 12);
  EXPECT_DOUBLE_EQ(m.accuracy(), 9.0 / 12);
  EXPECT_DOUBLE_EQ(m.precision(1), 3.0 / 5);
  EXPECT_DOUBLE_EQ(m.recall(1), 3.0 / 4);
  EXPECT_DOUBLE_EQ(m.f1(1), 6.0 / 9);
  EXPECT_DOUBLE_EQ(m.f1(0), 12.0 / 15);
  EXPECT_DOUBLE_EQ(m.macro_f1(), (6.0 / 9 + 12.0 / 15) / 2);
  EXPECT_DOUBLE_EQ(m.micro_f1(), 9.0 / 12);
  // (TP TN - FP FN) / sqrt((TP+FP)(TP+FN)(TN+FP)(TN+FN))
  EXPECT_NEAR(m.mcc(), (3.0 * 6 - 2 * 1) / std::sqrt(5.0 * 4 * 8 * 7), 1e-15);
}

// Example of the definition of R_K with three classes; sums written out.
TEST(Metrics, ThreeClassesByHand) {
  const ConfusionMatrix m = from({{4, 1, 0}, {1, 2, 1}, {0, 0, 3}});
  EXPECT_DOUBLE_EQ(m.accuracy(), 9.0 / 12);
  const double f0 = 8.0 / 10, f1 = 4.0 / 7, f2 = 6.0 / 7;
  EXPECT_DOUBLE_EQ(m.macro_f1(), (f0 + f1 + f2) / 3);
  // n c - sum t p = 12 * 9 - (5*5 + 4*3 + 3*4); n^2 - sum p^2, n^2 - sum t^2.
  EXPECT_NEAR(m.mcc(), (108.0 - 49) / std::sqrt((144.0 - 50) * (144.0 - 50)), 1e-15);
}

TEST(Metrics, ClassesThatNeverOccurDoNotCount) {
  const ConfusionMatrix m = from({{2, 0, 0}, {0, 2, 0}, {0, 0, 0}});
  EXPECT_DOUBLE_EQ(m.macro_f1(), 1);
  EXPECT_DOUBLE_EQ(m.mcc(), 1);
}

TEST(Metrics, APredictedClassWithoutExamplesCounts) {
  const ConfusionMatrix m = from({{1, 0, 1}, {0, 2, 0}, {0, 0, 0}});
  EXPECT_DOUBLE_EQ(m.macro_f1(), (2.0 / 3 + 1 + 0) / 3);
}

TEST(Metrics, OneAnswerForEverythingHasNoCorrelation) {
  const ConfusionMatrix m = from({{5, 0}, {3, 0}});
  EXPECT_DOUBLE_EQ(m.mcc(), 0);
  EXPECT_DOUBLE_EQ(m.precision(1), 0);
  EXPECT_DOUBLE_EQ(m.f1(1), 0);
}

TEST(Metrics, EverythingWrongWithTwoClassesIsMinusOne) {
  EXPECT_DOUBLE_EQ(from({{0, 4}, {4, 0}}).mcc(), -1);
}

TEST(Metrics, NothingIsZero) {
  const ConfusionMatrix m(3);
  EXPECT_EQ(m.accuracy(), 0);
  EXPECT_EQ(m.macro_f1(), 0);
  EXPECT_EQ(m.mcc(), 0);
}

}  // namespace
}  // namespace fovea::train
