#pragma once

#include <functional>
#include <memory>
#include <string>

#include "fovea/io/json.h"
#include "fovea/train/objective.h"
#include "fovea/train/run.h"
#include "fovea/train/text_data.h"

namespace fovea::train {

/// What a task makes of its files and settings: everything before the loop.
struct Prepared {
  std::unique_ptr<Objective> objective;
  std::string model_config;  ///< text of config.json
  std::string attention;     ///< of the model, for people
  int64_t parameters = 0;
  io::Json data;                                         ///< for run.json
  io::Json hashes;                                       ///< of data and tokenizer
  std::function<std::string(const io::Json& run)> card;  ///< README.md of the model folder
};

/// Reads the data of a classification run, makes or reads OUT/tokenizer.json, and makes the model.
Prepared prepare_classifier(const TrainRequest& request, bool bf16);

/// The same for a language model, from texts without labels.
Prepared prepare_language_model(const TrainRequest& request, bool bf16);

/// The tokenizer of the run being resumed, else what `make` gives, written to OUT/tokenizer.json.
Tokenizer saved_or_made_tokenizer(const TrainRequest& request,
                                  const std::function<Tokenizer()>& make);

/// Fingerprints of training and validation data and of the tokenizer.
io::Json data_hashes(const TrainRequest& request);

/// Parts of a file's examples for training and validation where no --valid is given, by `labels`;
/// empty selections otherwise. Says what was set apart.
struct Selections {
  Selection train, valid;
};
Selections split_off_valid(const RunConfig& config, const std::vector<std::string>& labels);

}  // namespace fovea::train
