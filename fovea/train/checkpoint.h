#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "fovea/io/json.h"
#include "fovea/train/optimizer.h"

namespace fovea::train {

/// Where a run stands: all that decides its future besides weights, optimizer and random state.
struct TrainingState {
  int64_t step = 0;    ///< updates done
  int64_t epoch = 0;   ///< current one, from 0
  int64_t batch = 0;   ///< number of the epoch's next batch
  int64_t tokens = 0;  ///< seen so far
  double seconds = 0;  ///< of the run so far, evaluations and checkpoints included

  int64_t best_step = -1;  ///< -1 = none yet
  io::Json best;           ///< metrics of the best evaluation
  int64_t evaluations_since_best = 0;
  bool finished = false;

  double window_loss = 0;  ///< sum since the last line of the log
  int64_t window_targets = 0;

  io::Json to_json() const;
  static TrainingState from_json(const io::Json& json, const std::string& name);
};

/// Folder of a run's checkpoints, OUT/checkpoints: step-N with weights (model.safetensors),
/// optimizer and torch's random state (optimizer.safetensors), the best weights so far
/// (best.safetensors, where there are any) and state.json. A checkpoint appears whole or not at
/// all.
class Checkpoints {
 public:
  /// Nothing is made yet; leftovers of killed writers are removed.
  explicit Checkpoints(std::string folder);

  /// Folder of the newest checkpoint, or "".
  std::string newest() const;

  /// Writes step-N and then removes all but the newest `keep`. `best_weights` is an existing file
  /// or "". `provenance` says what the run's bits depend on. Throws Error(kFailed) when the disk
  /// refuses; older checkpoints are then still there.
  void save(const TrainingState& state, const NamedTensors& weights, const NamedTensors& optimizer,
            const std::string& best_weights, const io::Json& provenance, int64_t keep);

 private:
  std::vector<int64_t> steps() const;
  std::string folder_;
};

/// What a checkpoint folder's state.json holds.
struct StoredState {
  TrainingState state;
  io::Json provenance;
};

/// Reads state.json; throws InputError naming the file and field at fault.
StoredState read_state(const std::string& checkpoint);

/// Copies a checkpoint's tensors into the model's and the optimizer's and sets torch's default CPU
/// generator.
void load_checkpoint_tensors(const std::string& checkpoint, const NamedTensors& weights,
                             const NamedTensors& optimizer);

/// Lines "field: then X, now Y" for what differs between two provenances.
std::vector<std::string> differences(const io::Json& then, const io::Json& now,
                                     const std::string& prefix = "");

}  // namespace fovea::train
