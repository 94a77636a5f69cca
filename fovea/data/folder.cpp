#include <algorithm>
#include <filesystem>
#include <system_error>
#include <utility>

#include "fovea/core/log.h"
#include "fovea/core/status.h"
#include "fovea/data/readers.h"
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

}  // namespace

std::unique_ptr<ExampleReader> make_folder_reader(const std::string& path,
                                                  const DataOptions& options) {
  return std::make_unique<FolderReader>(path, options);
}

}  // namespace fovea::data
