#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "fovea/data/example.h"
#include "fovea/io/json.h"

namespace fovea {
class Tokenizer;
}

namespace fovea::data {

/// Five points of a distribution and its mean.
struct Lengths {
  int64_t min = 0, median = 0, p90 = 0, p99 = 0, max = 0;
  double mean = 0;
};

/// What is in one file.
struct FileReport {
  std::string path;
  int64_t examples = 0;
  std::map<std::string, int64_t> labels;
  Lengths bytes;
  std::optional<Lengths> tokens;  ///< with a tokenizer
  int64_t truncated = 0;          ///< examples longer than max_length tokens
  int64_t empty = 0;              ///< examples without text
  int64_t duplicates = 0;         ///< examples whose text came before in the same file
  std::vector<std::string> encoding_errors;
  std::vector<std::string> errors;  ///< records that could not be read; the first kMaxErrors
  int64_t error_count = 0;
};

/// What is wrong, or worth knowing, before a long run.
struct DataReport {
  static constexpr int64_t kMaxErrors = 100;
  std::vector<FileReport> files;
  int64_t duplicates_across = 0;  ///< examples of later files whose text is in an earlier one
  int64_t contradictions = 0;     ///< examples whose text came before with another label
  std::vector<std::string> labels_only_later;  ///< labels of later files that the first file lacks

  /// False when training would refuse the data: unreadable records, bad encodings, unknown labels.
  bool usable() const;
};

/// Reads the files (the first is the training part) and reports on them. `tokenizer` may be null;
/// `max_length` 0 = no truncation. Memory: 32 bytes or so for an example. Throws InputError only
/// when a file cannot be opened.
DataReport check_data(const std::vector<std::string>& paths, const DataOptions& options,
                      const Tokenizer* tokenizer, int64_t max_length);

io::Json to_json(const DataReport& report);

/// The report for people, several lines.
std::string to_text(const DataReport& report);

}  // namespace fovea::data
