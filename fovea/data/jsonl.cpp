#include <algorithm>
#include <utility>

#include <nlohmann/json.hpp>

#include "fovea/core/status.h"
#include "fovea/data/readers.h"
#include "fovea/io/json.h"
#include "fovea/io/suggest.h"
#include "fovea/text/utf8.h"

namespace fovea::data {
namespace {

constexpr size_t kMaxDepth = 64;

// Takes text, label and id off one record, event by event: no tree of what is not needed.
class RecordHandler {
 public:
  using number_integer_t = nlohmann::json::number_integer_t;
  using number_unsigned_t = nlohmann::json::number_unsigned_t;
  using number_float_t = nlohmann::json::number_float_t;
  using string_t = nlohmann::json::string_t;
  using binary_t = nlohmann::json::binary_t;

  RecordHandler(const DataOptions& options, std::vector<std::string>& ignored)
      : options_(options), ignored_(ignored), texts_(options.text_fields.size()) {}

  // `place` is "file:line", for messages.
  void read(std::string_view line, const std::string& place, Example& example) {
    place_ = place;
    example_ = &example;
    depth_ = 0;
    for (auto& [found, text] : texts_) found = false;
    keys_.clear();
    label_found_ = id_found_ = false;
    nlohmann::json::sax_parse(line.begin(), line.end(), this);
    finish();
  }

  bool key(string_t& key) {
    if (depth_ != 1) return true;
    keys_.push_back(key);
    target_ = Target::kNone;
    for (size_t i = 0; i < texts_.size(); ++i) {
      if (key != options_.text_fields[i] && (i > 0 || key != options_.text_alias || key.empty()))
        continue;
      take(texts_[i].first, Target::kText);
      text_index_ = i;
      return true;
    }
    if (key == options_.label_field) {
      take(label_found_, Target::kLabel);
    } else if (key == options_.id_field) {
      take(id_found_, Target::kId);
    } else if (std::find(ignored_.begin(), ignored_.end(), key) == ignored_.end() &&
               ignored_.size() < kMaxIgnored) {
      ignored_.push_back(key);
    }
    return true;
  }

  bool string(string_t& value) {
    switch (target()) {
      case Target::kText:
        texts_[text_index_].second = std::move(value);
        break;
      case Target::kLabel:
        set_label(std::move(value));
        break;
      case Target::kId:
        example_->id = io::dump_json(io::Json(value));
        break;
      case Target::kNone:
        refuse("a string");
        break;
    }
    return true;
  }

  bool number_integer(number_integer_t value) { return number(std::to_string(value)); }
  bool number_unsigned(number_unsigned_t value) { return number(std::to_string(value)); }
  bool number_float(number_float_t, const string_t& spelling) { return number(spelling); }
  bool boolean(bool value) {
    const std::string text = value ? "true" : "false";
    if (target() == Target::kLabel) {
      set_label(text);
    } else {
      refuse(text);
    }
    return true;
  }
  bool null() {
    if (target() == Target::kLabel && !options_.require_label) return true;
    if (target() != Target::kId) refuse("null");
    return true;
  }
  bool start_object(size_t) { return enter(true); }
  bool start_array(size_t) { return enter(false); }
  bool end_object() { return leave(); }
  bool end_array() { return leave(); }
  bool binary(binary_t&) { return true; }

  bool parse_error(size_t position, const std::string&, const nlohmann::detail::exception& error) {
    const std::string message = error.what();
    const size_t reason = message.find(": ");
    constexpr size_t kShown = 160;
    throw InputError(place_ + ": byte " + std::to_string(position > 0 ? position - 1 : 0) +
                     ": not valid JSON: " +
                     message.substr(reason == std::string::npos ? 0 : reason + 2, kShown) +
                     R"(; expected one object a line, as {"text": "...", "label": "..."})");
  }

 private:
  enum class Target { kNone, kText, kLabel, kId };
  static constexpr size_t kMaxIgnored = 20;

  // What the value that comes now is for; values inside ignored objects and arrays are for nothing.
  Target target() const { return depth_ == 1 ? target_ : Target::kNone; }

  void take(bool& found, Target target) {
    if (found) throw InputError(place_ + ": field " + field() + " is given twice");
    found = true;
    target_ = target;
  }

  std::string field() const { return io::dump_json(io::Json(keys_.back())); }

  void refuse(const std::string& found) const {
    if (depth_ == 0) throw InputError(place_ + ": expected a JSON object, found " + found);
    if (target() == Target::kText) {
      throw InputError(place_ + ": field " + field() + ": expected a string, found " + found);
    }
    if (target() == Target::kLabel) {
      throw InputError(place_ + ": field " + field() +
                       ": expected one label, a string or a number, found " + found);
    }
    if (target() == Target::kId) {
      throw InputError(place_ + ": field " + field() + ": expected a string or a number, found " +
                       found);
    }
  }

  bool number(const std::string& spelling) {
    if (target() == Target::kLabel) {
      set_label(spelling);
    } else if (target() == Target::kId) {
      example_->id = spelling;
    } else {
      refuse("a number");
    }
    return true;
  }

  void set_label(std::string label) {
    if (label.empty() && options_.require_label) refuse("an empty string");
    example_->has_label = !label.empty();
    example_->label = std::move(label);
  }

  bool enter(bool is_object) {
    if (depth_ > 0 || !is_object) refuse(is_object ? "an object" : "an array");
    if (++depth_ > kMaxDepth) {
      throw InputError(place_ + ": expected JSON nested at most 64 deep, found deeper");
    }
    return true;
  }
  bool leave() {
    --depth_;
    return true;
  }

  void finish() {
    for (size_t i = 0; i < texts_.size(); ++i) {
      if (!texts_[i].first) fail_missing(options_.text_fields[i], "--data.text");
      if (i == 0) {
        example_->text = std::move(texts_[i].second);
      } else {
        example_->text += '\n';
        example_->text += texts_[i].second;
      }
    }
    if (options_.require_label && !label_found_) fail_missing(options_.label_field, "--data.label");
  }

  [[noreturn]] void fail_missing(const std::string& name, const char* flag) const {
    std::string found;
    for (const std::string& key : keys_) {
      if (found.size() > 200) break;
      if (!found.empty()) found += ", ";
      found += io::dump_json(io::Json(key));
    }
    throw InputError(place_ + ": field \"" + name + "\" is missing; the record has " +
                     (found.empty() ? "no fields" : found) + io::suggestion(name, keys_) + " (" +
                     flag + " names another field)");
  }

  const DataOptions& options_;
  std::vector<std::string>& ignored_;
  std::string place_;
  Example* example_ = nullptr;
  std::vector<std::pair<bool, std::string>> texts_;  // seen, text
  std::vector<std::string> keys_;
  size_t depth_ = 0, text_index_ = 0;
  Target target_ = Target::kNone;
  bool label_found_ = false, id_found_ = false;
};

class JsonlReader : public ExampleReader {
 public:
  JsonlReader(io::LineReader lines, const DataOptions& options)
      : options_(options), lines_(std::move(lines)), handler_(options_, ignored_) {}

  bool next(Example& example) override {
    std::string_view line;
    while (lines_.next(line)) {
      skip_byte_order_mark(line, lines_.line_number());
      if (line.find_first_not_of(" \t\r") == std::string_view::npos) continue;
      example.label.clear();
      example.id.clear();
      example.has_label = false;
      example.line = lines_.line_number();
      example.file = lines_.name();
      read_record(line, example);
      if (!any_) say_ignored(lines_.name(), ignored_);
      any_ = true;
      return true;
    }
    if (!any_ && options_.require_label) fail_empty(lines_.name());
    return false;
  }

 private:
  void read_record(std::string_view line, Example& example) {
    const std::string place = place_of(lines_);
    const size_t offset = find_invalid_utf8(line);
    if (offset != std::string_view::npos) {
      if (options_.encoding_errors != EncodingErrors::kReplace) {
        const std::string fault = place + ": invalid UTF-8 at byte " + std::to_string(offset) +
                                  " of the line; JSON is UTF-8: convert the file, or use "
                                  "--encoding-errors replace";
        if (options_.encoding_faults == nullptr) throw InputError(fault);
        options_.encoding_faults->push_back(fault);
      }
      handler_.read(replace_invalid_utf8(line), place, example);
      return;
    }
    handler_.read(line, place, example);
  }

  DataOptions options_;
  io::LineReader lines_;
  std::vector<std::string> ignored_;
  RecordHandler handler_;
  bool any_ = false;
};

}  // namespace

std::unique_ptr<ExampleReader> make_jsonl_reader(io::LineReader lines, const DataOptions& options) {
  return std::make_unique<JsonlReader>(std::move(lines), options);
}

}  // namespace fovea::data
