#include "fovea/io/atomic_file.h"

#include <cerrno>
#include <charconv>
#include <filesystem>
#include <system_error>
#include <utility>

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>  // renameat2
#include <sys/stat.h>
#include <unistd.h>

#include "fovea/core/status.h"
#include "fovea/io/file.h"

namespace fovea::io {
namespace {

namespace fs = std::filesystem;
constexpr size_t kBufferBytes = 1 << 20;
constexpr const char* kTemporaryMark = ".tmp-";

[[noreturn]] void fail_at(const std::string& path, const std::string& action, int error_number) {
  const std::string message = path + ": " + action + ": " + system_error_text(error_number);
  if (error_number == ENOENT || error_number == ENOTDIR || error_number == EISDIR) {
    throw InputError(message);
  }
  throw Error(ErrorCode::kFailed, message);
}

// "a/b/" and "a/b" name the same folder; the temporary must lie beside it, not in it.
std::string without_final_slash(std::string path) {
  while (path.size() > 1 && path.back() == '/') path.pop_back();
  return path;
}

std::string temporary_name(const std::string& path) {
  return path + kTemporaryMark + std::to_string(::getpid());
}

std::string parent_of(const std::string& path) {
  const fs::path parent = fs::path(path).parent_path();
  return parent.empty() ? "." : parent.string();
}

void sync_path(const std::string& path, int flags) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | flags);
  if (fd < 0) fail_at(path, "cannot be opened to make it durable", errno);
  // EINVAL: a file system without fsync (some network and FUSE ones) has nothing to wait for.
  const int error = ::fsync(fd) != 0 && errno != EINVAL ? errno : 0;
  ::close(fd);
  if (error != 0) fail_at(path, "cannot be made durable (fsync)", error);
}

void sync_tree(const std::string& folder) {
  for (const auto& entry : fs::recursive_directory_iterator(folder)) {
    if (entry.is_symlink()) continue;
    sync_path(entry.path().string(), entry.is_directory() ? O_DIRECTORY : 0);
  }
  sync_path(folder, O_DIRECTORY);
}

}  // namespace

AtomicFile::AtomicFile(std::string path)
    : path_(std::move(path)), temporary_(temporary_name(path_)) {
  std::error_code error;
  if (fs::is_directory(path_, error)) fail_at(path_, "cannot be written", EISDIR);
  fd_ = ::open(temporary_.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
  if (fd_ < 0) fail_at(path_, "cannot be written", errno);
}

AtomicFile::~AtomicFile() {
  if (fd_ < 0) return;
  ::close(fd_);
  ::unlink(temporary_.c_str());
}

void AtomicFile::fail(const char* action, int error_number) {
  fail_at(path_, action, error_number);
}

void AtomicFile::write(const void* data, size_t bytes) {
  buffer_.append(static_cast<const char*>(data), bytes);
  if (buffer_.size() >= kBufferBytes) flush();
}

void AtomicFile::flush() {
  size_t done = 0;
  while (done < buffer_.size()) {
    const ssize_t n = ::write(fd_, buffer_.data() + done, buffer_.size() - done);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) fail("cannot be written", errno);
    done += static_cast<size_t>(n);
  }
  buffer_.clear();
}

void AtomicFile::commit() {
  flush();
  if (::fsync(fd_) != 0 && errno != EINVAL) fail("cannot be made durable (fsync)", errno);
  // Delayed allocation and quotas can report a full disk as late as here.
  const int fd = std::exchange(fd_, -1);
  if (::close(fd) != 0 || ::rename(temporary_.c_str(), path_.c_str()) != 0) {
    const int error = errno;
    ::unlink(temporary_.c_str());
    fail("cannot be written", error);
  }
  sync_path(parent_of(path_), O_DIRECTORY);
}

void write_file(const std::string& path, std::string_view content) {
  AtomicFile file(path);
  file.write(content);
  file.commit();
}

AtomicDirectory::AtomicDirectory(std::string path)
    : path_(without_final_slash(std::move(path))), staging_(temporary_name(path_)) {
  std::error_code error;
  if (fs::exists(path_, error) && !fs::is_directory(path_, error)) {
    fail_at(path_, "cannot be written as a folder", ENOTDIR);
  }
  fs::remove_all(staging_, error);
  if (::mkdir(staging_.c_str(), 0777) != 0) fail_at(path_, "cannot be written", errno);
}

AtomicDirectory::~AtomicDirectory() {
  std::error_code error;
  if (!committed_) fs::remove_all(staging_, error);
}

void AtomicDirectory::commit() {
  sync_tree(staging_);
  std::error_code ignored;
  if (::rename(staging_.c_str(), path_.c_str()) == 0) {  // no old folder, or an empty one
    committed_ = true;
  } else if (errno != ENOTEMPTY && errno != EEXIST) {
    fail_at(path_, "cannot be put in place", errno);
  } else if (::renameat2(AT_FDCWD, staging_.c_str(), AT_FDCWD, path_.c_str(), RENAME_EXCHANGE) ==
             0) {
    committed_ = true;
    sync_path(parent_of(path_), O_DIRECTORY);
    fs::remove_all(staging_, ignored);  // now the old folder
  } else {
    const std::string old = path_ + ".old";
    fs::remove_all(old, ignored);
    if (::rename(path_.c_str(), old.c_str()) != 0) fail_at(path_, "cannot be moved away", errno);
    if (::rename(staging_.c_str(), path_.c_str()) != 0) {
      const int error = errno;
      ::rename(old.c_str(), path_.c_str());
      fail_at(path_, "cannot be put in place", error);
    }
    committed_ = true;
    sync_path(parent_of(path_), O_DIRECTORY);
    fs::remove_all(old, ignored);
  }
  sync_path(parent_of(path_), O_DIRECTORY);
}

int remove_stale_temporaries(const std::string& folder) {
  int removed = 0;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(folder, error)) {
    const std::string name = entry.path().filename().string();
    const size_t mark = name.rfind(kTemporaryMark);
    if (mark == std::string::npos) continue;
    const std::string_view digits = std::string_view(name).substr(mark + 5);
    pid_t pid = 0;
    const auto [end, failure] = std::from_chars(digits.data(), digits.data() + digits.size(), pid);
    if (failure != std::errc{} || end != digits.data() + digits.size() || pid <= 0) continue;
    const bool running = ::kill(pid, 0) == 0 || errno == EPERM;
    // A temporary of our own number is stale too: this process has none open when it cleans up.
    if (running && pid != ::getpid()) continue;
    fs::remove_all(entry.path(), error);
    if (!error) ++removed;
  }
  return removed;
}

void make_directories(const std::string& path) {
  std::error_code error;
  fs::create_directories(without_final_slash(path), error);
  if (error) {
    throw Error(ErrorCode::kFailed, path + ": folder cannot be made: " + error.message());
  }
}

}  // namespace fovea::io
