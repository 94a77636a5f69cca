#pragma once

#include <string>

#include "fovea/train/run_config.h"

namespace fovea::train {

/// One `fovea train`.
struct TrainRequest {
  RunConfig config;
  std::string out;             ///< model folder to be made
  bool resume = false;         ///< continue what is in `out`
  bool resume_anyway = false;  ///< even to other bits
  bool overwrite = false;      ///< of a finished or begun run in `out`
};

/// Trains a model from files to a model folder: config.json, tokenizer.json,
/// model.safetensors, run.json, README.md, log.jsonl, checkpoints/. Returns the process's exit
/// code: 0, or 130/143 after SIGINT/SIGTERM. Throws Error.
int run_training(const TrainRequest& request);

}  // namespace fovea::train
