#include <algorithm>
#include <utility>

#include "fovea/core/status.h"
#include "fovea/data/readers.h"
#include "fovea/io/json.h"
#include "fovea/io/suggest.h"

namespace fovea::data {
namespace {

constexpr std::string_view kLabelMark = "__label__";

std::string list_of(const std::vector<std::string>& names) {
  std::string list;
  for (const std::string& name : names) {
    if (!list.empty()) list += ", ";
    list += name;
  }
  return list;
}

// Which column is what.
struct Layout {
  std::vector<size_t> text;
  size_t label = kNone, id = kNone;
  static constexpr size_t kNone = SIZE_MAX;
};

bool contains(const std::vector<std::string>& names, const std::string& name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

size_t column_of(const std::string& name, const std::vector<std::string>& columns,
                 const std::string& where) {
  const auto found = std::find(columns.begin(), columns.end(), name);
  if (found == columns.end()) {
    throw InputError(where + " names " + list_of(columns) + ", and no \"" + name + "\"" +
                     io::suggestion(name, columns));
  }
  return static_cast<size_t>(found - columns.begin());
}

class ColumnsReader : public ExampleReader {
 public:
  ColumnsReader(io::LineReader lines, Format format, const DataOptions& options)
      : options_(options), format_(format), lines_(std::move(lines)) {
    if (!options_.columns.empty() && has_columns()) {
      name_columns(options_.columns, lines_.name() + ": --data.columns");
    }
  }

  bool next(Example& example) override {
    std::string_view line;
    while (lines_.next(line)) {
      skip_byte_order_mark(line, lines_.line_number());
      if (line.ends_with('\r') && format_ != Format::kCsv) line.remove_suffix(1);
      if (format_ != Format::kText && (line.empty() || line == "\r")) continue;
      example.label.clear();
      example.id.clear();
      example.has_label = false;
      example.line = lines_.line_number();
      example.file = lines_.name();
      place_ = place_of(lines_);
      split_record(line);
      if (std::exchange(at_start_, false) && has_columns() && is_header()) continue;
      take_record(line, example);
      settle_encoding(example.text, place_ + ": text", options_);
      if (example.has_label) settle_encoding(example.label, place_ + ": label", options_);
      any_ = true;
      return true;
    }
    if (!any_ && options_.require_label) fail_empty(lines_.name());
    return false;
  }

 private:
  bool has_columns() const { return format_ == Format::kTsv || format_ == Format::kCsv; }

  // Whether the first record is the columns' names: those given, or, where none are, names that
  // hold the fields to be read. A header found names the columns.
  bool is_header() {
    if (!options_.columns.empty()) return fields_ == options_.columns;
    const auto named = [&](const std::string& name) { return contains(fields_, name); };
    const bool header =
        std::all_of(options_.text_fields.begin(), options_.text_fields.end(), named) &&
        (named(options_.label_field) || !options_.require_label);
    if (header) name_columns(fields_, place_ + ": the header");
    return header;
  }

  void name_columns(const std::vector<std::string>& columns, const std::string& where) {
    for (size_t i = 0; i < columns.size(); ++i) {
      if (static_cast<size_t>(std::find(columns.begin(), columns.end(), columns[i]) -
                              columns.begin()) != i) {
        throw InputError(where + " names \"" + columns[i] + "\" twice");
      }
    }
    columns_ = columns;
    for (const std::string& name : options_.text_fields) {
      layout_.text.push_back(column_of(name, columns, where));
    }
    if (options_.require_label || contains(columns, options_.label_field)) {
      layout_.label = column_of(options_.label_field, columns, where);
    }
    if (contains(columns, options_.id_field)) {
      layout_.id = column_of(options_.id_field, columns, where);
    }
    std::vector<std::string> ignored;
    for (size_t i = 0; i < columns.size(); ++i) {
      const bool text =
          std::find(layout_.text.begin(), layout_.text.end(), i) != layout_.text.end();
      if (!text && i != layout_.label && i != layout_.id) ignored.push_back(columns[i]);
    }
    say_ignored(lines_.name(), ignored);
  }

  void split_record(std::string_view line) {
    if (format_ == Format::kTsv) split_tsv(line);
    if (format_ == Format::kCsv) split_csv(line);
  }

  void take_record(std::string_view line, Example& example) {
    if (format_ == Format::kText) {
      example.text = line;
    } else if (format_ == Format::kLabelled) {
      read_labelled(line, example);
    } else {
      pick_columns(example);
    }
  }

  void read_labelled(std::string_view line, Example& example) {
    if (!line.starts_with(kLabelMark)) {
      if (options_.require_label) {
        throw InputError(place_ + ": expected `__label__x text`, found \"" + shown(line) + "\"");
      }
      example.text = line;
      return;
    }
    const size_t end = std::min(line.find_first_of(" \t"), line.size());
    set_label(std::string(line.substr(kLabelMark.size(), end - kLabelMark.size())), example);
    const size_t begin = std::min(line.find_first_not_of(" \t", end), line.size());
    example.text = line.substr(begin);
    if (example.text.starts_with(kLabelMark)) {
      throw InputError(place_ + ": expected one label, found several (\"" + shown(line) +
                       "\"); a text has one class here");
    }
  }

  void split_tsv(std::string_view line) {
    fields_.clear();
    for (size_t tab; (tab = line.find('\t')) != std::string_view::npos;) {
      fields_.emplace_back(line.substr(0, tab));
      line.remove_prefix(tab + 1);
    }
    fields_.emplace_back(line);
  }

  // RFC 4180: a quoted field may hold commas, doubled quotes and line breaks.
  void split_csv(std::string_view line) {
    fields_.assign(1, "");
    enum class In { kStart, kPlain, kQuotes, kAfterQuotes } in = In::kStart;
    int64_t bytes = 0;
    for (;;) {
      bytes += static_cast<int64_t>(line.size()) + 1;
      for (size_t i = 0; i < line.size(); ++i) {
        const char c = line[i];
        if (in == In::kQuotes) {
          if (c == '"') {
            in = In::kAfterQuotes;
          } else {
            fields_.back() += c;
          }
        } else if (c == '\r' && i + 1 == line.size()) {
          break;  // the record ends with CR LF
        } else if (c == ',') {
          fields_.emplace_back();
          in = In::kStart;
        } else if (c == '"' && in == In::kStart) {
          in = In::kQuotes;
        } else if (c == '"' && in == In::kAfterQuotes) {
          fields_.back() += '"';
          in = In::kQuotes;
        } else if (c == '"' || in == In::kAfterQuotes) {
          throw InputError(place_of(lines_) + ": byte " + std::to_string(i) +
                           ": expected CSV as in RFC 4180, found " +
                           (c == '"'
                                ? "a quote inside an unquoted field (quote the field and double "
                                  "the quote)"
                                : "text after a closing quote"));
        } else {
          fields_.back() += c;
          in = In::kPlain;
        }
      }
      if (in != In::kQuotes) return;
      fields_.back() += '\n';
      if (bytes > options_.max_line_bytes || !lines_.next(line)) {
        throw InputError(place_ + ": the quoted field that starts here is never closed");
      }
    }
  }

  void pick_columns(Example& example) {
    const size_t found = fields_.size();
    if (columns_.empty()) {
      const bool text_only = found == 1 && !options_.require_label;
      if (found != 2 && !text_only) {
        throw InputError(place_ + ": expected 2 columns, label and text, found " +
                         std::to_string(found) +
                         (found > 2 ? "; a header line or --data.columns names the columns of "
                                      "another layout"
                                    : ""));
      }
      if (!text_only) set_label(std::move(fields_[0]), example);
      example.text = std::move(fields_.back());
      return;
    }
    if (found != columns_.size()) {
      throw InputError(place_ + ": expected " + std::to_string(columns_.size()) + " columns (" +
                       list_of(columns_) + "), found " + std::to_string(found));
    }
    example.text.clear();
    for (size_t i = 0; i < layout_.text.size(); ++i) {
      if (i > 0) example.text += '\n';
      example.text += fields_[layout_.text[i]];
    }
    if (layout_.id != Layout::kNone) example.id = io::dump_json(io::Json(fields_[layout_.id]));
    if (layout_.label != Layout::kNone) set_label(std::move(fields_[layout_.label]), example);
  }

  void set_label(std::string label, Example& example) {
    if (label.empty() && options_.require_label) {
      throw InputError(place_ + ": label: expected a name, found nothing");
    }
    example.has_label = !label.empty();
    example.label = std::move(label);
  }

  static std::string shown(std::string_view line) {
    constexpr size_t kShown = 40;
    const std::string text = io::dump_json(io::Json(std::string(line.substr(0, kShown))));
    return text.substr(1, text.size() - 2) + (line.size() > kShown ? "..." : "");
  }

  DataOptions options_;
  Format format_;
  io::LineReader lines_;
  std::vector<std::string> columns_;  // names; empty: label and text
  Layout layout_;
  std::vector<std::string> fields_;
  std::string place_;
  bool at_start_ = true;  // the next record may be a header
  bool any_ = false;
};

}  // namespace

std::unique_ptr<ExampleReader> make_columns_reader(io::LineReader lines, Format format,
                                                   const DataOptions& options) {
  return std::make_unique<ColumnsReader>(std::move(lines), format, options);
}

}  // namespace fovea::data
