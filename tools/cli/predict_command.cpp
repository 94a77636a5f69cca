#include <memory>

#include "tools/cli/commands.h"
#include "tools/cli/module.h"
#include "tools/cli/setting_flags.h"

namespace fovea::cli {
namespace {

struct PredictOptions {
  SettingFlags settings;
  std::string model, precision = "fp32";
  std::vector<std::string> files;
  int64_t batch_tokens = 16384, batch_examples = 256;
};

void add_predict(CLI::App& app) {
  CLI::App* command = app.add_subcommand("predict", "Label texts with a trained model");
  command->footer(
      "Input: JSONL with the field text (and id, which is echoed), or a text a line; with\n"
      "--format file each file is one text, its path the id.\n"
      "Output: one JSON object a line, in input order: label, probabilities, truncated_tokens.\n"
      "    fovea predict --model DIR < texts.txt > labels.jsonl");
  auto o = std::make_shared<PredictOptions>();
  command->add_option("--model", o->model, "Model folder")->required();
  command->add_option("files", o->files, "Files of texts; none, or -: standard input");
  command->add_option("--batch-tokens", o->batch_tokens, "Tokens computed at once")
      ->capture_default_str()
      ->check(CLI::Range(int64_t{1}, int64_t{1} << 40));
  command
      ->add_option("--batch-examples", o->batch_examples,
                   "Texts read before their labels are written; 1 answers each line at once")
      ->capture_default_str()
      ->check(CLI::Range(int64_t{1}, int64_t{1} << 20));
  command->add_option("--precision", o->precision,
                      "fp32, bf16, or auto: bf16 where the machine gains from it [fp32]");
  o->settings.add(*command, {"data."},
                  {"data.train", "data.valid", "data.valid_share", "data.label"});
  command->callback([o] {
    if (o->files.empty()) o->files.push_back("-");
    run_in_module("predict", {{"model", o->model},
                              {"files", o->files},
                              {"batch_tokens", o->batch_tokens},
                              {"batch_examples", o->batch_examples},
                              {"precision", o->precision},
                              {"settings", o->settings.given()}});
  });
}

const Registration registration("predict", add_predict);

}  // namespace
}  // namespace fovea::cli
