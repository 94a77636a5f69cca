#pragma once

#include <chrono>
#include <functional>
#include <string>

#include "fovea/kernels/attention/engine.h"

namespace fovea {

/// Says under FOVEA_VERBOSE=1, when it goes, what a call was, which engine ran it and how long: one
/// line to stderr.
class CallReport {
 public:
  /// `describe` gives the case and its tiles; it is asked only where the line is written.
  CallReport(const kernels::Engine& engine, std::function<std::string()> describe);
  ~CallReport();
  CallReport(const CallReport&) = delete;
  CallReport& operator=(const CallReport&) = delete;

 private:
  const kernels::Engine& engine_;
  std::function<std::string()> describe_;  ///< empty: nothing is said
  std::chrono::steady_clock::time_point start_;
};

/// Sizes as they begin a case id: b1_h2_kv2_q64_k64_d64_v64_bf16.
std::string sizes_text(int64_t batch, int64_t heads, int64_t kv_heads, int64_t q_len,
                       int64_t kv_len, int64_t head_dim, int64_t value_dim, DType dtype);

}  // namespace fovea
