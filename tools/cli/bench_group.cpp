#include "tools/cli/bench_group.h"

#include <vector>

namespace fovea::cli {

CLI::App* add_bench_command(CLI::App& app, const char* name, const char* help,
                            TimingOptions& timing) {
  const auto is_bench = [](const CLI::App* other) { return other->get_name() == "bench"; };
  const std::vector<CLI::App*> found = app.get_subcommands(is_bench);
  CLI::App* bench = found.empty() ? app.add_subcommand("bench", "Measure speed") : found[0];
  bench->require_subcommand(1);
  CLI::App* command = bench->add_subcommand(name, help);
  command->add_option("--repeat", timing.repeats, "Least number of timed calls")
      ->capture_default_str()
      ->check(CLI::Range(1, 1000000));
  command->add_option("--seconds", timing.seconds, "Least time to spend on a case")
      ->capture_default_str()
      ->check(CLI::Range(0.0, 3600.0));
  return command;
}

}  // namespace fovea::cli
