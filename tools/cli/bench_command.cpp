#include <algorithm>
#include <chrono>
#include <cstdio>
#include <fstream>
#include <numeric>
#include <random>
#include <sstream>
#include <string>
#include <vector>

#include "tools/cli/commands.h"
#include <nlohmann/json.hpp>
#include <sys/resource.h>
#include <unistd.h>

#include "fovea/attention/attention.h"
#include "fovea/attention/attention_case.h"
#include "fovea/core/cpu_features.h"
#include "fovea/core/parallel.h"
#include "fovea/core/status.h"
#include "fovea/kernels/attention/engine.h"

namespace fovea::cli {
namespace {

using Json = nlohmann::ordered_json;

struct BenchOptions {
  std::vector<std::string> cases;
  std::vector<std::string> files;
  int repeats = 10;
  double seconds = 0.5;
  bool json = false;
};

/// Case ids of a file: one a line, `#` starts a comment.
void read_cases(const std::string& path, std::vector<std::string>* cases) {
  std::ifstream in(path);
  if (!in) throw InputError(path + ": cannot be read; expected a file of case ids, one a line");
  for (std::string line; std::getline(in, line);) {
    line.erase(std::min(line.find('#'), line.size()));
    std::istringstream words(line);
    for (std::string word; words >> word;) cases->push_back(word);
  }
}

/// Largest resident set since reset_peak_bytes(), or since the start where it cannot be reset.
int64_t peak_bytes() {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with("VmHWM:")) return std::atoll(line.c_str() + 6) * 1024;
  }
  rusage usage;
  getrusage(RUSAGE_SELF, &usage);
  return int64_t{usage.ru_maxrss} * 1024;
}

void reset_peak_bytes() { std::ofstream("/proc/self/clear_refs") << "5"; }

/// Normally distributed values in the case's storage type.
class Operand {
 public:
  Operand(const AttentionCase& c, int64_t heads, int64_t len, int64_t dim, uint32_t seed)
      : bytes_(static_cast<size_t>(c.batch * heads * len * dim * size_of(c.dtype))) {
    view_ = contiguous_view(bytes_.data(), c.dtype, c.batch, heads, len, dim);
    if (c.bshd) {
      view_.strides[0] = len * heads * dim;
      view_.strides[1] = dim;
      view_.strides[2] = heads * dim;
    }
    std::minstd_rand random(seed);
    std::normal_distribution<float> normal;
    const int64_t count = c.batch * heads * len * dim;
    for (int64_t i = 0; i < count; ++i) {
      const float x = normal(random);
      if (c.dtype == DType::kF64) static_cast<double*>(view_.data)[i] = x;
      if (c.dtype == DType::kF32) static_cast<float*>(view_.data)[i] = x;
      if (c.dtype == DType::kBF16) static_cast<BFloat16*>(view_.data)[i] = BFloat16(x);
    }
  }
  const TensorView& view() const { return view_; }

 private:
  std::vector<char> bytes_;
  TensorView view_;
};

/// Gigaflops of register-only multiply-adds of the engine's instruction set on all threads: for
/// each the best of many short slices, of which other work on the machine can disturb some.
double measure_peak(const kernels::Engine& engine) {
  std::vector<double> best(static_cast<size_t>(num_threads()));
  for (int slice = 0; slice < 50; ++slice) {
    parallel_for(num_threads(), [&](int64_t task, int) {
      double& gflops = best[static_cast<size_t>(task)];
      gflops = std::max(gflops, engine.measure_peak(0.002));
    });
  }
  return std::accumulate(best.begin(), best.end(), 0.0);
}

struct Timing {
  double first_ms, min_ms, median_ms, spread;  ///< spread: (75th - 25th percentile) / median
};

template <typename Call>
Timing time_call(const Call& call, const BenchOptions& options) {
  const auto once = [&] {
    const auto start = std::chrono::steady_clock::now();
    call();
    return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start)
        .count();
  };
  Timing timing;
  timing.first_ms = once();
  once();
  std::vector<double> ms;
  double total = 0;
  while (static_cast<int>(ms.size()) < options.repeats ||
         (total < options.seconds * 1e3 && ms.size() < 100000)) {
    ms.push_back(once());
    total += ms.back();
  }
  std::sort(ms.begin(), ms.end());
  const size_t n = ms.size();
  timing.min_ms = ms[0];
  timing.median_ms = ms[n / 2];
  timing.spread = (ms[3 * n / 4] - ms[n / 4]) / timing.median_ms;
  return timing;
}

Json bench_attention(const AttentionCase& c, const BenchOptions& options, double peak_gflops,
                     const kernels::Engine& engine) {
  reset_peak_bytes();
  const Operand q(c, c.heads, c.q_len, c.head_dim, 1), k(c, c.kv_heads, c.kv_len, c.head_dim, 2);
  const Operand v(c, c.kv_heads, c.kv_len, c.value_dim, 3);
  const Operand o(c, c.heads, c.q_len, c.value_dim, 4);
  AttentionCase lse_case = c;
  if (c.dtype != DType::kF64) lse_case.dtype = DType::kF32;
  const Operand lse(lse_case, c.heads, c.q_len, 1, 5);
  const CaseInputs inputs(c);

  AttentionProblem problem;
  problem.q = q.view();
  problem.k = k.view();
  problem.v = v.view();
  problem.dropout_p = c.dropout_percent / 100.0;
  problem.dropout_seed = 1;
  const AttentionOutputs outputs = {o.view(), lse.view()};
  const auto forward = [&] {
    const PlanSet plans = inputs.plans(c);
    problem.plans = &plans;
    throw_if_error(attention_forward(problem, outputs));
  };
  Timing timing;
  double flop = 4;
  if (c.backward) {
    const Operand d_o(c, c.heads, c.q_len, c.value_dim, 6);
    const Operand d_q(c, c.heads, c.q_len, c.head_dim, 7);
    const Operand d_k(c, c.kv_heads, c.kv_len, c.head_dim, 8);
    const Operand d_v(c, c.kv_heads, c.kv_len, c.value_dim, 9);
    const AttentionGradients gradients = {d_o.view(), {}, d_q.view(), d_k.view(), d_v.view()};
    forward();
    timing = time_call(
        [&] {
          const PlanSet plans = inputs.plans(c);
          problem.plans = &plans;
          throw_if_error(attention_backward(problem, outputs, gradients));
        },
        options);
    flop = 10;
  } else {
    timing = time_call(forward, options);
  }
  const double dim =
      c.backward ? 0.6 * static_cast<double>(c.head_dim) + 0.4 * static_cast<double>(c.value_dim)
                 : 0.5 * static_cast<double>(c.head_dim + c.value_dim);
  const double gflop =
      flop * static_cast<double>(inputs.plans(c).pairs(c.batch, c.heads)) * dim / 1e9;

  Json row;
  row["case"] = c.to_string();
  row["engine"] = engine.name;
  row["isa"] = name_of(engine.isa);
  row["threads"] = num_threads();
  row["ms_min"] = timing.min_ms;
  row["ms_median"] = timing.median_ms;
  row["ms_first"] = timing.first_ms;
  row["spread"] = timing.spread;
  row["gflops"] = gflop / timing.median_ms * 1e3;
  row["gflops_best"] = gflop / timing.min_ms * 1e3;
  row["peak_gflops"] = peak_gflops;
  row["peak_percent"] = 100 * gflop / timing.median_ms * 1e3 / peak_gflops;
  row["bytes_peak"] = peak_bytes();
  row["machine"] = cpu_features().model_name;
  row["flags"] = engine.flags;
  return row;
}

void print_table_row(const Json& row) {
  if (row.contains("error")) {
    std::printf("%-60s %s\n", row["case"].get<std::string>().c_str(),
                row["error"].get<std::string>().c_str());
    return;
  }
  std::printf("%-60s %-7s %9.3f %9.3f %7.1f %7.1f %5.1f%% %5.1f%%\n",
              row["case"].get<std::string>().c_str(), row["engine"].get<std::string>().c_str(),
              row["ms_min"].get<double>(), row["ms_median"].get<double>(),
              row["gflops_best"].get<double>(), row["gflops"].get<double>(),
              row["peak_percent"].get<double>(), 100 * row["spread"].get<double>());
}

void run_bench(const BenchOptions& options) {
  std::vector<std::string> ids = options.cases;
  for (const std::string& file : options.files) read_cases(file, &ids);
  if (ids.empty()) {
    throw InputError("bench attention: expected at least one --case or --file, got none");
  }
  std::vector<AttentionCase> cases;
  for (const std::string& id : ids) cases.push_back(AttentionCase::parse(id));

  if (!options.json) {
    std::printf("%s, %d threads\n%-60s %-7s %9s %9s %7s %7s %6s %6s\n",
                cpu_features().model_name.c_str(), num_threads(), "case", "engine", "ms min",
                "median", "GF best", "median", "peak", "spread");
  }
  for (const AttentionCase& c : cases) {
    Json row;
    try {
      const kernels::Engine& engine = kernels::engine_for(c.dtype == DType::kF64);
      // Beside every case, because a machine's clock and its other load drift.
      row = bench_attention(c, options, measure_peak(engine), engine);
    } catch (const Error& error) {
      row = {{"case", c.to_string()}, {"error", error.what()}};
    }
    if (options.json) {
      std::printf("%s\n", row.dump().c_str());
    } else {
      print_table_row(row);
    }
    std::fflush(stdout);
  }
}

void add_bench(CLI::App& app) {
  CLI::App* bench = app.add_subcommand("bench", "Measure speed");
  bench->require_subcommand(1);
  CLI::App* attention = bench->add_subcommand(
      "attention",
      "Time attention on cases such as b1_h12_q2048_k2048_d64_f32_window256_bwd, with the peak of "
      "the instruction set measured beside each");
  static BenchOptions options;
  attention->add_option("--case", options.cases, "Case id; repeatable")->take_all();
  attention->add_option("--file", options.files, "File of case ids, one a line (bench/cases)")
      ->take_all();
  attention->add_option("--repeat", options.repeats, "Least number of timed calls")
      ->check(CLI::Range(1, 1000000));
  attention->add_option("--seconds", options.seconds, "Least time to spend on a case")
      ->check(CLI::Range(0.0, 3600.0));
  attention->add_flag("--json", options.json, "One JSON object a case");
  attention->callback([] { run_bench(options); });
}

const Registration registration("bench", add_bench);

}  // namespace
}  // namespace fovea::cli
