#include <cstdio>
#include <filesystem>
#include <memory>

#include "tools/cli/commands.h"
#include "tools/cli/module.h"
#include "tools/cli/setting_flags.h"

#include "fovea/core/status.h"
#include "fovea/io/config.h"
#include "fovea/io/file.h"
#include "fovea/io/json.h"
#include "fovea/train/run_config.h"

namespace fovea::cli {
namespace {

struct TrainOptions {
  SettingFlags settings;
  std::string config_file, out;
  bool resume = false, resume_anyway = false, overwrite = false, dump_config = false;
};

// What the file and the flags change: the settings of the run to be resumed, the shape of the model
// to start from, or the defaults.
train::RunConfig base_config(const TrainOptions& o, const io::Config& given) {
  train::RunConfig base;
  const std::string run = o.out + "/run.json";
  if (o.resume && std::filesystem::exists(run)) {
    const io::Json json = io::read_json(run);
    if (json.contains("config")) return train::run_config_from_json(json["config"], run);
  }
  io::Config copy = given;
  std::string init;
  copy.read("train.init", init);
  if (!init.empty()) {
    const std::string path = init + "/config.json";
    const std::string text = io::read_file(path, 64 << 20);
    if (models::model_type_of(text, path) == models::LanguageModelConfig::kModelType) {
      base.model = train::model_section(models::LanguageModelConfig::from_json(text, path));
      base.train.task = "lm";
    } else {
      base.model = train::model_section(models::TextClassifierConfig::from_json(text, path));
    }
    base.tokenizer.file = init + "/tokenizer.json";
  }
  return base;
}

void train(const TrainOptions& o) {
  if (o.resume && o.overwrite) throw InputError("expected --resume or --overwrite, found both");
  io::Config given = o.config_file.empty() ? io::Config() : io::Config::load(o.config_file);
  o.settings.apply(given);
  const train::RunConfig config = train::read_run_config(given, base_config(o, given));
  if (o.dump_config) {
    std::fputs(given.dump().c_str(), stdout);
    return;
  }
  // What is wrong with the model's shape is said before torch is loaded and data are read.
  train::resolve_metric(config.train);
  if (config.train.task == "lm") {
    train::resolve_language_model(config, 1);
  } else {
    train::resolve_model(config, 1, {"a", "b"});
  }
  run_in_module("train", {{"config", train::to_json(config)},
                          {"out", o.out},
                          {"resume", o.resume},
                          {"resume_anyway", o.resume_anyway},
                          {"overwrite", o.overwrite}});
}

void add_train(CLI::App& app) {
  CLI::App* command = app.add_subcommand(
      "train", "Train a model: of labels (--task classify) or of language (--task lm)");
  auto o = std::make_shared<TrainOptions>();
  command->add_option("--out", o->out, "Folder of the model to be made")->take_last();
  command->add_option("--config", o->config_file, "TOML file of settings; flags win over it");
  command->add_flag("--dump-config", o->dump_config, "Print all settings as TOML and stop");
  command->add_flag("--resume", o->resume, "Continue the run in --out, with its settings");
  command->add_flag("--resume-anyway", o->resume_anyway,
                    "Continue even where the result cannot be the same to the bit");
  command->add_flag("--overwrite", o->overwrite, "Replace the run in --out");
  o->settings.add(*command, {"data.", "tokenizer.", "model.", "train."});
  command->callback([o] {
    o->resume = o->resume || o->resume_anyway;
    train(*o);
  });
}

const Registration registration("train", add_train);

}  // namespace
}  // namespace fovea::cli
