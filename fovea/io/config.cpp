#include "fovea/io/config.h"

#include <algorithm>
#include <charconv>
#include <cstdio>
#include <limits>
#include <type_traits>
#include <utility>

#include <toml++/toml.h>

#include "fovea/core/status.h"
#include "fovea/io/file.h"
#include "fovea/io/suggest.h"

namespace fovea::io {
namespace {

using Value = Config::Value;

std::string place_of(const toml::source_region& region, const std::string& name) {
  return name + ":" + std::to_string(region.begin.line) + ":" + std::to_string(region.begin.column);
}

// False for what settings cannot be: dates, tables in arrays, mixed arrays.
bool to_value(const toml::node& node, Value& out) {
  if (const auto* boolean = node.as_boolean()) {
    out = boolean->get();
  } else if (const auto* integer = node.as_integer()) {
    out = int64_t{integer->get()};
  } else if (const auto* number = node.as_floating_point()) {
    out = number->get();
  } else if (const auto* string = node.as_string()) {
    out = string->get();
  } else if (const auto* array = node.as_array()) {
    std::vector<int64_t> integers;
    std::vector<double> numbers;
    std::vector<std::string> strings;
    for (const toml::node& item : *array) {
      if (const auto* element = item.as_string()) {
        strings.push_back(element->get());
      } else if (item.is_number()) {
        numbers.push_back(*item.value<double>());
        if (const auto* whole = item.as_integer()) integers.push_back(whole->get());
      } else {
        return false;
      }
    }
    if (strings.size() == array->size()) {
      out = std::move(strings);
    } else if (integers.size() == array->size()) {
      out = std::move(integers);
    } else if (numbers.size() == array->size()) {
      out = std::move(numbers);
    } else {
      return false;
    }
  } else {
    return false;
  }
  return true;
}

std::string quoted(const std::string& text) {
  std::string out = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') {
      out += '\\';
      out += c;
    } else if (static_cast<unsigned char>(c) < 0x20 || c == 0x7F) {
      char escape[8];
      std::snprintf(escape, sizeof escape, "\\u%04X", static_cast<unsigned>(c));
      out += escape;
    } else {
      out += c;
    }
  }
  return out + "\"";
}

std::string number_text(double value) {
  if (value != value) return "nan";
  if (value == std::numeric_limits<double>::infinity()) return "inf";
  if (value == -std::numeric_limits<double>::infinity()) return "-inf";
  char text[32];
  const auto end = std::to_chars(text, text + sizeof text, value).ptr;
  std::string out(text, end);
  if (out.find_first_of(".e") == std::string::npos) out += ".0";
  return out;
}

std::string to_toml(const Value& value) {
  return std::visit(
      [](const auto& v) -> std::string {
        using T = std::decay_t<decltype(v)>;
        if constexpr (std::is_same_v<T, bool>) {
          return v ? "true" : "false";
        } else if constexpr (std::is_same_v<T, int64_t>) {
          return std::to_string(v);
        } else if constexpr (std::is_same_v<T, double>) {
          return number_text(v);
        } else if constexpr (std::is_same_v<T, std::string>) {
          return quoted(v);
        } else {
          std::string out = "[";
          for (const auto& item : v) {
            if (out.size() > 1) out += ", ";
            out += to_toml(Value(item));
          }
          return out + "]";
        }
      },
      value);
}

template <typename T>
const char* expected_name() {
  if constexpr (std::is_same_v<T, bool>) return "true or false";
  if constexpr (std::is_same_v<T, int64_t>) return "an integer";
  if constexpr (std::is_same_v<T, double>) return "a number";
  if constexpr (std::is_same_v<T, std::string>) return "a string";
  if constexpr (std::is_same_v<T, std::vector<int64_t>>) return "a list of integers";
  if constexpr (std::is_same_v<T, std::vector<double>>) return "a list of numbers";
  return "a list of strings";
}

template <typename T>
bool convert(const Value& value, T& out) {
  if (const T* exact = std::get_if<T>(&value)) {
    out = *exact;
    return true;
  }
  if constexpr (std::is_same_v<T, double>) {
    if (const auto* integer = std::get_if<int64_t>(&value)) {
      out = static_cast<double>(*integer);
      return true;
    }
  }
  return false;
}

template <typename E>
bool convert_list(const Value& value, std::vector<E>& out) {
  if (convert(value, out)) return true;
  if (const auto* strings = std::get_if<std::vector<std::string>>(&value);
      strings != nullptr && strings->empty()) {
    out.clear();  // [] has no element type
    return true;
  }
  if constexpr (std::is_same_v<E, double>) {
    if (const auto* integers = std::get_if<std::vector<int64_t>>(&value)) {
      out.assign(integers->begin(), integers->end());
      return true;
    }
  }
  E single;
  if (!convert(value, single)) return false;
  out.assign(1, std::move(single));
  return true;
}

std::vector<std::string> split_at_commas(const std::string& text) {
  std::vector<std::string> parts;
  size_t begin = 0;
  for (size_t comma; (comma = text.find(',', begin)) != std::string::npos; begin = comma + 1) {
    parts.push_back(text.substr(begin, comma - begin));
  }
  parts.push_back(text.substr(begin));
  return parts;
}

bool is_bare_key(std::string_view key) {
  return !key.empty() && std::all_of(key.begin(), key.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
           c == '-';
  });
}

// TOML's reading of a flag's text; the text itself where it has none.
Value parse_flag(const std::string& text) {
  Value value = text;
  if (text.find_first_of("\n\r#") != std::string::npos) return value;
  try {
    const toml::table table = toml::parse("v = " + text);
    Value parsed;
    if (table.size() == 1 && to_value(*table.get("v"), parsed)) value = std::move(parsed);
  } catch (const toml::parse_error&) {
    return value;
  }
  return value;
}

}  // namespace

Config Config::load(const std::string& path) {
  constexpr int64_t kMaxBytes = 16 << 20;
  return parse(read_file(path, kMaxBytes), path);
}

Config Config::parse(std::string_view text, const std::string& name) {
  toml::table root;
  try {
    root = toml::parse(text, name);
  } catch (const toml::parse_error& error) {
    throw InputError(place_of(error.source(), name) +
                     ": not valid TOML: " + std::string(error.description()));
  }
  Config config;
  const auto walk = [&](const auto& self, const toml::table& table,
                        const std::string& prefix) -> void {
    for (const auto& [key, node] : table) {
      const std::string full = prefix + std::string(key.str());
      const std::string place = place_of(node.source(), name);
      if (const toml::table* inner = node.as_table()) {
        self(self, *inner, full + ".");
        continue;
      }
      Entry entry;
      entry.place = place;
      if (!to_value(node, entry.value)) {
        throw InputError(place + ": " + full +
                         ": expected true or false, a number, a string, or a list of numbers or of "
                         "strings");
      }
      if (!config.entries_.emplace(full, std::move(entry)).second) {
        throw InputError(place + ": " + full + " is given twice");
      }
    }
  };
  walk(walk, root, "");
  return config;
}

void Config::set(const std::string& key, const std::string& text, const std::string& place) {
  entries_[key] = Entry{parse_flag(text), text, place, true};
}

std::string Config::place(const std::string& key) const {
  const auto entry = entries_.find(key);
  return entry == entries_.end() ? "default" : entry->second.place;
}

void Config::fail(const std::string& key, const std::string& what) const {
  throw InputError(place(key) + ": " + key + ": " + what);
}

template <typename T>
void Config::read_value(const std::string& key, T& field) {
  if (const auto found = entries_.find(key); found != entries_.end()) {
    const Entry& entry = found->second;
    bool good = false;
    if constexpr (std::is_same_v<T, std::string>) {
      good = convert(entry.value, field);
      if (!good && entry.from_flag) {
        field = entry.text;
        good = true;
      }
    } else if constexpr (std::is_same_v<T, bool> || std::is_same_v<T, int64_t> ||
                         std::is_same_v<T, double>) {
      good = convert(entry.value, field);
    } else {
      // A flag may list values without brackets: --data.text title,text
      const bool bare = entry.from_flag && !entry.text.starts_with('[');
      if constexpr (std::is_same_v<T, std::vector<std::string>>) {
        if (bare) {
          field = split_at_commas(entry.text);
          good = true;
        }
      }
      if (!good)
        good = convert_list(bare ? parse_flag("[" + entry.text + "]") : entry.value, field);
    }
    if (!good) {
      fail(key, std::string("expected ") + expected_name<T>() + ", found " +
                    (entry.from_flag ? "\"" + entry.text + "\"" : to_toml(entry.value)));
    }
  }
  const auto known = std::find_if(in_force_.begin(), in_force_.end(),
                                  [&](const auto& item) { return item.first == key; });
  if (known != in_force_.end()) {
    known->second = Value(field);
  } else {
    in_force_.emplace_back(key, Value(field));
  }
}

void Config::read(const std::string& key, bool& field) { read_value(key, field); }
void Config::read(const std::string& key, int64_t& field) { read_value(key, field); }
void Config::read(const std::string& key, double& field) { read_value(key, field); }
void Config::read(const std::string& key, std::string& field) { read_value(key, field); }
void Config::read(const std::string& key, std::vector<int64_t>& field) { read_value(key, field); }
void Config::read(const std::string& key, std::vector<double>& field) { read_value(key, field); }
void Config::read(const std::string& key, std::vector<std::string>& field) {
  read_value(key, field);
}

void Config::read(const std::string& key, int& field) {
  int64_t wide = field;
  read_value(key, wide);
  if (wide < std::numeric_limits<int>::min() || wide > std::numeric_limits<int>::max()) {
    fail(key, "expected an integer of 32 bits, found " + std::to_string(wide));
  }
  field = static_cast<int>(wide);
}

void Config::read(const std::string& key, uint64_t& field) {
  // TOML's integers are signed: seeds above 2^63 - 1 cannot be written, so they are not accepted.
  int64_t wide = static_cast<int64_t>(field);
  read_value(key, wide);
  if (wide < 0) fail(key, "expected an integer of at least 0, found " + std::to_string(wide));
  field = static_cast<uint64_t>(wide);
}

void Config::refuse_unknown() const {
  std::vector<std::string> known;
  known.reserve(in_force_.size());
  for (const auto& item : in_force_) known.push_back(item.first);
  for (const auto& [key, entry] : entries_) {
    if (std::find(known.begin(), known.end(), key) == known.end()) {
      fail(key, "there is no such setting" + suggestion(key, known));
    }
  }
}

std::string Config::dump() const {
  std::vector<std::pair<std::string, std::string>> tables = {{"", ""}};  // name, lines
  for (const auto& [key, value] : in_force_) {
    const size_t dot = key.rfind('.');
    const std::string table = dot == std::string::npos ? "" : key.substr(0, dot);
    const std::string name = dot == std::string::npos ? key : key.substr(dot + 1);
    auto found = std::find_if(tables.begin(), tables.end(),
                              [&](const auto& item) { return item.first == table; });
    if (found == tables.end()) found = tables.insert(tables.end(), {table, ""});
    found->second += (is_bare_key(name) ? name : quoted(name)) + " = " + to_toml(value) + "\n";
  }
  std::string out = tables.front().second;
  for (size_t i = 1; i < tables.size(); ++i) {
    out += (out.empty() ? "[" : "\n[") + tables[i].first + "]\n" + tables[i].second;
  }
  return out;
}

}  // namespace fovea::io
