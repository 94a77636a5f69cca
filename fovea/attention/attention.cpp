#include "fovea/attention/attention.h"

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <new>

#include "fovea/attention/conditions.h"
#include "fovea/attention/launch.h"
#include "fovea/core/log.h"

namespace fovea {
namespace {

bool verbose() {
  static const bool value = [] {
    const char* text = std::getenv("FOVEA_VERBOSE");
    return text && *text && std::string_view(text) != "0";
  }();
  return value;
}

/// Times a call and says, under FOVEA_VERBOSE, what it was: one line.
class CallReport {
 public:
  CallReport(const AttentionProblem& problem, const kernels::Engine& engine, const char* direction)
      : problem_(problem), engine_(engine), direction_(direction) {}

  ~CallReport() {
    if (!verbose()) return;
    const double ms =
        std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start_)
            .count();
    const Sizes n(problem_);
    const BlockPlan::Counts& tiles = problem_.plans->plan(0, 0).counts();
    const auto ll = [](int64_t value) { return static_cast<long long>(value); };
    char line[400];
    std::snprintf(line, sizeof line,
                  "attention b%lld_h%lld_kv%lld_q%lld_k%lld_d%d_v%d_%s_%s engine %s threads %d "
                  "plans %zu tiles full %lld banded %lld interval %lld bitmap %lld empty %lld "
                  "ms %.3f",
                  ll(n.batch), ll(n.heads), ll(n.kv_heads), ll(n.q_len), ll(n.kv_len), n.head_dim,
                  n.value_dim, name_of(problem_.q.dtype), direction_, engine_.name, num_threads(),
                  problem_.plans->plans().size(), ll(tiles.full), ll(tiles.banded),
                  ll(tiles.interval), ll(tiles.bitmap), ll(tiles.empty), ms);
    log_info(line);
  }

 private:
  const AttentionProblem& problem_;
  const kernels::Engine& engine_;
  const char* direction_;
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

/// Picks the engine, runs `body` with its table, and turns a failed allocation into a status.
template <typename Body>
Status run(const AttentionProblem& problem, const char* direction, const Body& body) {
  if (problem.q.shape[0] == 0 || problem.q.shape[1] == 0) return {};
  try {
    const kernels::Engine& engine = kernels::engine_for(problem.q.dtype, problem.precision);
    const CallReport report(problem, engine, direction);
    engine.with_kernels(problem.q.dtype, problem.precision, body);
  } catch (const std::bad_alloc&) {
    return {ErrorCode::kFailed, "attention: no memory for the scratch of this problem"};
  } catch (const Error& error) {  // FOVEA_MAX_ISA names no instruction set
    return {error.code(), error.what()};
  }
  return {};
}

}  // namespace

Status attention_forward(const AttentionProblem& problem, const AttentionOutputs& outputs) {
  if (const auto unmet = unmet_conditions(problem, outputs); !unmet.empty()) return invalid(unmet);
  return run(problem, "fwd", [&](const auto& kernels) { run_forward(problem, outputs, kernels); });
}

Status attention_backward(const AttentionProblem& problem, const AttentionOutputs& outputs,
                          const AttentionGradients& gradients) {
  if (const auto unmet = unmet_conditions(problem, outputs, gradients); !unmet.empty()) {
    return invalid(unmet);
  }
  return run(problem, "bwd",
             [&](const auto& kernels) { run_backward(problem, outputs, gradients, kernels); });
}

Status attention_statistics(const AttentionProblem& problem, const AttentionOutputs& outputs,
                            const AttentionStatistics& statistics) {
  if (const auto unmet = unmet_conditions(problem, outputs, statistics); !unmet.empty()) {
    return invalid(unmet);
  }
  return run(problem, "statistics",
             [&](const auto& kernels) { run_statistics(problem, outputs, statistics, kernels); });
}

std::string engine_name(DType dtype, Float32Precision precision) {
  return kernels::engine_for(dtype, precision).name;
}

}  // namespace fovea
