#pragma once

// What every engine file ends with: its tables, filled from the bodies that it included, and the
// register-only loop that measures its peak.

#include <chrono>

#include "fovea/kernels/attention/backward-inl.h"
#include "fovea/kernels/attention/decode-inl.h"
#include "fovea/kernels/attention/forward-inl.h"
#include "fovea/kernels/attention/statistics-inl.h"
#include "fovea/kernels/linear/backward-inl.h"
#include "fovea/kernels/linear/forward-inl.h"
#include "fovea/kernels/linear/step-inl.h"

HWY_BEFORE_NAMESPACE();
namespace fovea::kernels {
namespace FOVEA_ISA_NAMESPACE {
namespace {

template <typename T, typename Op = T>
constexpr LinearKernels<T> kLinearKernels = {linear_forward<T, Op>, linear_step<T>,
                                             linear_backward<T, Op>};

template <typename Op>
void configure_unit() {
  if constexpr (MatrixUnit<Op>::kTiles) MatrixUnit<Op>::configure();
}

template <typename Op>
void release_unit() {
  if constexpr (MatrixUnit<Op>::kTiles) MatrixUnit<Op>::release();
}

/// GFLOP per second of `round`, which does `flop` of them.
template <typename Round>
HWY_INLINE double measure_rounds(double seconds, double flop, const Round& round) {
  constexpr int64_t kRounds = 20000;
  int64_t rounds = 0;
  double elapsed = 0;
  const auto start = std::chrono::steady_clock::now();
  do {
    for (int64_t i = 0; i < kRounds; ++i) round();
    rounds += kRounds;
    elapsed = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  } while (elapsed < seconds);
  return flop * static_cast<double>(rounds) / elapsed / 1e9;
}

/// Independent multiply-adds on registers: more chains than latency times issue width.
template <typename Op, typename T = SumOf<Op>>
double measure_lanes(double seconds) {
  using Unit = MatrixUnit<Op>;
  const Tag<T> d;
  constexpr int kChains = HWY_TARGET == HWY_AVX3 ? 24 : 12;
  alignas(64) Op ones[kLanesOf<T> * kDepthOf<Op>];
  for (Op& one : ones) one = static_cast<Op>(1.0f);
  const auto a = Unit::load(ones), b = Unit::load(ones);
  Vec<T> acc[kChains];
#pragma GCC unroll 32
  for (int i = 0; i < kChains; ++i) acc[i] = hn::Set(d, static_cast<T>(1 + i));
  constexpr double kFlop = 2.0 * kLanesOf<T> * kDepthOf<Op> * kChains;
  const double gflops = measure_rounds(seconds, kFlop, [&]() HWY_ATTR {
#pragma GCC unroll 32
    for (int j = 0; j < kChains; ++j) acc[j] = Unit::multiply_add(a, b, acc[j]);
  });
  auto sum = acc[0];
  for (int i = 1; i < kChains; ++i) sum = hn::Add(sum, acc[i]);
  volatile T sink = hn::GetLane(sum);  // the loop must not be removed
  (void)sink;
  return gflops;
}

template <typename Op>
double measure_peak(double seconds) {
  if constexpr (MatrixUnit<Op>::kTiles) {
    using Unit = MatrixUnit<Op>;
    Unit::configure();
    const double gflops = measure_rounds(seconds, Unit::kPeakFlop, [] { Unit::peak_round(); });
    Unit::release();
    return gflops;
  } else {
    return measure_lanes<Op>(seconds);
  }
}

template <typename Op>
constexpr AttentionKernels<Op> kAttentionKernels = {
    MatrixUnit<Op>::kTiles ? MatrixUnit<Op>::kStep : 1,
    configure_unit<Op>,
    release_unit<Op>,
    load_rows<Op>,
    store_rows<SumOf<Op>>,
    MatrixUnit<Op>::pack_columns,
    transpose<SumOf<Op>>,
    stored_row_dots<SumOf<Op>>,
    add<SumOf<Op>>,
    forward_begin<Op>,
    forward_keys<Op>,
    forward_end<Op>,
    decode_keys<SumOf<Op>>,
    backward_begin<Op>,
    backward_keys<Op>,
    add_statistics<Op>,
    measure_peak<Op>};

}  // namespace
}  // namespace FOVEA_ISA_NAMESPACE
}  // namespace fovea::kernels
HWY_AFTER_NAMESPACE();
