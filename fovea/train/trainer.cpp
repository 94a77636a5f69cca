#include "fovea/train/trainer.h"

#include <chrono>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <limits>

#include <torch/csrc/autograd/autograd.h>

#include "fovea/core/log.h"
#include "fovea/core/status.h"
#include "fovea/io/atomic_file.h"
#include "fovea/io/file.h"
#include "fovea/train/interrupt.h"
#include "fovea/train/progress.h"
#include "fovea/train/schedule.h"
#include "fovea/train/weights.h"

namespace fovea::train {
namespace {

namespace fs = std::filesystem;

double clock_seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

AdamWOptions adamw_options(const TrainSection& c) {
  return {c.beta1, c.beta2, c.eps, c.weight_decay, c.decay_all};
}

// Lines of a log up to `step`: what was logged after the checkpoint will be logged again.
void cut_log(const std::string& path, int64_t step) {
  if (!fs::exists(path)) return;
  std::ifstream in(path);
  std::string kept;
  for (std::string line; std::getline(in, line);) {
    const io::Json json = io::Json::parse(line, nullptr, /*allow_exceptions=*/false);
    if (json.is_object() && json.value("step", step + 1) <= step) kept += line + '\n';
  }
  io::write_file(path, kept);
}

}  // namespace

Trainer::Trainer(const TrainSection& config, Objective& objective, std::string out,
                 io::Json provenance)
    : config_(config),
      objective_(objective),
      out_(std::move(out)),
      provenance_(std::move(provenance)),
      parameters_(objective.parameters()),
      optimizer_(parameters_, adamw_options(config)),
      checkpoints_(out_ + "/checkpoints"),
      batching_{config.batch_tokens, std::min(config.micro_tokens, config.batch_tokens),
                config.batch_examples, config.bucket} {
  objective_.set_gradient_checkpointing(config_.checkpointing);
  const auto per_epoch =
      static_cast<int64_t>(plan_epoch(objective_.lengths(), batching_, config_.seed, 0).size());
  total_steps_ = per_epoch * config_.epochs;
  if (config_.max_steps > 0) total_steps_ = std::min(total_steps_, config_.max_steps);
}

std::string Trainer::best_weights() const {
  return config_.keep_best && state_.best_step >= 0 ? out_ + "/model.safetensors" : "";
}

bool Trainer::resume(bool anyway) {
  const std::string checkpoint = checkpoints_.newest();
  if (checkpoint.empty()) return false;
  StoredState stored = read_state(checkpoint);
  const std::vector<std::string> changed = differences(stored.provenance, provenance_);
  if (!changed.empty()) {
    std::string all;
    for (const std::string& line : changed) all += "\n  " + line;
    if (!anyway) {
      throw InputError(checkpoint + ": the run cannot continue to the same bits; what differs:" +
                       all + "\nrestore it, or pass --resume-anyway");
    }
    log_warning("continuing although this differs:" + all);
  }
  state_ = std::move(stored.state);
  load_checkpoint_tensors(checkpoint, parameters_, optimizer_.state());
  saved_step_ = state_.step;
  // A later best may have been written before the kill.
  const std::string best = checkpoint + "/best.safetensors";
  if (fs::exists(best)) {
    io::AtomicFile copy(out_ + "/model.safetensors");
    copy.write(io::read_file(best, std::numeric_limits<int64_t>::max()));
    copy.commit();
  }
  cut_log(out_ + "/log.jsonl", state_.step);
  log_info("continuing at step " + std::to_string(state_.step) + " from " + checkpoint);
  return true;
}

double Trainer::learning_rate() const {
  const auto total = static_cast<double>(total_steps_);
  auto position = static_cast<double>(state_.step);
  if (config_.max_minutes > 0) {
    position = std::max(position, total * state_.seconds / (60 * config_.max_minutes));
  }
  const double warmup =
      config_.warmup_steps > 0 ? static_cast<double>(config_.warmup_steps) : config_.warmup * total;
  return config_.lr * schedule_factor(parse_schedule(config_.schedule), position, warmup, total);
}

bool Trainer::limit_reached() const {
  if (config_.max_steps > 0 && state_.step >= config_.max_steps) return true;
  if (config_.max_minutes > 0 && state_.seconds >= 60 * config_.max_minutes) return true;
  return config_.patience > 0 && state_.evaluations_since_best >= config_.patience;
}

// Gradient of the mean loss over the whole batch, whatever the passes; returns the loss's sum.
double Trainer::accumulate(const Batch& batch, int64_t targets) {
  double sum = 0;
  for (const std::vector<int64_t>& pass : batch.micro_batches) {
    const at::Tensor loss = objective_.loss(pass);
    sum += loss.item<double>();
    if (!std::isfinite(sum)) fail_not_finite("loss", sum);
    (loss / static_cast<double>(targets)).backward();
  }
  return sum;
}

void Trainer::fail_not_finite(const std::string& what, double value) const {
  const std::string last = checkpoints_.newest();
  throw Error(ErrorCode::kFailed,
              "step " + std::to_string(state_.step + 1) + ": the " + what + " is " +
                  std::to_string(value) + "; a lower train.lr, a longer train.warmup or " +
                  "train.precision fp32 may help. " +
                  (last.empty() ? "There is no checkpoint yet" : "Last good checkpoint: " + last));
}

void Trainer::train_step(const Batch& batch) {
  const double rate = learning_rate();
  const double begin = clock_seconds();
  int64_t targets = 0;
  for (const auto& pass : batch.micro_batches) {
    for (const int64_t example : pass) targets += objective_.targets(example);
  }
  const double loss = accumulate(batch, targets);
  const double norm = clip_gradients(parameters_, config_.clip);
  if (!std::isfinite(norm)) fail_not_finite("gradient's norm", norm);
  optimizer_.step(rate);
  const double seconds = clock_seconds() - begin;

  ++state_.step;
  state_.tokens += batch.tokens;
  state_.seconds = clock_seconds() - clock_start_;
  state_.window_loss += loss;
  state_.window_targets += targets;
  window_seconds_ += seconds;
  window_tokens_ += static_cast<double>(batch.tokens);
  char note[128];
  std::snprintf(note, sizeof note, "step %lld  loss %.4f  %s tokens/s",
                static_cast<long long>(state_.step), loss / static_cast<double>(targets),
                format_count(window_tokens_ / std::max(window_seconds_, 1e-9)).c_str());
  double done = static_cast<double>(state_.step) / static_cast<double>(total_steps_);
  if (config_.max_minutes > 0) {
    done = std::max(done, state_.seconds / (60 * config_.max_minutes));
  }
  progress_->update(done, note);
  if (state_.step % config_.log_every == 0) log_step(rate, norm);
}

void Trainer::write_log(const io::Json& line) {
  const std::string path = out_ + "/log.jsonl";
  std::ofstream file(path, std::ios::app);
  file << io::dump_json(line) << '\n';
  if (!file.flush()) throw Error(ErrorCode::kFailed, path + ": cannot be written");
}

void Trainer::log_step(double rate, double norm) {
  write_log({{"step", state_.step},
             {"epoch", state_.epoch},
             {"loss", state_.window_loss / static_cast<double>(state_.window_targets)},
             {"lr", rate},
             {"grad_norm", norm},
             {"tokens_per_second", window_tokens_ / std::max(window_seconds_, 1e-9)},
             {"seconds", state_.seconds}});
  state_.window_loss = 0;
  state_.window_targets = 0;
  window_seconds_ = window_tokens_ = 0;
}

bool Trainer::is_better(const io::Json& metrics) const {
  if (state_.best_step < 0) return true;
  const auto now = io::json_field<double>(metrics, config_.metric, "metrics");
  const auto best = io::json_field<double>(state_.best, config_.metric, "best");
  return config_.metric == "loss" ? now < best : now > best;
}

void Trainer::evaluate_now() {
  progress_->clear();
  const io::Json metrics = objective_.evaluate(batching_.micro_tokens);
  last_evaluated_step_ = state_.step;
  const bool better = is_better(metrics);
  write_log({{"step", state_.step}, {"epoch", state_.epoch}, {"valid", metrics}, {"best", better}});
  if (better) {
    state_.best_step = state_.step;
    state_.best = metrics;
    state_.evaluations_since_best = 0;
    if (config_.keep_best) {
      save_tensors(out_ + "/model.safetensors", parameters_, {{"format", "pt"}});
    }
  } else {
    ++state_.evaluations_since_best;
  }
  log_info(
      "step " + std::to_string(state_.step) + ": valid " + objective_.describe(metrics) +
      (better ? " (best so far)" : " (best at step " + std::to_string(state_.best_step) + ")"));
}

void Trainer::save_checkpoint() {
  if (saved_step_ == state_.step && !state_.finished) return;
  checkpoints_.save(state_, parameters_, optimizer_.state(), best_weights(), provenance_,
                    config_.keep);
  saved_step_ = state_.step;
}

void Trainer::finish() {
  if (last_evaluated_step_ != state_.step) evaluate_now();
  state_.finished = true;
  if (!config_.keep_best) {
    save_tensors(out_ + "/model.safetensors", parameters_, {{"format", "pt"}});
  }
  save_checkpoint();
  if (config_.keep_best) load_tensors(out_ + "/model.safetensors", parameters_);
}

Outcome Trainer::run() {
  if (state_.finished) {
    log_info("the run is already finished");
    load_tensors(out_ + "/model.safetensors", parameters_);
    return Outcome::kFinished;
  }
  clock_start_ = clock_seconds() - state_.seconds;
  Progress progress("training", 1.0);
  progress_ = &progress;
  for (; state_.epoch < config_.epochs && !limit_reached(); ++state_.epoch, state_.batch = 0) {
    const std::vector<Batch> plan =
        plan_epoch(objective_.lengths(), batching_, config_.seed, state_.epoch);
    const auto batches = static_cast<int64_t>(plan.size());
    while (state_.batch < batches && !limit_reached()) {
      train_step(plan[static_cast<size_t>(state_.batch++)]);
      const bool evaluates =
          config_.eval_every > 0 ? state_.step % config_.eval_every == 0 : state_.batch == batches;
      if (evaluates) evaluate_now();
      const bool saves = config_.save_every > 0 ? state_.step % config_.save_every == 0 : evaluates;
      if (saves || interrupted()) save_checkpoint();
      if (interrupted()) {
        progress.clear();
        return Outcome::kInterrupted;
      }
    }
  }
  progress.clear();
  finish();
  return Outcome::kFinished;
}

}  // namespace fovea::train
