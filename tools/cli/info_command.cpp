#include <cstdio>
#include <filesystem>
#include <map>
#include <memory>

#include "tools/cli/commands.h"

#include "fovea/core/status.h"
#include "fovea/io/file.h"
#include "fovea/io/json.h"
#include "fovea/io/safetensors.h"
#include "fovea/models/language_model/config.h"
#include "fovea/models/text_classifier/config.h"
#include "fovea/pattern/layer_attention.h"

namespace fovea::cli {
namespace {

// "encoder.layers.3.attention.qkv.weight" belongs to "encoder.layers.3".
std::string part_of(const std::string& tensor) {
  size_t end = tensor.find('.');
  if (tensor.starts_with("encoder.layers.")) end = tensor.find('.', 15);
  return tensor.substr(0, end);
}

template <typename Config>
io::Json describe(const Config& config) {
  io::Json attention = io::Json::array();
  for (const LayerAttention& layer : parse_layers(config.attention, config.layers)) {
    attention.push_back(layer.to_string());
  }
  io::Json parts = io::Json::object();
  for (const models::TensorSpec& tensor : config.tensor_specs()) {
    int64_t count = 1;
    for (const int64_t extent : tensor.shape) count *= extent;
    const std::string part = part_of(tensor.name);
    parts[part] = parts.value(part, int64_t{0}) + count;
  }
  return {{"config", io::Json::parse(config.to_json())},
          {"attention", attention},
          {"parameters", config.parameter_count()},
          {"parameters_by_part", parts}};
}

io::Json summary(const std::string& folder) {
  if (!std::filesystem::is_directory(folder)) {
    throw InputError(folder + ": expected a model folder (of fovea train), found " +
                     (std::filesystem::exists(folder) ? "a file" : "nothing"));
  }
  const std::string path = folder + "/config.json";
  const std::string text = io::read_file(path, 64 << 20);
  io::Json info = {{"model", folder}};
  info.update(models::model_type_of(text, path) == models::LanguageModelConfig::kModelType
                  ? describe(models::LanguageModelConfig::from_json(text, path))
                  : describe(models::TextClassifierConfig::from_json(text, path)));
  const std::string weights = folder + "/model.safetensors";
  if (std::filesystem::exists(weights)) {
    io::SafetensorsFile file(weights);
    info["weights_bytes"] = std::filesystem::file_size(weights);
    info["tensors"] = file.tensors().size();
  }
  if (std::filesystem::exists(folder + "/run.json")) {
    const io::Json run = io::read_json(folder + "/run.json");
    for (const char* key : {"status", "started", "seed", "precision", "versions", "result"}) {
      if (run.contains(key)) info["run"][key] = run[key];
    }
  }
  return info;
}

void print(const std::string& name, const io::Json& value) {
  const std::string text = value.is_string() ? value.get<std::string>() : io::dump_json(value);
  std::printf("%-24s %s\n", name.c_str(), text.c_str());
}

void add_info(CLI::App& app) {
  CLI::App* command = app.add_subcommand("info", "Tell what is in a model folder");
  auto model = std::make_shared<std::string>();
  auto json = std::make_shared<bool>(false);
  command->add_option("--model,model", *model, "Model folder")->required();
  command->add_flag("--json", *json, "Print one JSON object");
  command->callback([model, json] {
    const io::Json info = summary(*model);
    if (*json) {
      std::printf("%s\n", io::dump_json(info).c_str());
      return;
    }
    for (const auto& item : info["config"].items()) print(item.key(), item.value());
    for (size_t i = 0; i < info["attention"].size(); ++i) {
      print("attention of layer " + std::to_string(i), info["attention"][i]);
    }
    print("parameters", info["parameters"]);
    for (const auto& item : info["parameters_by_part"].items()) {
      print("  " + item.key(), item.value());
    }
    if (info.contains("weights_bytes")) print("weights, bytes", info["weights_bytes"]);
    if (info.contains("run")) {
      for (const auto& item : info["run"].items()) print("run: " + item.key(), item.value());
    }
  });
}

const Registration registration("info", add_info);

}  // namespace
}  // namespace fovea::cli
