#include "fovea/models/config_fields.h"

#include <algorithm>
#include <numeric>
#include <sstream>

#include <nlohmann/json.hpp>

#include "fovea/core/status.h"

namespace fovea::models {
namespace {

using Json = nlohmann::ordered_json;

int edit_distance(std::string_view a, std::string_view b) {
  std::vector<int> row(b.size() + 1);
  std::iota(row.begin(), row.end(), 0);
  for (size_t i = 0; i < a.size(); ++i) {
    int diagonal = row[0];
    row[0] = static_cast<int>(i) + 1;
    for (size_t j = 0; j < b.size(); ++j) {
      const int above = row[j + 1];
      row[j + 1] = std::min({above + 1, row[j] + 1, diagonal + (a[i] != b[j])});
      diagonal = above;
    }
  }
  return row[b.size()];
}

std::string found(const Json& value) {
  return "found " + shortened(value.dump(-1, ' ', false, Json::error_handler_t::replace));
}

void read(const Json& value, bool& out, std::string_view place, std::string_view field) {
  if (!value.is_boolean()) fail_config(place, field, "expected true or false, " + found(value));
  out = value.get<bool>();
}

void read(const Json& value, int64_t& out, std::string_view place, std::string_view field) {
  if (!value.is_number_integer() ||
      (value.is_number_unsigned() && value.get<uint64_t>() > uint64_t{INT64_MAX})) {
    fail_config(place, field, "expected an integer, " + found(value));
  }
  out = value.get<int64_t>();
}

void read(const Json& value, double& out, std::string_view place, std::string_view field) {
  if (!value.is_number()) fail_config(place, field, "expected a number, " + found(value));
  out = value.get<double>();
}

void read(const Json& value, std::string& out, std::string_view place, std::string_view field) {
  if (!value.is_string()) fail_config(place, field, "expected a text, " + found(value));
  out = value.get<std::string>();
}

void read(const Json& value, std::vector<std::string>& out, std::string_view place,
          std::string_view field) {
  const bool texts = value.is_array() && std::all_of(value.begin(), value.end(),
                                                     [](const Json& x) { return x.is_string(); });
  if (!texts) fail_config(place, field, "expected a list of texts, " + found(value));
  out = value.get<std::vector<std::string>>();
}

Json parse(std::string_view text, std::string_view place) {
  try {
    return Json::parse(text);
  } catch (const Json::exception& error) {
    fail_config(place, "", std::string("not valid JSON: ") + error.what());
  }
}

/// The format_version.
int64_t check_header(const Json& root, std::string_view place, const ConfigFormat& format) {
  if (!root.is_object()) fail_config(place, "", "expected a JSON object, " + found(root));
  if (!root.contains("model_type") || root["model_type"] != format.model_type) {
    fail_config(place, "model_type",
                "expected \"" + std::string(format.model_type) + "\", " +
                    (root.contains("model_type") ? found(root["model_type"]) : "found nothing") +
                    "; this is not the config of " + std::string(format.whose));
  }
  const std::string newest = std::to_string(format.version);
  if (!root.contains("format_version")) {
    fail_config(place, "format_version", "missing; expected an integer from 1 to " + newest);
  }
  int64_t version = 0;
  read(root["format_version"], version, place, "format_version");
  if (version > format.version) {
    fail_config(place, "format_version",
                "found " + std::to_string(version) + ", but this program reads formats up to " +
                    newest + "; the model was written by a newer fovea: update fovea to use it");
  }
  if (version < 1) fail_config(place, "format_version", "expected at least 1, " + found(version));
  return version;
}

void check_known(const Json& root, std::string_view place, const std::vector<ConfigField>& fields) {
  std::vector<std::string> known = {"model_type", "format_version"};
  for (const ConfigField& field : fields) known.emplace_back(field.name);
  for (const auto& item : root.items()) {
    const std::string& key = item.key();
    if (std::find(known.begin(), known.end(), key) != known.end()) continue;
    const std::string shown = shortened(key);
    const auto nearest = std::min_element(known.begin(), known.end(), [&](auto& a, auto& b) {
      return edit_distance(shown, a) < edit_distance(shown, b);
    });
    fail_config(place, shown, "unknown; did you mean \"" + *nearest + "\"?");
  }
}

}  // namespace

std::string shortened(const std::string& text) {
  return text.size() <= 80 ? text : text.substr(0, 77) + "...";
}

void fail_config(std::string_view place, std::string_view field, const std::string& what) {
  std::ostringstream message;
  message << place;
  if (!field.empty()) message << ": field \"" << field << '"';
  message << ": " << what;
  throw InputError(message.str());
}

void read_config(std::string_view text, std::string_view place, const ConfigFormat& format,
                 const std::vector<ConfigField>& fields) {
  const Json root = parse(text, place);
  const int64_t version = check_header(root, place, format);
  check_known(root, place, fields);
  for (const ConfigField& field : fields) {
    if (!root.contains(field.name)) {
      if (version < field.since) continue;  // the member keeps its default
      fail_config(place, field.name, "missing; every field must be given");
    }
    std::visit([&](auto* member) { read(root[field.name], *member, place, field.name); },
               field.member);
  }
}

std::string write_config(const ConfigFormat& format, const std::vector<ConfigField>& fields) {
  Json root;
  root["model_type"] = format.model_type;
  root["format_version"] = format.version;
  for (const ConfigField& field : fields) {
    std::visit([&](const auto* member) { root[field.name] = *member; }, field.member);
  }
  return root.dump(2) + "\n";
}

std::string model_type_of(std::string_view text, std::string_view place) {
  const Json root = parse(text, place);
  if (!root.is_object() || !root.contains("model_type") || !root["model_type"].is_string()) {
    return "";
  }
  return root["model_type"].get<std::string>();
}

void ConfigChecker::integer(std::string_view field, int64_t value, int64_t low,
                            int64_t high) const {
  if (value >= low && value <= high) return;
  fail_config(place, field,
              "expected " + std::to_string(low) + " to " + std::to_string(high) + ", found " +
                  std::to_string(value));
}

void ConfigChecker::probability(std::string_view field, double value) const {
  if (value >= 0 && value < 1) return;
  std::ostringstream what;
  what << "expected a probability from 0 to below 1, found " << value;
  fail_config(place, field, what.str());
}

void ConfigChecker::choice(std::string_view field, const std::string& value,
                           std::initializer_list<std::string_view> choices) const {
  if (std::find(choices.begin(), choices.end(), value) != choices.end()) return;
  std::string what = "expected one of";
  for (const auto c : choices) what += (c == *choices.begin() ? " " : ", ") + std::string(c);
  fail_config(place, field, what + "; found \"" + shortened(value) + '"');
}

}  // namespace fovea::models
