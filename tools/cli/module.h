#pragma once

#include <string>

#include "fovea/io/json.h"

// The boundary between the program, which starts in milliseconds, and libfovea_commands.so, which
// holds everything that needs torch and is loaded only when such a command runs.

extern "C" {

/// Runs `command` ("train", "eval", …: module/entry.cpp) with its options as JSON text and returns
/// the process's exit code. An error's text goes to `report`; no exception crosses.
using FoveaCommand = int (*)(const char* command, const char* options,
                             void (*report)(void* context, const char* text), void* context);
}

namespace fovea::cli {

/// Name of the one symbol of libfovea_commands.so.
constexpr const char* kModuleSymbol = "fovea_command";

/// Loads libfovea_commands.so (beside the program: ../lib) and runs the command; --threads and
/// --log-level are added to `options`. Prints the error, sets the exit code. Throws
/// Error(kUnsupported) when the library is not there.
void run_in_module(const std::string& command, io::Json options);

}  // namespace fovea::cli
