#include "fovea/text/json_field.h"

#include <limits>

#include <nlohmann/json.hpp>

#include "fovea/core/status.h"

namespace fovea {
namespace {

constexpr int kMaxDepth = 64;
constexpr size_t kMaxShownBytes = 60;

// What an error shows of a value: short, whatever the file holds.
std::string shown(const nlohmann::json& value) {
  if (value.is_object()) return "an object";
  if (value.is_array()) return "an array of " + std::to_string(value.size());
  std::string text = value.dump(-1, ' ', true, nlohmann::json::error_handler_t::replace);
  if (text.size() > kMaxShownBytes) text = text.substr(0, kMaxShownBytes) + "…";
  return text;
}

}  // namespace

void JsonField::fail(std::string_view expected) const {
  throw InputError(where_ + ": expected " + std::string(expected) + ", found " + shown(*value_));
}

std::optional<JsonField> JsonField::find(const char* key) const {
  if (!value_->is_object()) fail("an object");
  const auto place = value_->find(key);
  if (place == value_->end() || place->is_null()) return std::nullopt;
  return JsonField(*place, where_ + (where_.ends_with(": ") ? "" : ".") + key);
}

JsonField JsonField::at(const char* key) const {
  std::optional<JsonField> field = find(key);
  if (!field) {
    throw InputError(where_ + (where_.ends_with(": ") ? "" : ".") + key +
                     ": expected a value, found none");
  }
  return *field;
}

std::vector<JsonField> JsonField::elements() const {
  if (!value_->is_array()) fail("an array");
  std::vector<JsonField> fields;
  for (size_t i = 0; i < value_->size(); ++i) {
    fields.emplace_back((*value_)[i], where_ + "[" + std::to_string(i) + "]");
  }
  return fields;
}

std::string JsonField::string() const {
  if (!value_->is_string()) fail("a string");
  return value_->get<std::string>();
}

bool JsonField::boolean() const {
  if (!value_->is_boolean()) fail("true or false");
  return value_->get<bool>();
}

bool JsonField::boolean_or(const char* key, bool otherwise) const {
  const std::optional<JsonField> field = find(key);
  return field ? field->boolean() : otherwise;
}

int32_t JsonField::id() const {
  constexpr int64_t kLimit = std::numeric_limits<int32_t>::max();
  // Unsigned numbers above 2^63 come out negative.
  const int64_t number = value_->is_number_integer() ? value_->get<int64_t>() : -1;
  if (number < 0 || number >= kLimit) {
    fail("a token id (an integer from 0 to 2147483646)");
  }
  return static_cast<int32_t>(number);
}

nlohmann::json parse_json(std::string_view text, std::string_view source) {
  const auto limit_depth = [&](int depth, nlohmann::json::parse_event_t, nlohmann::json&) {
    if (depth > kMaxDepth) {
      throw InputError(std::string(source) + ": JSON is nested deeper than " +
                       std::to_string(kMaxDepth) +
                       " levels; a tokenizer.json needs fewer than ten");
    }
    return true;
  };
  try {
    return nlohmann::json::parse(text.begin(), text.end(), limit_depth);
  } catch (const nlohmann::json::parse_error& error) {
    throw InputError(std::string(source) + ": byte " + std::to_string(error.byte) +
                     ": not valid JSON: " + error.what());
  } catch (const nlohmann::json::exception& error) {  // a number out of range
    throw InputError(std::string(source) + ": not valid JSON: " + error.what());
  }
}

}  // namespace fovea
