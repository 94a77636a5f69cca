#include "fovea/train/model_folder.h"

#include <cstring>
#include <filesystem>

#include <ATen/Context.h>

#include "fovea/core/status.h"
#include "fovea/io/file.h"
#include "fovea/io/safetensors.h"
#include "fovea/train/weights.h"

namespace fovea::train {
namespace {

constexpr const char* kHead = "classifier.";

std::string config_text(const std::string& folder) {
  if (!std::filesystem::is_directory(folder)) {
    throw InputError(folder + ": expected a model folder (config.json, model.safetensors, " +
                     "tokenizer.json), found no such folder");
  }
  return io::read_file(folder + "/config.json", 64 << 20);
}

template <typename Config>
Config read_config(const std::string& folder) {
  return Config::from_json(config_text(folder), folder + "/config.json");
}

// The file's header against the config, before memory is allocated by the config's word.
void check_header(const std::string& path, const std::vector<models::TensorSpec>& specs) {
  const io::SafetensorsFile file(path);
  for (const models::TensorSpec& spec : specs) {
    const io::StTensor& tensor = file.at(spec.name);
    if (tensor.shape != spec.shape || tensor.dtype != io::StDType::kF32) {
      throw InputError(path + ": tensor \"" + spec.name +
                       "\" does not have the shape and type that config.json asks for");
    }
  }
}

// Copies a folder's weights, but not those whose name begins with `except`.
void copy_weights(const std::string& folder, const torch::nn::Module& model, const char* except) {
  const std::string path = folder + "/model.safetensors";
  const io::SafetensorsFile file(path);
  for (const auto& [name, tensor] : named_parameters(model)) {
    if (except && name.starts_with(except)) continue;
    const io::StTensor& stored = file.at(name);
    if (stored.shape != tensor.sizes().vec() || stored.dtype != io::StDType::kF32) {
      throw InputError(path + ": tensor \"" + name + "\" does not fit the model asked for; leave " +
                       "the sizes of [model] unset to take those of " + folder);
    }
    std::memcpy(tensor.mutable_data_ptr(), stored.data, tensor.nbytes());
  }
}

template <typename Config, typename Model>
ModelFolder<Config, Model> load(const std::string& folder) {
  Config config = read_config<Config>(folder);
  Tokenizer tokenizer = Tokenizer::load(folder + "/tokenizer.json");
  if (tokenizer.vocab_size() > config.vocab_size) {
    throw InputError(folder + "/tokenizer.json: has ids up to " +
                     std::to_string(tokenizer.vocab_size() - 1) +
                     ", but the model's vocab_size is " + std::to_string(config.vocab_size));
  }
  const std::string weights = folder + "/model.safetensors";
  check_header(weights, config.tensor_specs());
  Model model = make_model(config, 0);
  load_tensors(weights, named_parameters(*model));
  model->eval();
  RunConfig run;
  const std::string run_path = folder + "/run.json";
  if (std::filesystem::exists(run_path)) {
    const io::Json json = io::read_json(run_path);
    if (json.contains("config")) run = run_config_from_json(json["config"], run_path);
  }
  run.model = model_section(config);
  return {config, std::move(tokenizer), std::move(model), std::move(run)};
}

}  // namespace

models::TextClassifier make_model(const models::TextClassifierConfig& config, uint64_t seed) {
  at::manual_seed(seed);
  return models::TextClassifier(config);
}

models::LanguageModel make_model(const models::LanguageModelConfig& config, uint64_t seed) {
  at::manual_seed(seed);
  return models::LanguageModel(config);
}

std::string model_type_of_folder(const std::string& folder) {
  return models::model_type_of(config_text(folder), folder + "/config.json");
}

LanguageModelFolder load_language_model(const std::string& folder) {
  return load<models::LanguageModelConfig, models::LanguageModel>(folder);
}

ClassifierFolder load_classifier(const std::string& folder) {
  return load<models::TextClassifierConfig, models::TextClassifier>(folder);
}

bool start_from(const std::string& folder, models::TextClassifier& model) {
  const auto source = read_config<models::TextClassifierConfig>(folder);
  const bool same_labels = source.labels == model->config().labels;
  copy_weights(folder, *model, same_labels ? nullptr : kHead);
  return same_labels;
}

void start_from(const std::string& folder, models::LanguageModel& model) {
  read_config<models::LanguageModelConfig>(folder);
  copy_weights(folder, *model, nullptr);
}

}  // namespace fovea::train
