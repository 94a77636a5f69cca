#include <memory>

#include "tools/cli/commands.h"
#include "tools/cli/module.h"
#include "tools/cli/setting_flags.h"

namespace fovea::cli {
namespace {

struct GenerateOptions {
  SettingFlags settings;
  std::string model, precision = "fp32";
  std::vector<std::string> files;
  int64_t max_tokens = 128;
  bool recompute = false;
};

void add_generate(CLI::App& app) {
  CLI::App* command =
      app.add_subcommand("generate", "Continue texts with a trained language model");
  command->footer(
      "The likeliest token again and again, until the model ends the text.\n"
      "Input: JSONL with the field prompt or text (and id, which is echoed), or a text a line;\n"
      "with --format file each file is one text, its path the id.\n"
      "Output: one JSON object a line, in input order: completion, tokens (of the completion),\n"
      "finish (end: the model ended the text; max_tokens; max_length: the model takes no more),\n"
      "truncated_tokens (that a prompt as long as the model's max_length lost at its beginning).\n"
      "    fovea generate --model DIR --max-tokens 100 < prompts.txt > completions.jsonl");
  auto o = std::make_shared<GenerateOptions>();
  command->add_option("--model", o->model, "Model folder")->required();
  command->add_option("files", o->files, "Files of prompts; none, or -: standard input");
  command->add_option("--max-tokens", o->max_tokens, "Tokens of a completion at most")
      ->capture_default_str()
      ->check(CLI::Range(int64_t{1}, int64_t{1} << 27));
  command->add_option("--precision", o->precision,
                      "fp32, bf16, or auto: bf16 where the machine gains from it [fp32]");
  command->add_flag("--recompute", o->recompute,
                    "Compute the whole text for each token, without cache or state: slower");
  o->settings.add(*command, {"data."},
                  {"data.train", "data.valid", "data.valid_share", "data.label", "data.truncate"});
  command->callback([o] {
    if (o->files.empty()) o->files.push_back("-");
    run_in_module("generate", {{"model", o->model},
                               {"files", o->files},
                               {"max_tokens", o->max_tokens},
                               {"precision", o->precision},
                               {"recompute", o->recompute},
                               {"settings", o->settings.given()}});
  });
}

const Registration registration("generate", add_generate);

}  // namespace
}  // namespace fovea::cli
