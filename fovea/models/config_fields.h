#pragma once

#include <cstdint>
#include <initializer_list>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

namespace fovea::models {

/// A member of a config, its name in config.json and the format_version that brought it.
struct ConfigField {
  const char* name;
  std::variant<bool*, int64_t*, double*, std::string*, std::vector<std::string>*> member;
  int64_t since = 1;
};

/// What config.json says of itself.
struct ConfigFormat {
  std::string_view model_type;
  int64_t version;         ///< newest that this program reads
  std::string_view whose;  ///< "a fovea text classifier", for messages
};

/// Reads config.json's text into `fields`; `place` is the file's name for messages. Strict: every
/// field of its format_version must be there, an unknown one is an error that suggests the nearest,
/// and a newer format_version is refused. Throws InputError.
void read_config(std::string_view text, std::string_view place, const ConfigFormat& format,
                 const std::vector<ConfigField>& fields);

/// config.json's text, indented, with model_type and format_version; read_config reads it back.
std::string write_config(const ConfigFormat& format, const std::vector<ConfigField>& fields);

/// The model_type of config.json's text, "" where it has none; throws InputError for no JSON.
std::string model_type_of(std::string_view text, std::string_view place);

/// Throws InputError "PLACE: field "FIELD": WHAT".
[[noreturn]] void fail_config(std::string_view place, std::string_view field,
                              const std::string& what);

/// Conditions on values; each throws InputError "PLACE: field "FIELD": expected …, found …".
struct ConfigChecker {
  std::string_view place;

  void integer(std::string_view field, int64_t value, int64_t low, int64_t high) const;
  void probability(std::string_view field, double value) const;
  void choice(std::string_view field, const std::string& value,
              std::initializer_list<std::string_view> choices) const;
};

/// At most 80 bytes of `text`, for messages.
std::string shortened(const std::string& text);

}  // namespace fovea::models
