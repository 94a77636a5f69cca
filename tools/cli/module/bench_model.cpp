#include <cstdio>

#include "tools/cli/module/module_commands.h"
#include "tools/cli/timing.h"
#include <ATen/ops/cross_entropy_loss.h>
#include <ATen/ops/full.h>
#include <ATen/ops/randint.h>
#include <c10/core/InferenceMode.h>
#include <torch/csrc/autograd/autograd.h>

#include "fovea/core/cpu_features.h"
#include "fovea/core/parallel.h"
#include "fovea/models/text_classifier/model.h"
#include "fovea/train/optimizer.h"
#include "fovea/train/precision.h"
#include "fovea/train/provenance.h"

namespace fovea::cli {
namespace {

models::PackedBatch random_batch(int64_t vocab_size, int64_t documents, int64_t length) {
  const at::Tensor offsets = at::arange(documents + 1, at::TensorOptions().dtype(at::kInt));
  return {at::randint(vocab_size, {documents * length}, at::kLong),
          offsets * static_cast<int32_t>(length)};
}

Timing time_inference(models::TextClassifier& model, const models::PackedBatch& batch, bool bf16,
                      const TimingOptions& timing) {
  model->eval();
  const c10::InferenceMode inference;
  const train::AutocastScope autocast(bf16);
  return time_call([&] { model->forward(batch); }, timing);
}

// What Trainer does in a step of one pass.
Timing time_training(models::TextClassifier& model, const models::PackedBatch& batch, bool bf16,
                     const TimingOptions& timing) {
  model->train();
  train::NamedTensors parameters;
  for (const auto& item : model->named_parameters()) {
    parameters.emplace_back(item.key(), item.value());
  }
  train::AdamW optimizer(parameters, {});
  const at::Tensor targets = at::zeros({batch.cu_seqlens.size(0) - 1}, at::kLong);
  const auto step = [&] {
    at::Tensor logits;
    {
      const train::AutocastScope autocast(bf16);
      logits = model->forward(batch);
    }
    at::cross_entropy_loss(logits.to(at::kFloat), targets).backward();
    train::clip_gradients(parameters, 1.0);
    optimizer.step(1e-4);
  };
  return time_call(step, timing);
}

}  // namespace

int bench_model_command(const io::Json& options) {
  const auto config = models::TextClassifierConfig::from_json(
      options.at("model").get<std::string>(), "bench model");
  const int64_t documents = options.at("documents"), length = options.at("length");
  const std::string step = options.at("step");
  const bool bf16 = train::use_bf16(options.at("precision"));
  const TimingOptions timing_options = {options.at("repeats"), options.at("seconds")};

  models::TextClassifier model(config);
  const models::PackedBatch batch = random_batch(config.vocab_size, documents, length);
  reset_peak_bytes();
  const Timing timing = step == "train" ? time_training(model, batch, bf16, timing_options)
                                        : time_inference(model, batch, bf16, timing_options);
  io::Json row = {{"step", step},
                  {"precision", bf16 ? "bf16" : "fp32"},
                  {"parameters", config.parameter_count()},
                  {"attention", config.attention},
                  {"documents", documents},
                  {"length", length},
                  {"threads", num_threads()}};
  timing.add_to(row);
  row["tokens_per_second"] = static_cast<double>(documents * length) / timing.min_ms * 1e3;
  row["bytes_peak"] = peak_bytes();
  row["machine"] = cpu_features().model_name;
  row["isa"] = name_of(max_isa());
  row["versions"] = train::versions();
  if (options.value("json", false)) {
    write_result(io::dump_json(row) + "\n");
    return 0;
  }
  char line[300];
  std::snprintf(line, sizeof line,
                "%s, %s, %d threads: %lld x %lld tokens, %.2f M parameters\n"
                "%.1f ms at best, %.1f median, %.1f first; %.0f tokens/s; peak %.0f MiB\n",
                step.c_str(), bf16 ? "bf16" : "fp32", num_threads(),
                static_cast<long long>(documents), static_cast<long long>(length),
                static_cast<double>(config.parameter_count()) / 1e6, timing.min_ms,
                timing.median_ms, timing.first_ms,
                static_cast<double>(documents * length) / timing.min_ms * 1e3,
                static_cast<double>(peak_bytes()) / (1 << 20));
  write_result(line);
  return 0;
}

}  // namespace fovea::cli
