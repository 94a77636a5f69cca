#include "fovea/data/sources.h"

#include <algorithm>
#include <filesystem>
#include <memory>
#include <set>
#include <system_error>
#include <utility>

#include <sys/stat.h>
#include <xxhash.h>

#include "fovea/core/status.h"
#include "fovea/data/language.h"
#include "fovea/data/near_duplicates.h"
#include "fovea/data/package_owner.h"
#include "fovea/data/random.h"
#include "fovea/io/atomic_file.h"
#include "fovea/io/byte_source.h"
#include "fovea/io/json.h"
#include "fovea/text/utf8.h"

namespace fovea::data {
namespace {

namespace fs = std::filesystem;

struct Candidate {
  std::string path, language, package;
};

struct Source {
  std::string path, text;
};

// sources[class][package]
using Sources = std::map<std::string, std::map<std::string, std::vector<Source>>>;

// At most `limit` bytes of the file, decompressed where it is compressed; false when unreadable.
bool read_head(const std::string& path, int64_t limit, std::string& out) {
  try {
    const std::unique_ptr<io::ByteSource> source = io::open_bytes(path);
    out.resize(static_cast<size_t>(limit));
    size_t size = 0;
    while (size < out.size()) {
      const size_t n = source->read(out.data() + size, out.size() - size);
      if (n == 0) break;
      size += n;
    }
    out.resize(size);
    return true;
  } catch (const Error&) {
    return false;  // no permission, or damaged
  }
}

// Scripts without a telling name are looked into where their mode or place says that they are run.
bool may_be_script(const fs::directory_entry& entry, const std::string& path) {
  const fs::perms mode = entry.status().permissions();
  const bool executable = (mode & fs::perms::others_exec) != fs::perms::none;
  const bool cxx_header = path.find("/include/c++/") != std::string::npos;
  return executable || cxx_header;
}

std::vector<Candidate> find_candidates(const std::vector<std::string>& roots) {
  constexpr int64_t kScriptBytes = 256;
  PackageOwner owner;
  std::vector<Candidate> found;
  std::string head;
  for (const std::string& root : roots) {
    std::error_code error;
    const auto options = fs::directory_options::skip_permission_denied;
    for (fs::recursive_directory_iterator it(root, options, error), end; !error && it != end;
         it.increment(error)) {
      std::error_code ignored;
      if (it->is_symlink(ignored) || !it->is_regular_file(ignored)) continue;
      const std::string path = it->path().string();
      std::string language = language_of_name(path);
      if (language.empty() && may_be_script(*it, path) && read_head(path, kScriptBytes, head)) {
        language = language_of_content(head);
      }
      if (!language.empty()) found.push_back({path, language, owner.owner_of(path, root)});
    }
  }
  std::sort(found.begin(), found.end(),
            [](const Candidate& a, const Candidate& b) { return a.path < b.path; });
  const auto same = [](const Candidate& a, const Candidate& b) { return a.path == b.path; };
  found.erase(std::unique(found.begin(), found.end(), same), found.end());  // nested roots
  return found;
}

// Headers take the one language of C and C++ that the other sources of their package are in.
void settle_headers(std::vector<Candidate>& candidates) {
  std::set<std::string> with_c, with_cxx;
  for (const Candidate& candidate : candidates) {
    if (candidate.language == "c") with_c.insert(candidate.package);
    if (candidate.language == "c++") with_cxx.insert(candidate.package);
  }
  for (Candidate& candidate : candidates) {
    if (candidate.language != "header") continue;
    const bool c = with_c.contains(candidate.package);
    const bool cxx = with_cxx.contains(candidate.package);
    candidate.language = c == cxx ? "" : c ? "c" : "c++";
  }
  std::erase_if(candidates, [](const Candidate& candidate) { return candidate.language.empty(); });
}

// A package rarely gives more than a few hundred files in the end; reading all of a huge one (a
// kernel tree) would take minutes. Keeps a sample by hash of path and seed.
void sample_large_packages(std::vector<Candidate>& candidates, int64_t keep, uint64_t seed) {
  std::map<std::pair<std::string, std::string>, std::vector<std::pair<uint64_t, size_t>>> groups;
  for (size_t i = 0; i < candidates.size(); ++i) {
    const Candidate& c = candidates[i];
    groups[{c.language, c.package}].emplace_back(
        XXH3_64bits_withSeed(c.path.data(), c.path.size(), seed), i);
  }
  for (auto& [key, members] : groups) {
    if (static_cast<int64_t>(members.size()) <= keep) continue;
    std::sort(members.begin(), members.end());
    for (size_t i = static_cast<size_t>(keep); i < members.size(); ++i) {
      candidates[members[i].second].path.clear();
    }
  }
  std::erase_if(candidates, [](const Candidate& candidate) { return candidate.path.empty(); });
}

// The text cut to whole characters; false when it is no UTF-8 text.
bool cut_text(std::string& text, int64_t max_bytes) {
  if (static_cast<int64_t>(text.size()) > max_bytes) {
    size_t end = static_cast<size_t>(max_bytes);
    while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xC0) == 0x80) --end;
    text.resize(end);
  }
  return text.find('\0') == std::string::npos && find_invalid_utf8(text) == std::string_view::npos;
}

Sources read_sources(const std::vector<Candidate>& candidates, const SourcesOptions& options,
                     SourcesReport& report) {
  Sources sources;
  NearDuplicates duplicates;
  for (const Candidate& candidate : candidates) {
    std::string text;
    if (!read_head(candidate.path, options.max_bytes + 4, text)) {
      ++report.unreadable;
    } else if (static_cast<int64_t>(text.size()) < options.min_bytes) {
      ++report.too_short;
    } else if (!cut_text(text, options.max_bytes)) {
      ++report.invalid_utf8;
    } else if (duplicates.seen_or_add(text)) {
      ++report.near_duplicates;
    } else {
      sources[candidate.language][candidate.package].push_back({candidate.path, std::move(text)});
    }
  }
  return sources;
}

struct Row {
  const Source* source;
  const std::string* label;
  const std::string* package;
};

void write_rows(std::vector<Row>& rows, const std::string& path, Random& random) {
  random.shuffle(rows);
  io::AtomicFile file(path);
  for (const Row& row : rows) {
    file.write(io::dump_json({{"text", row.source->text},
                              {"label", *row.label},
                              {"id", row.source->path},
                              {"package", *row.package}}) +
               "\n");
  }
  file.commit();
}

}  // namespace

std::vector<std::string> default_source_roots() {
  std::vector<std::string> roots;
  std::error_code error;
  for (const char* root : {"/usr/share", "/usr/lib", "/usr/include", "/usr/src", "/usr/bin",
                           "/usr/sbin", "/usr/local", "/etc", "/var/lib/dpkg/info", ".venv/lib"}) {
    if (fs::is_directory(root, error)) roots.emplace_back(root);
  }
  return roots;
}

SourcesReport collect_sources(const SourcesOptions& options, const std::string& out) {
  SourcesReport report;
  std::vector<std::string> roots = options.roots.empty() ? default_source_roots() : options.roots;
  for (std::string& root : roots) {
    std::error_code error;
    if (!fs::is_directory(root, error)) throw InputError(root + ": expected a folder to search");
    while (root.size() > 1 && root.back() == '/') root.pop_back();
  }
  std::vector<Candidate> candidates = find_candidates(roots);
  settle_headers(candidates);
  report.candidates = static_cast<int64_t>(candidates.size());
  sample_large_packages(candidates, 2 * options.split.max_files[0], options.split.seed);
  Sources sources = read_sources(candidates, options, report);

  PackageCounts counts;
  for (const auto& [label, packages] : sources) {
    for (const auto& [package, files] : packages) {
      counts[label][package] = static_cast<int64_t>(files.size());
    }
  }
  const std::map<std::string, int> split = split_packages(counts, options.split);
  Random random(options.split.seed, 1);
  std::array<std::vector<Row>, kSplits> rows;
  for (auto& [label, packages] : sources) {
    std::string why;
    const auto chosen = choose_counts(counts[label], split, options.split, &why);
    if (chosen.empty()) {
      report.dropped[label] = why;
      continue;
    }
    SourcesReport::Class& row_of_report = report.classes[label];
    for (auto& [package, files] : packages) {  // rows point to names and texts in `sources`
      const int64_t count = chosen.contains(package) ? chosen.at(package) : 0;
      if (count == 0) continue;
      const auto s = static_cast<size_t>(split.at(package));
      random.shuffle(files);
      for (size_t i = 0; i < static_cast<size_t>(count); ++i) {
        rows[s].push_back({&files[i], &label, &package});
      }
      row_of_report.files[s] += count;
      ++row_of_report.packages[s];
    }
  }
  if (report.classes.size() < 2) {
    throw InputError(
        "data sources: found fewer than two languages with enough files and packages; "
        "name more folders with --root");
  }
  io::make_directories(out);
  for (size_t s = 0; s < kSplits; ++s) {
    write_rows(rows[s], out + "/" + kSplitNames[s] + ".jsonl", random);
  }
  return report;
}

}  // namespace fovea::data
