#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json_fwd.hpp>

namespace fovea {

/// A value inside a JSON document and where it is, so that an error can name it:
/// "tokenizer.json: model.unk_token: expected a string, found 7".
/// Refers to the document, which must outlive it.
class JsonField {
 public:
  JsonField(const nlohmann::json& value, std::string where)
      : value_(&value), where_(std::move(where)) {}

  const nlohmann::json& value() const { return *value_; }
  const std::string& where() const { return where_; }

  /// The member `key` of an object. Throws InputError if this is no object or has no such member.
  JsonField at(const char* key) const;

  /// The member `key`, or nothing if it is missing or null.
  std::optional<JsonField> find(const char* key) const;

  /// The elements of an array.
  std::vector<JsonField> elements() const;

  /// The value; throws InputError if it is of another type.
  std::string string() const;
  bool boolean() const;
  bool boolean_or(const char* key, bool otherwise) const;

  /// A token id: an integer in [0, 2^31 - 1).
  int32_t id() const;

  /// Throws InputError: where, `expected`, and what is there.
  [[noreturn]] void fail(std::string_view expected) const;

 private:
  const nlohmann::json* value_;
  std::string where_;
};

/// Parses a document from an untrusted source: nesting of at most 64, valid UTF-8.
/// Throws InputError with the byte offset.
nlohmann::json parse_json(std::string_view text, std::string_view source);

}  // namespace fovea
