#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include <nlohmann/json.hpp>

namespace fovea::io {

/// A JSON value whose objects keep the order of their keys.
using Json = nlohmann::ordered_json;

/// Bounds on untrusted JSON.
struct JsonLimits {
  int max_depth = 64;
  int64_t max_bytes = int64_t{256} << 20;
};

/// Parses strict JSON (no comments, valid UTF-8, no duplicate keys, nothing after the value).
/// Throws InputError as `name:line:column: ...`.
Json parse_json(std::string_view text, const std::string& name, const JsonLimits& limits = {});

/// parse_json of a file's content.
Json read_json(const std::string& path, const JsonLimits& limits = {});

/// Writes `value` atomically, indented, with a final newline.
void write_json(const std::string& path, const Json& value);

/// The member `key` of `object` as T (bool, int64_t, double, std::string, vectors of them). Throws
/// InputError with `name`, key, expected and found type, and the nearest key when it is missing.
template <typename T>
T json_field(const Json& object, const std::string& key, const std::string& name);

/// Same with a default for a missing key.
template <typename T>
T json_field_or(const Json& object, const std::string& key, const std::string& name, T fallback);

/// Compact JSON on one line; text that is not UTF-8 is written with U+FFFD.
std::string dump_json(const Json& value);

}  // namespace fovea::io
