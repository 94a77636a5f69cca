#pragma once

// What every engine file ends with: its tables, filled from the bodies that it included, and the
// register-only loop that measures its peak.

#include <chrono>

#include "fovea/kernels/attention/backward-inl.h"
#include "fovea/kernels/attention/forward-inl.h"
#include "fovea/kernels/linear/backward-inl.h"
#include "fovea/kernels/linear/forward-inl.h"

HWY_BEFORE_NAMESPACE();
namespace fovea::kernels {
namespace FOVEA_ISA_NAMESPACE {
namespace {

template <typename T>
constexpr AttentionKernels<T> kAttentionKernels = {
    load_rows<T>,     store_rows<T>,   transpose<T>,   row_dots<T>,       add<T>,
    forward_begin<T>, forward_keys<T>, forward_end<T>, backward_begin<T>, backward_keys<T>};

template <typename T>
constexpr LinearKernels<T> kLinearKernels = {linear_forward<T>, linear_backward<T>};

/// Independent multiply-adds on registers: more chains than latency times issue width.
double measure_peak(double seconds) {
  const Tag<float> d;
  constexpr int kChains = HWY_TARGET == HWY_AVX3 ? 24 : 12;
  Vec<float> acc[kChains];
#pragma GCC unroll 32
  for (int i = 0; i < kChains; ++i) acc[i] = hn::Set(d, 1.0f + i);
  const auto factor = hn::Set(d, 0.999999f), term = hn::Set(d, 1e-6f);
  constexpr int64_t kRounds = 20000;
  int64_t rounds = 0;
  double elapsed = 0;
  const auto start = std::chrono::steady_clock::now();
  do {
    for (int64_t i = 0; i < kRounds; ++i) {
#pragma GCC unroll 32
      for (int j = 0; j < kChains; ++j) acc[j] = hn::MulAdd(acc[j], factor, term);
    }
    rounds += kRounds;
    elapsed = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  } while (elapsed < seconds);
  auto sum = acc[0];
  for (int i = 1; i < kChains; ++i) sum = hn::Add(sum, acc[i]);
  volatile float sink = hn::GetLane(sum);  // the loop must not be removed
  (void)sink;
  return 2.0 * kLanesOf<float> * kChains * static_cast<double>(rounds) / elapsed / 1e9;
}

}  // namespace
}  // namespace FOVEA_ISA_NAMESPACE
}  // namespace fovea::kernels
HWY_AFTER_NAMESPACE();
