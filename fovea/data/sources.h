#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "fovea/data/package_split.h"

namespace fovea::data {

/// What to collect.
struct SourcesOptions {
  std::vector<std::string> roots;  ///< folders to search; empty = default_source_roots()
  int64_t min_bytes = 256;         ///< shorter files are left out
  int64_t max_bytes = 8192;        ///< of a file, its first ones (cut between characters)
  PackageSplitOptions split;
};

/// What was found and what became of it.
struct SourcesReport {
  struct Class {
    std::array<int64_t, kSplits> files = {}, packages = {};
  };
  std::map<std::string, Class> classes;
  std::map<std::string, std::string> dropped;  ///< class -> why
  int64_t candidates = 0;
  int64_t invalid_utf8 = 0, too_short = 0, near_duplicates = 0, unreadable = 0;
};

/// System folders that hold sources, and `.venv/lib` of the working folder, where they exist.
std::vector<std::string> default_source_roots();

/// Collects source files, labels them by language (name, `#!` line), leaves out near-duplicates,
/// and writes `train.jsonl`, `valid.jsonl`, `test.jsonl` with text, label, id (the path) and
/// package into the folder `out`. No package is in two splits; `.h` takes the language of its
/// package's other sources (C or C++) and is left out where that is undecided. Depends on files,
/// options and seed only. Throws InputError when fewer than two classes are left.
SourcesReport collect_sources(const SourcesOptions& options, const std::string& out);

}  // namespace fovea::data
