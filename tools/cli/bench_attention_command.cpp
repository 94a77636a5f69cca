#include <algorithm>
#include <cmath>
#include <cstdio>
#include <fstream>
#include <memory>
#include <numeric>
#include <random>
#include <sstream>
#include <string>
#include <type_traits>
#include <vector>

#include "tools/cli/bench_group.h"
#include "tools/cli/commands.h"

#include "fovea/attention/attention.h"
#include "fovea/attention/attention_case.h"
#include "fovea/attention/linear_attention.h"
#include "fovea/core/cpu_features.h"
#include "fovea/core/parallel.h"
#include "fovea/core/status.h"
#include "fovea/kernels/attention/engine.h"

namespace fovea::cli {
namespace {

using io::Json;

struct BenchOptions {
  std::vector<std::string> cases;
  std::vector<std::string> files;
  TimingOptions timing;
  bool json = false, linear = false;
  std::string recurrence = "additive";
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
      if (c.dtype == DType::kF16) static_cast<Float16*>(view_.data)[i] = Float16(x);
    }
  }
  const TensorView& view() const { return view_; }

 private:
  std::vector<char> bytes_;
  TensorView view_;
};

/// Memory for the gradients of a case's score modifications.
class ModGradients {
 public:
  ModGradients(const AttentionCase& c, const ScoreMod& mod, AttentionGradients* gradients) {
    const DType type = c.dtype == DType::kF64 ? DType::kF64 : DType::kF32;
    const auto like = [&](const TensorView& bias, std::vector<char>* bytes) {
      const int64_t* n = bias.shape;
      bytes->resize(static_cast<size_t>(n[0] * n[1] * n[2] * n[3] * size_of(type)));
      return contiguous_view(bytes->data(), type, n[0], n[1], n[2], n[3]);
    };
    if (c.bias) gradients->d_bias = like(mod.bias, &bias_);
    if (c.distance >= 0) gradients->d_distance_bias = like(mod.distance_bias, &distance_bias_);
    sinks_.resize(static_cast<size_t>(c.heads));
    if (c.sinks) gradients->d_sinks = sinks_.data();
    scales_.resize(static_cast<size_t>(c.heads));
    if (c.scales) gradients->d_scales = scales_.data();
  }

 private:
  std::vector<char> bias_, distance_bias_;
  std::vector<double> sinks_, scales_;
};

/// Gigaflops of register-only multiply-adds of the matrix unit that runs this storage type, on all
/// threads: for each the best of many short slices, of which other work can disturb some.
double measure_peak(const kernels::Engine& engine, DType dtype, Float32Precision precision) {
  std::vector<double> best(static_cast<size_t>(num_threads()));
  for (int slice = 0; slice < 50; ++slice) {
    parallel_for(num_threads(), [&](int64_t task, int) {
      double& gflops = best[static_cast<size_t>(task)];
      engine.with_kernels(dtype, precision, [&](const auto& kernels) {
        gflops = std::max(gflops, kernels.measure_peak(0.002));
      });
    });
  }
  return std::accumulate(best.begin(), best.end(), 0.0);
}

struct Measured {
  Timing timing;
  double gflop;
};

/// Turns normal values into logarithms of decays, or into shares in (0, 1).
template <typename F>
void map_values(const TensorView& x, const F& f) {
  const int64_t count = x.shape[0] * x.shape[1] * x.shape[2] * x.shape[3];
  for (int64_t i = 0; i < count; ++i) {
    if (x.dtype == DType::kF64) {
      auto& value = static_cast<double*>(x.data)[i];
      value = f(value);
    } else {
      auto& value = static_cast<float*>(x.data)[i];
      value = static_cast<float>(f(value));
    }
  }
}

/// Keys of about norm 1, with which delta writes stay bounded.
void shrink(const TensorView& k) {
  const double factor = 1 / std::sqrt(static_cast<double>(k.shape[3]));
  const int64_t count = k.shape[0] * k.shape[1] * k.shape[2] * k.shape[3];
  const auto each = [&](auto* values) {
    using T = std::remove_reference_t<decltype(*values)>;
    for (int64_t i = 0; i < count; ++i) {
      values[i] = static_cast<T>(static_cast<float>(factor) * static_cast<float>(values[i]));
    }
  };
  if (k.dtype == DType::kF64) each(static_cast<double*>(k.data));
  if (k.dtype == DType::kF32) each(static_cast<float*>(k.data));
  if (k.dtype == DType::kBF16) each(static_cast<BFloat16*>(k.data));
  if (k.dtype == DType::kF16) each(static_cast<Float16*>(k.data));
}

/// What a recurrence other than the additive one reads beside q, k, v.
struct Recurrence {
  Recurrence(const AttentionCase& wide, const std::string& name)
      : channels(name == "channel" ? wide.head_dim : 1),
        decays(name == "step" || name == "channel" || name == "gated_delta"),
        delta(name == "delta" || name == "gated_delta"),
        decay(wide, wide.heads, wide.kv_len, channels, 10),
        beta(wide, wide.heads, wide.kv_len, 1, 11),
        d_decay(wide, wide.heads, wide.kv_len, channels, 12),
        d_beta(wide, wide.heads, wide.kv_len, 1, 13) {
    map_values(decay.view(), [](double x) { return -std::fabs(x) / 16; });
    map_values(beta.view(), [](double x) { return 1 / (1 + std::exp(-x)); });
  }
  void add_to(LinearAttentionProblem* problem) const {
    if (decays) problem->decay = decay.view();
    if (delta) problem->beta = beta.view();
    problem->map = FeatureMap::kIdentity;
    problem->normalise = false;
  }
  void add_to(LinearAttentionGradients* gradients) const {
    if (decays) gradients->d_decay = d_decay.view();
    if (delta) gradients->d_beta = d_beta.view();
  }

  int64_t channels;
  bool decays, delta;
  Operand decay, beta, d_decay, d_beta;
};

/// Linear attention on a case whose pattern is full or causal: additive, elu + 1 and normalised, or
/// another recurrence. What counts is the state: 4·D·Dv floating-point operations a step forward,
/// 10·D·Dv backward.
Measured time_linear(const AttentionCase& c, const TimingOptions& options,
                     const std::string& recurrence) {
  if ((c.pattern != "full" && c.pattern != "causal") || c.kv_heads != c.heads) {
    throw InputError(
        "linear attention: expected the pattern full or causal and as many key heads as heads");
  }
  const Operand q(c, c.heads, c.q_len, c.head_dim, 1), k(c, c.heads, c.kv_len, c.head_dim, 2);
  const Operand v(c, c.heads, c.kv_len, c.value_dim, 3), o(c, c.heads, c.q_len, c.value_dim, 4);
  AttentionCase wide = c;
  if (c.dtype != DType::kF64) wide.dtype = DType::kF32;
  const Operand denominator(wide, c.heads, c.q_len, 1, 5);
  LinearAttentionProblem problem;
  problem.q = q.view();
  problem.k = k.view();
  problem.v = v.view();
  problem.causal = c.pattern == "causal";
  const Recurrence extra(wide, recurrence);
  if (recurrence != "additive") extra.add_to(&problem);
  if (extra.delta) shrink(k.view());
  const LinearAttentionOutputs outputs = {o.view(), denominator.view(), {}};
  const auto forward = [&] { throw_if_error(linear_attention_forward(problem, outputs)); };
  const double step = static_cast<double>(c.batch * c.heads * c.head_dim * c.value_dim) / 1e9;
  const auto steps = static_cast<double>(c.q_len + c.kv_len) / 2;
  if (!c.backward) return {time_call(forward, options), 4 * step * steps};
  const Operand d_o(c, c.heads, c.q_len, c.value_dim, 6), d_q(c, c.heads, c.q_len, c.head_dim, 7);
  const Operand d_k(c, c.heads, c.kv_len, c.head_dim, 8), d_v(c, c.heads, c.kv_len, c.value_dim, 9);
  LinearAttentionGradients gradients;
  gradients.d_o = d_o.view();
  gradients.d_q = d_q.view();
  gradients.d_k = d_k.view();
  gradients.d_v = d_v.view();
  if (recurrence != "additive") extra.add_to(&gradients);
  forward();
  return {time_call([&] { throw_if_error(linear_attention_backward(problem, outputs, gradients)); },
                    options),
          10 * step * steps};
}

Measured time_softmax(const AttentionCase& c, const TimingOptions& options) {
  const Operand q(c, c.heads, c.q_len, c.head_dim, 1), k(c, c.kv_heads, c.kv_len, c.head_dim, 2);
  const Operand v(c, c.kv_heads, c.kv_len, c.value_dim, 3);
  const Operand o(c, c.heads, c.q_len, c.value_dim, 4);
  AttentionCase lse_case = c;
  if (c.dtype != DType::kF64) lse_case.dtype = DType::kF32;
  const Operand lse(lse_case, c.heads, c.q_len, 1, 5);
  const CaseInputs inputs(c);
  const CaseScoreMod mod(c, c.dtype);

  AttentionProblem problem;
  problem.q = q.view();
  problem.k = k.view();
  problem.v = v.view();
  problem.score_mod = mod.mod();
  problem.precision = c.precision;
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
    AttentionGradients gradients = {d_o.view(), {}, d_q.view(), d_k.view(), d_v.view()};
    const ModGradients mod_gradients(c, mod.mod(), &gradients);
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
  return {timing, flop * static_cast<double>(inputs.plans(c).pairs(c.batch, c.heads)) * dim / 1e9};
}

Json bench_attention(const AttentionCase& c, const BenchOptions& options, double peak_gflops,
                     const kernels::Engine& engine) {
  reset_peak_bytes();
  const auto [timing, gflop] = options.linear ? time_linear(c, options.timing, options.recurrence)
                                              : time_softmax(c, options.timing);

  Json row;
  row["case"] = c.to_string();
  row["mechanism"] = options.linear ? "linear" : "softmax";
  if (options.linear) row["recurrence"] = options.recurrence;
  row["engine"] = engine.name;
  row["isa"] = name_of(engine.isa);
  row["threads"] = num_threads();
  timing.add_to(row);
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
  std::printf("%-60s %-11s %9.3f %9.3f %7.1f %7.1f %5.1f%% %5.1f%%\n",
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
    std::printf("%s, %d threads\n%-60s %-11s %9s %9s %7s %7s %6s %6s\n",
                cpu_features().model_name.c_str(), num_threads(), "case", "engine", "ms min",
                "median", "GF best", "median", "peak", "spread");
  }
  for (const AttentionCase& c : cases) {
    Json row;
    try {
      // Linear attention of bf16 storage is computed in f32.
      const DType computed = options.linear && c.dtype == DType::kBF16 ? DType::kF32 : c.dtype;
      const auto precision = options.linear ? Float32Precision::kHighest : c.precision;
      const kernels::Engine& engine = kernels::engine_for(computed, precision);
      // Beside every case, because a machine's clock and its other load drift.
      row = bench_attention(c, options, measure_peak(engine, computed, precision), engine);
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

void add_bench_attention(CLI::App& app) {
  auto o = std::make_shared<BenchOptions>();
  CLI::App* command = add_bench_command(
      app, "attention",
      "Time attention on cases such as b1_h12_q2048_k2048_d64_f32_window256_bwd, with the peak of "
      "the instruction set measured beside each",
      o->timing);
  command->add_option("--case", o->cases, "Case id; repeatable")->take_all();
  command->add_option("--file", o->files, "File of case ids, one a line (bench/cases)")->take_all();
  command->add_flag("--json", o->json, "One JSON object a case");
  command->add_flag("--linear", o->linear,
                    "Linear attention (elu + 1, normalised) instead of softmax; patterns full and "
                    "causal");
  command
      ->add_option("--recurrence", o->recurrence,
                   "Of --linear: additive, or with causal cases decays of a step or channel, delta "
                   "or gated_delta writes (features as they are, not normalised)")
      ->check(CLI::IsMember({"additive", "step", "channel", "delta", "gated_delta"}));
  command->callback([o] { run_bench(*o); });
}

const Registration registration("bench attention", add_bench_attention);

}  // namespace
}  // namespace fovea::cli
