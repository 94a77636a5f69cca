#include "tools/cli/commands.h"
#include "tools/cli/module.h"

namespace fovea::cli {
namespace {

void add_doctor(CLI::App& app) {
  CLI::App* command =
      app.add_subcommand("doctor", "Tell what this machine offers and what should be fixed");
  auto json = std::make_shared<bool>(false);
  command->add_flag("--json", *json, "Print one JSON object");
  command->callback([json] { run_in_module("doctor", {{"json", *json}}); });
}

const Registration registration("doctor", add_doctor);

}  // namespace
}  // namespace fovea::cli
