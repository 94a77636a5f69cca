#pragma once

#include "tools/cli/timing.h"
#include <CLI/CLI.hpp>

namespace fovea::cli {

/// Adds `fovea bench NAME` with the flags --repeat and --seconds for `timing`, which must outlive
/// `app`.
CLI::App* add_bench_command(CLI::App& app, const char* name, const char* help,
                            TimingOptions& timing);

}  // namespace fovea::cli
