#pragma once

#include <CLI/CLI.hpp>

namespace fovea::cli {

// One function for each sub-command, in a file of the same name. It declares the options and a
// callback; the callback does the work, writes results to stdout and everything else to stderr, and
// throws fovea::Error. main.cpp is the only place that prints an error and chooses the exit code.

}  // namespace fovea::cli
