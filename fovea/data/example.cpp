#include "fovea/data/example.h"

#include <algorithm>
#include <filesystem>
#include <iterator>
#include <mutex>
#include <set>
#include <system_error>
#include <utility>

#include "fovea/core/log.h"
#include "fovea/core/status.h"
#include "fovea/data/readers.h"
#include "fovea/io/json.h"
#include "fovea/io/suggest.h"
#include "fovea/text/utf8.h"

namespace fovea::data {
namespace {

namespace fs = std::filesystem;

constexpr std::pair<Format, const char*> kFormats[] = {
    {Format::kAuto, "auto"},     {Format::kJsonl, "jsonl"},       {Format::kTsv, "tsv"},
    {Format::kCsv, "csv"},       {Format::kLabelled, "labelled"}, {Format::kText, "text"},
    {Format::kFolder, "folder"}, {Format::kFile, "file"}};

constexpr std::pair<EncodingErrors, const char*> kEncodingErrors[] = {
    {EncodingErrors::kStrict, "strict"},
    {EncodingErrors::kReplace, "replace"},
    {EncodingErrors::kBytes, "bytes"}};

template <typename Table>
auto parse_name(const Table& table, std::string_view name, const char* what) {
  std::vector<std::string> names;
  for (const auto& [value, text] : table) {
    if (name == text) return value;
    names.emplace_back(text);
  }
  std::string list;
  for (const std::string& text : names) {
    if (!list.empty()) list += ", ";
    list += text;
  }
  throw InputError(std::string(what) + ": expected one of " + list + ", found \"" +
                   std::string(name) + "\"" + io::suggestion(name, names));
}

Format format_of_name(const std::string& path) {
  fs::path name = fs::path(path).filename();
  if (name.extension() == ".gz" || name.extension() == ".zst") name = name.stem();
  const std::string extension = name.extension().string();
  if (extension == ".jsonl" || extension == ".ndjson" || extension == ".json") {
    return Format::kJsonl;
  }
  if (extension == ".tsv") return Format::kTsv;
  if (extension == ".csv") return Format::kCsv;
  return Format::kAuto;
}

Format format_of_content(io::LineReader& lines, const DataOptions& options) {
  std::string_view line;
  if (!lines.peek(line)) {
    if (options.require_label) fail_empty(lines.name());
    return Format::kText;
  }
  skip_byte_order_mark(line, 1);
  const size_t first = line.find_first_not_of(" \t\r");
  if (first != std::string_view::npos && line[first] == '{') return Format::kJsonl;
  if (line.starts_with("__label__")) return Format::kLabelled;
  if (!options.require_label && options.columns.empty()) {
    if (line.find('\t') != std::string_view::npos) {
      log_warning(lines.name() +
                  ":1: read as plain text, a line a text, though it holds a tab; --format tsv "
                  "reads label<TAB>text");
    }
    return Format::kText;
  }
  if (line.find('\t') != std::string_view::npos) return Format::kTsv;
  throw InputError(
      lines.name() +
      ":1: expected a JSON object, label<TAB>text or `__label__x text`, found neither; "
      "name the format if it is another one (--data.format csv, text, folder)");
}

std::unique_ptr<ExampleReader> make_reader(io::LineReader lines, Format format,
                                           const DataOptions& options) {
  if (format == Format::kAuto) format = format_of_content(lines, options);
  if (format == Format::kJsonl) return make_jsonl_reader(std::move(lines), options);
  if (format == Format::kText && options.require_label) {
    throw InputError(lines.name() +
                     ": lines of plain text have no labels; expected jsonl, tsv, csv, "
                     "labelled or a folder");
  }
  return make_columns_reader(std::move(lines), format, options);
}

}  // namespace

Format parse_format(std::string_view name) { return parse_name(kFormats, name, "data format"); }

const char* name_of(Format format) {
  return std::find_if(std::begin(kFormats), std::end(kFormats),
                      [&](const auto& item) { return item.first == format; })
      ->second;
}

EncodingErrors parse_encoding_errors(std::string_view name) {
  return parse_name(kEncodingErrors, name, "encoding errors");
}

std::string place_of(const io::LineReader& lines) {
  return lines.name() + ":" + std::to_string(lines.line_number());
}

void skip_byte_order_mark(std::string_view& line, int64_t line_number) {
  if (line_number == 1 && line.starts_with("\xEF\xBB\xBF")) line.remove_prefix(3);
}

void say_ignored(const std::string& name, const std::vector<std::string>& fields) {
  static std::mutex mutex;
  static std::set<std::string> said;
  if (fields.empty()) return;
  const std::lock_guard lock(mutex);
  if (!said.insert(name).second) return;
  std::string list;
  for (const std::string& field : fields) {
    if (!list.empty()) list += ", ";
    list += io::dump_json(io::Json(field));
  }
  log_info(name + ": ignored: " + list);
}

void fail_empty(const std::string& name) {
  throw InputError(name + ": expected at least one example, found none");
}

void settle_encoding(std::string& text, const std::string& where, const DataOptions& options) {
  if (options.encoding_errors == EncodingErrors::kBytes) return;
  const auto fault = [&](const std::string& what) {
    if (options.encoding_faults == nullptr) throw InputError(where + what);
    options.encoding_faults->push_back(where + what);
  };
  if (const size_t nul = text.find('\0'); nul != std::string::npos) {
    fault(": NUL at byte " + std::to_string(nul) +
          "; expected text (is the file binary or UTF-16?)");
  }
  const size_t offset = find_invalid_utf8(text);
  if (offset == std::string_view::npos) return;
  if (options.encoding_errors == EncodingErrors::kStrict) {
    fault(": invalid UTF-8 at byte " + std::to_string(offset) +
          "; convert the file, or use --encoding-errors replace");
  }
  text = replace_invalid_utf8(text);
}

std::unique_ptr<ExampleReader> open_examples(const std::string& path, const DataOptions& options) {
  std::error_code error;
  if (options.format == Format::kFolder || (path != "-" && fs::is_directory(path, error))) {
    if (options.format != Format::kFolder && options.format != Format::kAuto) {
      throw InputError(path + ": expected a " + name_of(options.format) + " file, found a folder");
    }
    return make_folder_reader(path, options);
  }
  if (options.format == Format::kFile) return make_file_reader(path, options);
  const Format format = options.format == Format::kAuto ? format_of_name(path) : options.format;
  return make_reader(io::LineReader(path, options.max_line_bytes), format, options);
}

std::unique_ptr<ExampleReader> examples_from_memory(std::string_view content,
                                                    const std::string& name,
                                                    const DataOptions& options) {
  io::LineReader lines(io::bytes_from_memory(content, name), options.max_line_bytes);
  const Format format = options.format == Format::kAuto ? format_of_name(name) : options.format;
  return make_reader(std::move(lines), format, options);
}

std::vector<Example> read_examples(const std::string& path, const DataOptions& options) {
  std::vector<Example> examples;
  const std::unique_ptr<ExampleReader> reader = open_examples(path, options);
  for (Example example; reader->next(example);) examples.push_back(std::move(example));
  return examples;
}

}  // namespace fovea::data
