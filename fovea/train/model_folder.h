#pragma once

#include <string>
#include <vector>

#include "fovea/io/json.h"
#include "fovea/models/language_model/model.h"
#include "fovea/models/text_classifier/model.h"
#include "fovea/text/tokenizer.h"
#include "fovea/train/run_config.h"

namespace fovea::train {

/// A trained model: config.json, model.safetensors, tokenizer.json, run.json, README.md.
template <typename Config, typename Model>
struct ModelFolder {
  Config config;
  Tokenizer tokenizer;
  Model model;
  RunConfig run;  ///< of run.json; defaults where there is none
};
using ClassifierFolder = ModelFolder<models::TextClassifierConfig, models::TextClassifier>;
using LanguageModelFolder = ModelFolder<models::LanguageModelConfig, models::LanguageModel>;

/// The model_type of a folder's config.json; throws InputError where there is none to read.
std::string model_type_of_folder(const std::string& folder);

/// Reads the folder of such a model. Throws InputError that names file and field for a missing,
/// damaged or newer file, or where weights, config and tokenizer do not fit together; nothing is
/// allocated before the weights' header agrees with the config.
ClassifierFolder load_classifier(const std::string& folder);
LanguageModelFolder load_language_model(const std::string& folder);

/// A new model for `config` with torch's generator seeded by `seed`.
models::TextClassifier make_model(const models::TextClassifierConfig& config, uint64_t seed);
models::LanguageModel make_model(const models::LanguageModelConfig& config, uint64_t seed);

/// Copies the weights of another model folder into `model`: all of them where the labels are the
/// same, all but the classifier's otherwise (returned as false). Throws InputError for a tensor of
/// another shape.
bool start_from(const std::string& folder, models::TextClassifier& model);
void start_from(const std::string& folder, models::LanguageModel& model);

/// README.md of a model folder.
std::string model_card(const io::Json& run, const models::TextClassifierConfig& config);
std::string model_card(const io::Json& run, const models::LanguageModelConfig& config);

}  // namespace fovea::train
