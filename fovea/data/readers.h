#pragma once

// The readers behind open_examples(), one for each format; private to this layer.

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "fovea/data/example.h"

namespace fovea::data {

std::unique_ptr<ExampleReader> make_jsonl_reader(io::LineReader lines, const DataOptions& options);

/// TSV, CSV, `__label__` lines and plain text lines.
std::unique_ptr<ExampleReader> make_columns_reader(io::LineReader lines, Format format,
                                                   const DataOptions& options);

std::unique_ptr<ExampleReader> make_folder_reader(const std::string& path,
                                                  const DataOptions& options);

std::unique_ptr<ExampleReader> make_file_reader(const std::string& path,
                                                const DataOptions& options);

/// "name:line".
std::string place_of(const io::LineReader& lines);

/// Checks or repairs raw text by `options.encoding_errors`; `where` is "file:line: field \"x\"".
/// A NUL byte is refused with both strict and replace: it means a binary or UTF-16 file.
void settle_encoding(std::string& text, const std::string& where, const DataOptions& options);

/// Skips the byte order mark that some editors put before the first line.
void skip_byte_order_mark(std::string_view& line, int64_t line_number);

/// Logs once in the process for each file that fields or columns are ignored.
void say_ignored(const std::string& name, const std::vector<std::string>& fields);

/// "data.jsonl: expected at least one example, found none".
[[noreturn]] void fail_empty(const std::string& name);

}  // namespace fovea::data
