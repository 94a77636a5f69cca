#pragma once

#include <cstdint>
#include <functional>

#include "fovea/io/json.h"

namespace fovea::cli {

/// How often to repeat what is timed: at least `repeats` calls and `seconds`.
struct TimingOptions {
  int repeats = 10;
  double seconds = 0.5;
};

struct Timing {
  double first_ms, min_ms, median_ms, spread;  ///< spread: (75th - 25th percentile) / median

  /// The fields ms_min, ms_median, ms_first and spread.
  void add_to(io::Json& row) const;
};

/// Calls once for `first_ms`, once more to warm up, then as `options` say.
Timing time_call(const std::function<void()>& call, const TimingOptions& options);

/// Largest resident set since reset_peak_bytes(), or since the start where it cannot be reset.
int64_t peak_bytes();
void reset_peak_bytes();

}  // namespace fovea::cli
