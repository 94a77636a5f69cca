#include <memory>

#include "tools/cli/bench_group.h"
#include "tools/cli/commands.h"
#include "tools/cli/module.h"
#include "tools/cli/setting_flags.h"

#include "fovea/train/run_config.h"

namespace fovea::cli {
namespace {

struct BenchModelOptions {
  SettingFlags settings;
  TimingOptions timing;
  std::string config_file, step = "inference", precision = "fp32";
  int64_t vocab_size = 8192, labels = 4, documents = 1, length = 1024;
  bool json = false;
};

void bench_model(const BenchModelOptions& o) {
  io::Config given = o.config_file.empty() ? io::Config() : io::Config::load(o.config_file);
  o.settings.apply(given);
  const train::RunConfig config = train::read_run_config(given);
  std::vector<std::string> labels;
  for (int64_t i = 0; i < o.labels; ++i) labels.push_back(std::to_string(i));
  const auto model = train::resolve_model(config, o.vocab_size, labels);
  run_in_module("bench_model", {{"model", model.to_json()},
                                {"step", o.step},
                                {"precision", o.precision},
                                {"documents", o.documents},
                                {"length", o.length},
                                {"repeats", o.timing.repeats},
                                {"seconds", o.timing.seconds},
                                {"json", o.json}});
}

void add_bench_model(CLI::App& app) {
  auto o = std::make_shared<BenchModelOptions>();
  CLI::App* command = add_bench_command(
      app, "model", "Time a classifier of random weights on random tokens: inference or training",
      o->timing);
  command->add_option("--config", o->config_file, "TOML file of settings; flags win over it");
  command
      ->add_option("--step", o->step,
                   "inference, or train: forward, backward, clipping and AdamW [inference]")
      ->check(CLI::IsMember({"inference", "train"}));
  command->add_option("--precision", o->precision, "fp32, bf16, or auto [fp32]")
      ->check(CLI::IsMember({"fp32", "bf16", "auto"}));
  const auto count = CLI::Range(int64_t{1}, int64_t{1} << 24);
  command->add_option("--vocab", o->vocab_size, "Tokens in the vocabulary [8192]")->check(count);
  command->add_option("--labels", o->labels, "Classes [4]")
      ->check(CLI::Range(int64_t{2}, int64_t{1} << 20));
  command->add_option("--documents", o->documents, "Documents in the batch [1]")->check(count);
  command->add_option("--length", o->length, "Tokens of each [1024]")->check(count);
  command->add_flag("--json", o->json, "Print one JSON object");
  o->settings.add(*command, {"model."});
  command->callback([o] { bench_model(*o); });
}

const Registration registration("bench model", add_bench_model);

}  // namespace
}  // namespace fovea::cli
