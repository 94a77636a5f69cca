#include "fovea/data/check.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <unordered_map>
#include <utility>

#include <xxhash.h>

#include "fovea/core/status.h"
#include "fovea/text/tokenizer.h"

namespace fovea::data {
namespace {

struct First {
  size_t file;
  uint64_t label_hash;
};

class Checker {
 public:
  Checker(const DataOptions& options, const Tokenizer* tokenizer, int64_t max_length)
      : options_(options), tokenizer_(tokenizer), max_length_(max_length) {}

  DataReport report;

  void check(const std::string& path) {
    FileReport file;
    file.path = path;
    bytes_.clear();
    tokens_.clear();
    DataOptions options = options_;
    options.encoding_faults = &file.encoding_errors;
    const std::unique_ptr<ExampleReader> reader = open_examples(path, options);
    std::pair<std::string, int64_t> last_fault;
    for (bool more = true; more;) {
      Example example;
      try {
        more = reader->next(example);
        if (more) add(example, file);
      } catch (const InputError& error) {
        ++file.error_count;
        if (file.error_count <= DataReport::kMaxErrors) file.errors.emplace_back(error.what());
        // A fault that is not of one record (a truncated archive) comes again at the same place.
        std::pair<std::string, int64_t> fault{example.file, example.line};
        more = !example.file.empty() && fault != last_fault;
        last_fault = std::move(fault);
      }
    }
    file.bytes = lengths_of(bytes_);
    if (tokenizer_ != nullptr) file.tokens = lengths_of(tokens_);
    report.files.push_back(std::move(file));
  }

 private:
  static Lengths lengths_of(std::vector<int64_t>& values) {
    Lengths lengths;
    if (values.empty()) return lengths;
    std::sort(values.begin(), values.end());
    const auto at = [&](double share) {  // nearest rank
      const auto rank = std::ceil(share * static_cast<double>(values.size()));
      return values[static_cast<size_t>(std::max(rank, 1.0)) - 1];
    };
    double sum = 0;
    for (const int64_t value : values) sum += static_cast<double>(value);
    lengths = {values.front(), at(0.5),       at(0.9),
               at(0.99),       values.back(), sum / static_cast<double>(values.size())};
    return lengths;
  }

  void add(const Example& example, FileReport& file) {
    ++file.examples;
    if (example.has_label) ++file.labels[example.label];
    if (example.text.empty()) ++file.empty;
    bytes_.push_back(static_cast<int64_t>(example.text.size()));
    if (tokenizer_ != nullptr) {
      tokens_.push_back(static_cast<int64_t>(tokenizer_->encode(example.text).size()));
      if (max_length_ > 0 && tokens_.back() > max_length_) ++file.truncated;
    }
    // 64 bits: two of a million texts share a hash by chance with probability 3e-8.
    const uint64_t text = XXH3_64bits(example.text.data(), example.text.size());
    const uint64_t label = XXH3_64bits(example.label.data(), example.label.size());
    const auto [first, added] = first_.try_emplace(text, First{report.files.size(), label});
    if (added) return;
    if (first->second.file == report.files.size()) {
      ++file.duplicates;
    } else {
      ++report.duplicates_across;
    }
    if (first->second.label_hash != label) ++report.contradictions;
  }

  const DataOptions& options_;
  const Tokenizer* tokenizer_;
  int64_t max_length_;
  std::vector<int64_t> bytes_, tokens_;
  std::unordered_map<uint64_t, First> first_;
};

io::Json to_json(const Lengths& lengths) {
  return {{"min", lengths.min}, {"median", lengths.median}, {"p90", lengths.p90},
          {"p99", lengths.p99}, {"max", lengths.max},       {"mean", lengths.mean}};
}

std::string line_of(const char* what, const Lengths& lengths) {
  char text[200];
  std::snprintf(text, sizeof text,
                "  %s: min %lld, median %lld, mean %.1f, 90 %% %lld, 99 %% %lld, max %lld\n", what,
                static_cast<long long>(lengths.min), static_cast<long long>(lengths.median),
                lengths.mean, static_cast<long long>(lengths.p90),
                static_cast<long long>(lengths.p99), static_cast<long long>(lengths.max));
  return text;
}

std::string percent(int64_t part, int64_t all) {
  char text[32];
  std::snprintf(text, sizeof text, "%.1f %%",
                all == 0 ? 0.0 : 100.0 * static_cast<double>(part) / static_cast<double>(all));
  return text;
}

// The first of many messages of a kind, and how many more there are.
std::string first_of(const std::vector<std::string>& messages, int64_t count, const char* kind) {
  constexpr int64_t kShown = 10;
  const int64_t shown = std::min({count, kShown, static_cast<int64_t>(messages.size())});
  std::string out;
  for (int64_t i = 0; i < shown; ++i) {
    out += std::string("  ") + kind + ": " + messages[static_cast<size_t>(i)] + "\n";
  }
  if (count > shown) {
    out += "  and " + std::to_string(count - shown) + " more of this kind: " + kind + "\n";
  }
  return out;
}

std::string to_text(const FileReport& file) {
  std::string out = file.path + ": " + std::to_string(file.examples) + " examples\n";
  for (const auto& [label, count] : file.labels) {
    out += "  label " + label + ": " + std::to_string(count) + " (" +
           percent(count, file.examples) + (count == 1 ? "), one example only\n" : ")\n");
  }
  out += line_of("bytes", file.bytes);
  if (file.tokens) {
    out += line_of("tokens", *file.tokens);
    out += "  longer than the maximum length: " + std::to_string(file.truncated) + " (" +
           percent(file.truncated, file.examples) + ")\n";
  }
  if (file.empty > 0) out += "  without text: " + std::to_string(file.empty) + "\n";
  if (file.duplicates > 0) {
    out += "  texts that came before in this file: " + std::to_string(file.duplicates) + "\n";
  }
  return out +
         first_of(file.encoding_errors, static_cast<int64_t>(file.encoding_errors.size()),
                  "encoding") +
         first_of(file.errors, file.error_count, "error");
}

}  // namespace

bool DataReport::usable() const {
  return labels_only_later.empty() && std::all_of(files.begin(), files.end(), [](const auto& file) {
           return file.error_count == 0 && file.encoding_errors.empty();
         });
}

DataReport check_data(const std::vector<std::string>& paths, const DataOptions& options,
                      const Tokenizer* tokenizer, int64_t max_length) {
  Checker checker(options, tokenizer, max_length);
  for (const std::string& path : paths) checker.check(path);
  DataReport& report = checker.report;
  for (size_t i = 1; i < report.files.size(); ++i) {
    for (const auto& [label, count] : report.files[i].labels) {
      std::vector<std::string>& missing = report.labels_only_later;
      if (!report.files[0].labels.contains(label) &&
          std::find(missing.begin(), missing.end(), label) == missing.end()) {
        missing.push_back(label);
      }
    }
  }
  return std::move(report);
}

io::Json to_json(const DataReport& report) {
  io::Json files = io::Json::array();
  for (const FileReport& file : report.files) {
    io::Json json = {{"path", file.path},
                     {"examples", file.examples},
                     {"labels", file.labels},
                     {"bytes", to_json(file.bytes)},
                     {"empty", file.empty},
                     {"duplicates", file.duplicates},
                     {"encoding_errors", file.encoding_errors},
                     {"errors", file.errors},
                     {"error_count", file.error_count}};
    if (file.tokens) {
      json["tokens"] = to_json(*file.tokens);
      json["truncated"] = file.truncated;
    }
    files.push_back(std::move(json));
  }
  return {{"usable", report.usable()},
          {"files", std::move(files)},
          {"duplicates_across", report.duplicates_across},
          {"contradictions", report.contradictions},
          {"labels_only_later", report.labels_only_later}};
}

std::string to_text(const DataReport& report) {
  std::string out;
  for (const FileReport& file : report.files) out += to_text(file);
  if (report.duplicates_across > 0) {
    out += "texts of a later file that an earlier one holds too: " +
           std::to_string(report.duplicates_across) + "\n";
  }
  if (report.contradictions > 0) {
    out += "texts that came before with another label: " + std::to_string(report.contradictions) +
           "\n";
  }
  for (const std::string& label : report.labels_only_later) {
    out += "label that the first file does not have: " + label + "\n";
  }
  return out + (report.usable() ? "usable\n" : "not usable as it is\n");
}

}  // namespace fovea::data
