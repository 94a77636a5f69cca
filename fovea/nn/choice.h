#pragma once

#include <string>
#include <utility>

#include "fovea/core/status.h"

namespace fovea::nn {

/// The value that `name` stands for in a list of (name, value); throws InputError that lists the
/// names, with `what` they choose.
template <typename T, size_t N>
T parse_choice(const char* what, const std::string& name,
               const std::pair<const char*, T> (&choices)[N]) {
  std::string names;
  for (const auto& [known, value] : choices) {
    if (name == known) return value;
    names += (names.empty() ? "" : ", ") + std::string(known);
  }
  throw InputError(std::string(what) + ": expected one of " + names + "; found \"" + name + '"');
}

}  // namespace fovea::nn
