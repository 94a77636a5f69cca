#pragma once

#include <cmath>
#include <string>
#include <vector>

#include "tests/support/attention_problem.h"
#include "tests/support/engines.h"
#include "tests/support/tolerance.h"
#include <gtest/gtest.h>

namespace fovea::testing {

inline void expect_near(const char* what, const Tensor& got, const std::vector<double>& wanted,
                        double tolerance) {
  const std::vector<double> values = got.values();
  ASSERT_EQ(values.size(), wanted.size()) << what;
  for (size_t i = 0; i < values.size(); ++i) {
    if (wanted[i] == values[i]) continue;  // also equal infinities
    ASSERT_LE(std::fabs(values[i] - wanted[i]), tolerance)
        << what << " element " << i << ": " << values[i] << ", oracle " << wanted[i];
  }
}

/// The oracle's gradient of a dense bias, summed over the extents that broadcast.
inline std::vector<double> reduced_bias_gradient(const CaseTensors& t,
                                                 const std::vector<double>& whole) {
  const AttentionCase& c = t.c;
  const int64_t* shape = t.d_bias.view().shape;
  std::vector<double> sums(static_cast<size_t>(shape[0] * shape[1] * shape[2] * shape[3]));
  size_t i = 0;
  for (int64_t b = 0; b < c.batch; ++b) {
    for (int64_t h = 0; h < c.heads; ++h) {
      for (int64_t q = 0; q < c.q_len; ++q) {
        for (int64_t k = 0; k < c.kv_len; ++k) {
          const int64_t row =
              ((c.bias_batch ? b : 0) * shape[1] + (c.bias_heads ? h : 0)) * shape[2] +
              (c.bias_queries ? q : 0);
          sums[static_cast<size_t>(row * c.kv_len + k)] += whole[i++];
        }
      }
    }
  }
  return sums;
}

/// What the oracle says about a case.
struct Expected {
  explicit Expected(const CaseTensors& t) {
    const reference::Problem p = t.oracle();
    const std::vector<double> d_o = t.d_o.values();
    forward = reference::attention_forward(p);
    if (t.c.backward) {
      backward = reference::attention_backward(
          p, d_o, t.with_d_lse ? t.d_lse.values() : std::vector<double>{});
    }
    for (const Operands operands : {Operands::kStored, Operands::kBf16, Operands::kSplitBf16}) {
      tolerance[static_cast<int>(operands)] = tolerances(t, p, forward, backward, d_o, operands);
    }
  }
  const Tolerances& tolerance_of(Operands operands) const {
    return tolerance[static_cast<int>(operands)];
  }
  reference::Forward forward;
  reference::Backward backward;
  Tolerances tolerance[3];
};

/// Runs the case on the engine of `isa`, which is forced, and compares everything with the oracle.
inline void check(const CaseTensors& t, const Expected& expected, Isa isa) {
  const Tolerances& tolerance = expected.tolerance_of(
      t.c.additive ? Operands::kStored : operands_of(isa, t.c.dtype, t.c.precision));
  const Status status = attention_forward(t.problem(), t.outputs());
  ASSERT_TRUE(status.ok()) << status.message();
  expect_near("o", t.o, expected.forward.o, tolerance.o);
  expect_near("lse", t.lse, expected.forward.lse, tolerance.lse);
  const AttentionStatistics statistics = {t.row_entropy.view(), t.column_mass.view()};
  const Status also = attention_statistics(t.problem(), t.outputs(), statistics);
  ASSERT_TRUE(also.ok()) << also.message();
  expect_near("row_entropy", t.row_entropy, expected.forward.row_entropy, tolerance.row_entropy);
  expect_near("column_mass", t.column_mass, expected.forward.column_mass, tolerance.column_mass);
  if (!t.c.backward) return;
  const Status back = attention_backward(t.problem(), t.outputs(), t.gradients());
  ASSERT_TRUE(back.ok()) << back.message();
  expect_near("d_q", t.d_q, expected.backward.d_q, tolerance.d_q);
  expect_near("d_k", t.d_k, expected.backward.d_k, tolerance.d_k);
  expect_near("d_v", t.d_v, expected.backward.d_v, tolerance.d_v);
  if (t.c.bias) {
    expect_near("d_bias", t.d_bias, reduced_bias_gradient(t, expected.backward.d_bias),
                tolerance.d_bias);
  }
  if (t.c.distance >= 0) {
    expect_near("d_distance_bias", t.d_distance_bias, expected.backward.d_distance_bias,
                tolerance.by_row);
  }
  if (t.c.additive) {
    expect_near("d_additive", t.d_additive, expected.backward.d_additive, tolerance.by_row);
  }
  for (size_t h = 0; h < t.d_scales.size(); ++h) {
    ASSERT_NEAR(t.d_scales[h], expected.backward.d_scales[h], tolerance.d_scales)
        << "d_scales " << h;
  }
  for (size_t h = 0; h < t.d_sinks.size(); ++h) {
    ASSERT_NEAR(t.d_sinks[h], expected.backward.d_sinks[h], tolerance.by_row) << "d_sinks " << h;
  }
}

/// On every engine of the machine (of f64 there is one).
inline void check_on_every_engine(const CaseTensors& t) {
  const Expected expected(t);
  for (const Isa isa : runnable_isas()) {
    if (!has_own_engine(isa, t.c.dtype, t.c.precision)) continue;
    const ForcedIsa forced(isa);
    SCOPED_TRACE(t.c.to_string() + " on " + name_of(isa));
    check(t, expected, isa);
    if (::testing::Test::HasFatalFailure()) return;
  }
}

}  // namespace fovea::testing
