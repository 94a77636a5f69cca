#include <memory>

#include "tools/cli/commands.h"
#include "tools/cli/module.h"
#include "tools/cli/setting_flags.h"

namespace fovea::cli {
namespace {

struct EvalOptions {
  SettingFlags settings;
  std::string model, data, precision = "fp32";
  int64_t batch_tokens = 16384;
  bool json = false;
};

void add_eval(CLI::App& app) {
  CLI::App* command = app.add_subcommand(
      "eval", "Measure a model: a classifier on labelled texts, a language model on texts");
  auto o = std::make_shared<EvalOptions>();
  command->add_option("--model", o->model, "Model folder")->required();
  command->add_option("--data", o->data, "Examples: a file, a folder, or -")->required();
  command->add_flag("--json", o->json, "Print one JSON object of metrics");
  command->add_option("--batch-tokens", o->batch_tokens, "Tokens computed at once")
      ->capture_default_str()
      ->check(CLI::Range(int64_t{1}, int64_t{1} << 40));
  command->add_option("--precision", o->precision,
                      "fp32, bf16, or auto: bf16 where the machine gains from it [fp32]");
  o->settings.add(*command, {"data."}, {"data.train", "data.valid", "data.valid_share"});
  command->callback([o] {
    run_in_module("eval", {{"model", o->model},
                           {"data", o->data},
                           {"json", o->json},
                           {"batch_tokens", o->batch_tokens},
                           {"precision", o->precision},
                           {"settings", o->settings.given()}});
  });
}

const Registration registration("eval", add_eval);

}  // namespace
}  // namespace fovea::cli
