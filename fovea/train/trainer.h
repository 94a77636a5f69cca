#pragma once

#include <functional>
#include <string>
#include <vector>

#include "fovea/io/json.h"
#include "fovea/train/batching.h"
#include "fovea/train/checkpoint.h"
#include "fovea/train/objective.h"
#include "fovea/train/optimizer.h"
#include "fovea/train/run_config.h"

namespace fovea::train {

enum class Outcome { kFinished, kInterrupted };

/// The training loop of any objective, with evaluation, checkpoints and a log, in the folder `out`:
///
///     out/log.jsonl   out/checkpoints/step-N/   out/model.safetensors (the best so far)
///
/// The course of a run is a function of config, data, build, instruction set and number of threads;
/// interrupted anywhere and resumed, it ends with the same bits (not so with `max_minutes`, which
/// makes it depend on the clock).
class Trainer {
 public:
  /// Borrows the objective. `provenance`: what the bits depend on, for comparison on resume.
  Trainer(const TrainSection& config, Objective& objective, std::string out, io::Json provenance);

  /// Continues from the newest checkpoint in `out`; false when there is none. When its provenance
  /// differs, throws InputError with the differences, unless `anyway`.
  bool resume(bool anyway);

  /// Runs to the end, or until an interrupt (interrupt.h), which saves a checkpoint. At the end
  /// `out/model.safetensors` and the model hold the best weights, or the last without `keep_best`.
  /// A loss or gradient that is not finite throws Error(kFailed) with the step.
  Outcome run();

  const TrainingState& state() const { return state_; }
  int64_t total_steps() const { return total_steps_; }

 private:
  double learning_rate() const;
  bool limit_reached() const;
  void train_step(const Batch& batch);
  double accumulate(const Batch& batch, int64_t targets);
  void write_log(const io::Json& line);
  void log_step(double learning_rate, double gradient_norm);
  bool is_better(const io::Json& metrics) const;
  void evaluate_now();
  void save_checkpoint();
  void finish();
  [[noreturn]] void fail_not_finite(const std::string& what, double value) const;
  std::string best_weights() const;

  TrainSection config_;
  Objective& objective_;
  std::string out_;
  io::Json provenance_;

  NamedTensors parameters_;
  AdamW optimizer_;
  Checkpoints checkpoints_;
  BatchingOptions batching_;
  TrainingState state_;
  int64_t total_steps_ = 0;
  int64_t last_evaluated_step_ = -1;
  int64_t saved_step_ = -1;
  double clock_start_ = 0;                         // the clock when state_.seconds was 0
  double window_seconds_ = 0, window_tokens_ = 0;  // since the last line of the log
  class Progress* progress_ = nullptr;
};

}  // namespace fovea::train
