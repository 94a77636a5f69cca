#include "fovea/attention/attention.h"

#include <new>

#include "fovea/attention/call_report.h"
#include "fovea/attention/conditions.h"
#include "fovea/attention/launch.h"

namespace fovea {
namespace {

/// A call as a case id but for its pattern, of which the plan knows the tiles: those of its first
/// batch element and head.
std::string describe(const AttentionProblem& problem, const char* direction) {
  const Sizes n(problem);
  std::string text = sizes_text(n.batch, n.heads, n.kv_heads, n.q_len, n.kv_len, n.head_dim,
                                n.value_dim, problem.q.dtype) +
                     '_' + direction;
  if (problem.precision != Float32Precision::kHighest) {
    text += std::string("_") + name_of(problem.precision);
  }
  const BlockPlan::Counts& tiles = problem.plans->plan(0, 0).counts();
  const auto add = [&](const char* name, int64_t count) {
    text += ' ' + std::string(name) + ' ' + std::to_string(count);
  };
  add("plans", static_cast<int64_t>(problem.plans->plans().size()));
  add("tiles full", tiles.full);
  add("banded", tiles.banded);
  add("interval", tiles.interval);
  add("bitmap", tiles.bitmap);
  add("empty", tiles.empty);
  return text;
}

/// Picks the engine, runs `body` with its table, and turns a failed allocation into a status.
template <typename Body>
Status run(const AttentionProblem& problem, const char* direction, const Body& body) {
  if (problem.q.shape[0] == 0 || problem.q.shape[1] == 0) return {};
  // Additive scores are no product: matrix units of other operands than f32's do not make them.
  const bool additive = !problem.score_mod.additive.empty();
  const Float32Precision precision = additive ? Float32Precision::kHighest : problem.precision;
  const DType computed =
      additive && problem.q.dtype == DType::kBF16 ? DType::kF32 : problem.q.dtype;
  try {
    const kernels::Engine& engine = kernels::engine_for(computed, precision);
    const CallReport report(engine, [&] { return describe(problem, direction); });
    engine.with_kernels(computed, precision, body);
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
