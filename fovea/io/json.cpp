#include "fovea/io/json.h"

#include <algorithm>
#include <set>
#include <type_traits>
#include <vector>

#include "fovea/core/status.h"
#include "fovea/io/atomic_file.h"
#include "fovea/io/file.h"
#include "fovea/io/suggest.h"

namespace fovea::io {
namespace {

std::string place_of(std::string_view text, size_t offset, const std::string& name) {
  const std::string_view before = text.substr(0, std::min(offset, text.size()));
  const auto line = 1 + std::count(before.begin(), before.end(), '\n');
  const size_t newline = before.rfind('\n');
  const size_t column =
      newline == std::string_view::npos ? before.size() : before.size() - newline - 1;
  return name + ":" + std::to_string(line) + ":" + std::to_string(std::max<size_t>(column, 1));
}

// "[json.exception.parse_error.101] parse error at line 1, column 3: syntax error ..." -> the rest.
std::string reason_of(const std::string& message) {
  size_t begin = message.find("column ");
  begin = message.find(": ", begin == std::string::npos ? 0 : begin);
  return begin == std::string::npos ? message : message.substr(begin + 2);
}

const char* type_name(const Json& value) {
  if (value.is_number_integer()) return "an integer";
  if (value.is_number()) return "a number";
  if (value.is_string()) return "a string";
  if (value.is_boolean()) return "true or false";
  if (value.is_array()) return "an array";
  if (value.is_object()) return "an object";
  return "null";
}

template <typename T>
bool convert(const Json& value, T& out) {
  if constexpr (std::is_same_v<T, bool>) {
    if (!value.is_boolean()) return false;
  } else if constexpr (std::is_same_v<T, int64_t>) {
    if (!value.is_number_integer()) return false;
    if (value.is_number_unsigned() && value.get<uint64_t>() > uint64_t{INT64_MAX}) return false;
  } else if constexpr (std::is_same_v<T, double>) {
    if (!value.is_number()) return false;
  } else if constexpr (std::is_same_v<T, std::string>) {
    if (!value.is_string()) return false;
  } else {
    if (!value.is_array()) return false;
    out.clear();
    for (const Json& item : value) {
      typename T::value_type element;
      if (!convert(item, element)) return false;
      out.push_back(std::move(element));
    }
    return true;
  }
  out = value.get<T>();
  return true;
}

template <typename T>
std::string expected_name() {
  if constexpr (std::is_same_v<T, bool>) return "true or false";
  if constexpr (std::is_same_v<T, int64_t>) return "an integer";
  if constexpr (std::is_same_v<T, double>) return "a number";
  if constexpr (std::is_same_v<T, std::string>) return "a string";
  if constexpr (std::is_same_v<T, std::vector<int64_t>>) return "an array of integers";
  if constexpr (std::is_same_v<T, std::vector<double>>) return "an array of numbers";
  return "an array of strings";
}

template <typename T>
T required(const Json& value, const std::string& key, const std::string& name) {
  T result{};
  if (!convert(value, result)) {
    throw InputError(name + ": field \"" + key + "\": expected " + expected_name<T>() + ", found " +
                     type_name(value));
  }
  return result;
}

}  // namespace

Json parse_json(std::string_view text, const std::string& name, const JsonLimits& limits) {
  if (static_cast<int64_t>(text.size()) > limits.max_bytes) {
    throw InputError(name + ": expected at most " + std::to_string(limits.max_bytes) +
                     " bytes of JSON, found " + std::to_string(text.size()));
  }
  std::vector<std::set<std::string>> keys;  // of the objects that are open
  const auto check = [&](int depth, Json::parse_event_t event, Json& value) {
    using Event = Json::parse_event_t;
    if (event == Event::object_start || event == Event::array_start) {
      if (depth >= limits.max_depth) {
        throw InputError(name + ": expected JSON nested at most " +
                         std::to_string(limits.max_depth) + " deep, found deeper");
      }
      if (event == Event::object_start) keys.emplace_back();
    } else if (event == Event::object_end) {
      keys.pop_back();
    } else if (event == Event::key && !keys.back().insert(value.get<std::string>()).second) {
      throw InputError(name + ": the key " + dump_json(value) + " is given twice in one object");
    }
    return true;
  };
  try {
    return Json::parse(text.begin(), text.end(), check);
  } catch (const Json::parse_error& error) {
    throw InputError(place_of(text, error.byte, name) +
                     ": not valid JSON: " + reason_of(error.what()));
  } catch (const Json::exception& error) {  // a number out of range
    throw InputError(name + ": not valid JSON: " + error.what());
  }
}

Json read_json(const std::string& path, const JsonLimits& limits) {
  return parse_json(read_file(path, limits.max_bytes), path, limits);
}

void write_json(const std::string& path, const Json& value) {
  write_file(path, value.dump(2, ' ', false, Json::error_handler_t::replace) + "\n");
}

std::string dump_json(const Json& value) {
  return value.dump(-1, ' ', false, Json::error_handler_t::replace);
}

template <typename T>
T json_field(const Json& object, const std::string& key, const std::string& name) {
  if (!object.is_object()) {
    throw InputError(name + ": expected an object with the field \"" + key + "\", found " +
                     type_name(object));
  }
  const auto member = object.find(key);
  if (member == object.end()) {
    std::vector<std::string> keys;
    for (const auto& item : object.items()) keys.push_back(item.key());
    const std::string found = nearest(key, keys);
    throw InputError(name + ": field \"" + key + "\" is missing" +
                     (found.empty() ? "" : " (there is \"" + found + "\")"));
  }
  return required<T>(*member, key, name);
}

template <typename T>
T json_field_or(const Json& object, const std::string& key, const std::string& name, T fallback) {
  if (object.is_object() && !object.contains(key)) return fallback;
  return json_field<T>(object, key, name);
}

#define FOVEA_JSON_FIELD(T)                                                      \
  template T json_field<T>(const Json&, const std::string&, const std::string&); \
  template T json_field_or<T>(const Json&, const std::string&, const std::string&, T);
FOVEA_JSON_FIELD(bool)
FOVEA_JSON_FIELD(int64_t)
FOVEA_JSON_FIELD(double)
FOVEA_JSON_FIELD(std::string)
FOVEA_JSON_FIELD(std::vector<int64_t>)
FOVEA_JSON_FIELD(std::vector<double>)
FOVEA_JSON_FIELD(std::vector<std::string>)
#undef FOVEA_JSON_FIELD

}  // namespace fovea::io
