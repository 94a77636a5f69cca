#include <algorithm>
#include <filesystem>
#include <system_error>
#include <utility>

#include "fovea/core/log.h"
#include "fovea/core/status.h"
#include "fovea/data/readers.h"
#include "fovea/io/byte_source.h"
#include "fovea/io/file.h"
#include "fovea/io/json.h"

namespace fovea::data {
namespace {

namespace fs = std::filesystem;

bool hidden(const fs::path& path) { return path.filename().string().starts_with('.'); }

// A text is a file; its class is the folder right below the root, its name may lie deeper. Only the
// names are held in memory.
class FolderReader : public ExampleReader {
 public:
  FolderReader(const std::string& root, const DataOptions& options)
      : options_(options), root_(root) {
    std::error_code error;
    if (!fs::is_directory(root, error)) {
      throw InputError(root + ": expected a folder with one folder for each class");
    }
    for (const auto& entry : fs::directory_iterator(root)) {
      if (hidden(entry.path())) continue;
      if (entry.is_directory()) {
        add_class(entry.path());
      } else if (options_.require_label) {
        throw InputError(entry.path().string() +
                         ": expected a folder for each class here, found a file");
      } else {
        files_.push_back(entry.path().string());
      }
    }
    std::sort(files_.begin(), files_.end());
    if (files_.empty() && options_.require_label) fail_empty(root);
  }

  bool next(Example& example) override {
    if (position_ == files_.size()) return false;
    const std::string& file = files_[position_++];
    const fs::path relative = fs::path(file).lexically_relative(root_);
    example.file = file;
    example.line = 0;
    example.text = io::read_file(file, options_.max_line_bytes);
    settle_encoding(example.text, file, options_);
    example.has_label = relative.has_parent_path();
    example.label = example.has_label ? relative.begin()->string() : "";
    example.id = io::dump_json(io::Json(relative.string()));
    return true;
  }

 private:
  void add_class(const fs::path& folder) {
    const size_t before = files_.size();
    for (const auto& entry : fs::recursive_directory_iterator(folder)) {
      if (entry.is_regular_file() && !hidden(entry.path())) files_.push_back(entry.path().string());
    }
    if (files_.size() == before) log_warning(folder.string() + ": a class without a file");
  }

  DataOptions options_;
  std::string root_;
  std::vector<std::string> files_;
  size_t position_ = 0;
};

// One text: all bytes of a file or of standard input.
class FileReader : public ExampleReader {
 public:
  FileReader(const std::string& path, const DataOptions& options)
      : options_(options), path_(path) {}

  bool next(Example& example) override {
    if (std::exchange(done_, true)) return false;
    example = Example{};
    example.file = path_;
    const auto source = io::open_bytes(path_);
    size_t size = 0;
    for (size_t count = 1; count > 0; size += count) {
      example.text.resize(std::max(2 * size, kFirstBytes));
      count = source->read(example.text.data() + size, example.text.size() - size);
      if (static_cast<int64_t>(size + count) > options_.max_line_bytes) {
        throw InputError(path_ + ": expected a text of at most " +
                         std::to_string(options_.max_line_bytes) + " bytes");
      }
    }
    example.text.resize(size);
    settle_encoding(example.text, path_, options_);
    if (path_ != "-") example.id = io::dump_json(io::Json(path_));
    return true;
  }

 private:
  static constexpr size_t kFirstBytes = 1 << 16;
  DataOptions options_;
  std::string path_;
  bool done_ = false;
};

}  // namespace

std::unique_ptr<ExampleReader> make_file_reader(const std::string& path,
                                                const DataOptions& options) {
  if (options.require_label) {
    throw InputError(path +
                     ": a whole file as one text has no label; expected jsonl, tsv, csv, "
                     "labelled or a folder");
  }
  return std::make_unique<FileReader>(path, options);
}

std::unique_ptr<ExampleReader> make_folder_reader(const std::string& path,
                                                  const DataOptions& options) {
  return std::make_unique<FolderReader>(path, options);
}

}  // namespace fovea::data
