#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "fovea/text/json_field.h"

namespace fovea {

/// Reads a "vocab" object {token: id}, ordered by id. Throws InputError if an id is no integer, is
/// used twice, or leaves more numbers unused than there are tokens (a table by id would have the
/// size that the file merely claims).
std::vector<std::pair<std::string, int32_t>> read_vocabulary(const JsonField& vocab);

/// What follows a vocabulary's path in an error: ["token"], shortened.
std::string shown_token(std::string_view token);

}  // namespace fovea
