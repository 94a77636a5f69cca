#include "fovea/io/file.h"

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <system_error>
#include <utility>
#include <vector>

#include <fcntl.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include "fovea/core/status.h"

namespace fovea::io {
namespace {

namespace fs = std::filesystem;

class Descriptor {
 public:
  explicit Descriptor(const std::string& path) : fd_(::open(path.c_str(), O_RDONLY | O_CLOEXEC)) {
    if (fd_ < 0) throw InputError(path + ": cannot be opened: " + system_error_text(errno));
    struct stat info {};
    if (::fstat(fd_, &info) == 0) {
      if (S_ISDIR(info.st_mode)) {
        ::close(fd_);
        throw InputError(path + ": expected a file, found a folder");
      }
      regular_ = S_ISREG(info.st_mode);
      size_ = info.st_size;
    }
  }
  ~Descriptor() { ::close(fd_); }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;

  int get() const { return fd_; }
  bool regular() const { return regular_; }
  int64_t size() const { return size_; }

 private:
  int fd_;
  bool regular_ = false;
  int64_t size_ = 0;
};

// Feeds a file's bytes to `consume(data, count)` in blocks.
template <typename F>
void for_each_block(const Descriptor& file, const std::string& path, F consume) {
  std::vector<char> block(1 << 20);
  for (;;) {
    const ssize_t n = ::read(file.get(), block.data(), block.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) {
      throw Error(ErrorCode::kFailed, path + ": cannot be read: " + system_error_text(errno));
    }
    if (n == 0) return;
    consume(block.data(), static_cast<size_t>(n));
  }
}

struct HashStateDeleter {
  void operator()(XXH3_state_t* state) const { XXH3_freeState(state); }
};

}  // namespace

std::string system_error_text(int error_number) {
  return std::generic_category().message(error_number);
}

std::string display_name(const std::string& path) { return path == "-" ? "<stdin>" : path; }

std::string read_file(const std::string& path, int64_t max_bytes) {
  const Descriptor file(path);
  std::string content;
  for_each_block(file, path, [&](const char* data, size_t count) {
    content.append(data, count);
    if (static_cast<int64_t>(content.size()) > max_bytes) {
      throw InputError(path + ": expected at most " + std::to_string(max_bytes) +
                       " bytes, found more");
    }
  });
  return content;
}

MappedFile::MappedFile(const std::string& path) {
  const Descriptor file(path);
  if (!file.regular()) throw InputError(path + ": expected a regular file (it has to be mapped)");
  if (file.size() == 0) return;
  const auto size = static_cast<size_t>(file.size());
  void* address = ::mmap(nullptr, size, PROT_READ, MAP_PRIVATE, file.get(), 0);
  if (address == MAP_FAILED) {
    throw Error(ErrorCode::kFailed, path + ": cannot be mapped: " + system_error_text(errno));
  }
  bytes_ = {static_cast<const std::byte*>(address), size};
}

MappedFile::~MappedFile() {
  if (!bytes_.empty()) ::munmap(const_cast<std::byte*>(bytes_.data()), bytes_.size());
}

MappedFile::MappedFile(MappedFile&& other) noexcept : bytes_(std::exchange(other.bytes_, {})) {}

MappedFile& MappedFile::operator=(MappedFile&& other) noexcept {
  std::swap(bytes_, other.bytes_);
  return *this;
}

FolderLock::FolderLock(const std::string& folder)
    : descriptor_(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)) {
  if (descriptor_ < 0) {
    throw InputError(folder + ": cannot be opened: " + system_error_text(errno));
  }
  if (::flock(descriptor_, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK) {
    ::close(descriptor_);
    throw InputError(folder + ": another process is writing to this folder; wait for its end, or " +
                     "choose another folder");
  }
}

FolderLock::~FolderLock() { ::close(descriptor_); }

std::string hash_path(const std::string& path) {
  std::vector<std::string> files;
  std::error_code error;
  const bool folder = fs::is_directory(path, error);
  if (folder) {
    for (const auto& entry : fs::recursive_directory_iterator(path)) {
      if (entry.is_regular_file()) files.push_back(entry.path().string());
    }
    std::sort(files.begin(), files.end());
  } else {
    files.push_back(path);
  }
  const std::unique_ptr<XXH3_state_t, HashStateDeleter> state(XXH3_createState());
  XXH3_128bits_reset(state.get());
  for (const std::string& file : files) {
    const Descriptor open_file(file);
    if (folder) {  // name with its final NUL and size keep neighbours apart
      const std::string name = fs::relative(file, path).string();
      const int64_t size = open_file.size();
      XXH3_128bits_update(state.get(), name.c_str(), name.size() + 1);
      XXH3_128bits_update(state.get(), &size, sizeof size);
    }
    for_each_block(open_file, file, [&](const char* data, size_t count) {
      XXH3_128bits_update(state.get(), data, count);
    });
  }
  const XXH128_hash_t hash = XXH3_128bits_digest(state.get());
  char text[48];
  std::snprintf(text, sizeof text, "xxh3:%016llx%016llx",
                static_cast<unsigned long long>(hash.high64),
                static_cast<unsigned long long>(hash.low64));
  return text;
}

}  // namespace fovea::io
