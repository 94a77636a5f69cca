#pragma once

#include <CLI/CLI.hpp>

namespace fovea::cli {

// One file for each sub-command, NAME_command.cpp, that declares the options and a callback and
// registers itself:
//
//     void add_plan(CLI::App& app) {
//       CLI::App* command = app.add_subcommand("plan", "Draw who attends to whom");
//       …
//       command->callback([=] { … });
//     }
//     const Registration registration("plan", add_plan);
//
// The callback does the work, writes results to stdout and everything else to stderr, and throws
// fovea::Error. main.cpp is the only place that prints an error and chooses the exit code; a
// command whose work ends with another code than 0 calls set_exit_code().

using AddCommand = void (*)(CLI::App& app);

/// Registers a sub-command when the program starts; `--help` lists them by name.
struct Registration {
  Registration(const char* name, AddCommand add);
};

/// Exit code of a command that ends without an exception; 0 unless set.
void set_exit_code(int code);

/// What --threads says; 0 when it was not given.
int threads_option();

/// What --log-level says: debug, info, warning or error.
const char* log_level_option();

}  // namespace fovea::cli
