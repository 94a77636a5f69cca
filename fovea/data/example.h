#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "fovea/io/byte_source.h"

namespace fovea::data {

/// One labelled (or, for prediction, unlabelled) text.
struct Example {
  std::string text;
  std::string label;  ///< as written; a number keeps its spelling; "" when `has_label` is false
  std::string id;     ///< as JSON, to be echoed as it is (`"a1"`, `17`); "" when there is none
  bool has_label = false;
  int64_t line = 0;  ///< 1-based line where the record starts; of a folder: 0
  std::string file;  ///< name for messages; of a folder: the file of this text
};

/// How the examples are written.
enum class Format {
  kAuto,   ///< by extension (.jsonl .ndjson .json .tsv .csv, before .gz/.zst), folder, or content
  kJsonl,  ///< one JSON object a line
  kTsv,    ///< label<TAB>text, no quoting; with a header, see DataOptions::columns
  kCsv,    ///< label,text; quoting by RFC 4180; header likewise
  kLabelled,  ///< `__label__x text` lines (fastText)
  kText,      ///< a line is a text, no label
  kFolder,    ///< one folder per class, a file is a text
  kFile,      ///< the whole file is one text, no label; its path is the id
};

/// jsonl, tsv, csv, labelled, text, folder, file, auto; throws InputError for another name.
Format parse_format(std::string_view name);
const char* name_of(Format format);

/// What is done about text that is not valid UTF-8.
enum class EncodingErrors {
  kStrict,   ///< InputError with file, line and byte offset; so is a NUL byte in TSV, CSV and lines
  kReplace,  ///< each broken part becomes U+FFFD, as Python's errors="replace"
  kBytes,    ///< any bytes, as they are (byte-level models); JSON must be UTF-8 all the same
};

EncodingErrors parse_encoding_errors(std::string_view name);  ///< strict, replace, bytes

/// How to read examples.
struct DataOptions {
  Format format = Format::kAuto;
  std::vector<std::string> text_fields = {"text"};  ///< joined by a newline
  std::string text_alias;  ///< JSONL: another name of the first of them; none if empty
  std::string label_field = "label";
  std::string id_field = "id";
  /// Names of all columns of TSV or CSV, of which text, label and id are picked by name; a first
  /// line that repeats them is skipped. Empty: a first line that holds the names of text and label
  /// is a header and names the columns; without one, exactly two columns, label and text (one
  /// column, text, where labels are not required).
  std::vector<std::string> columns;
  bool require_label = true;
  EncodingErrors encoding_errors = EncodingErrors::kStrict;
  int64_t max_line_bytes = io::LineReader::kDefaultMaxLineBytes;
  /// Where set, faults of encoding are added here as messages and repaired, whatever
  /// `encoding_errors` says; must outlive the reader.
  std::vector<std::string>* encoding_faults = nullptr;
};

/// Reads examples one by one, in file order, with memory for one of them.
class ExampleReader {
 public:
  virtual ~ExampleReader() = default;

  /// Stores the next example, or returns false at the end. Throws InputError with file, line,
  /// field, what was expected and what was found. An empty file or folder is an error (for
  /// `require_label` only: a stream to predict may be empty). After an error in one record, whose
  /// place is then in `example`, next() may be called again and goes on behind that record.
  virtual bool next(Example& example) = 0;
};

/// Opens a file (plain, gzip, zstd), "-" or a folder of class folders. Fields that are neither
/// text, label nor id are ignored, which is logged once. A JSON text is decoded, so NUL can come in
/// as \u0000 only.
std::unique_ptr<ExampleReader> open_examples(const std::string& path,
                                             const DataOptions& options = {});

/// The same over content in memory that must stay alive (never a folder); `name` stands in
/// messages.
std::unique_ptr<ExampleReader> examples_from_memory(std::string_view content,
                                                    const std::string& name,
                                                    const DataOptions& options = {});

/// All examples of a file.
std::vector<Example> read_examples(const std::string& path, const DataOptions& options = {});

}  // namespace fovea::data
