#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace fovea::io {

/// Whole content of a file. Throws InputError that names the file and the system's reason, or the
/// limit when the file is longer than `max_bytes`.
std::string read_file(const std::string& path, int64_t max_bytes = int64_t{1} << 30);

/// A file mapped read-only into memory; unmapped by the destructor. An empty file maps to no bytes.
/// Throws InputError when the file cannot be opened or is not a regular file.
class MappedFile {
 public:
  explicit MappedFile(const std::string& path);
  ~MappedFile();
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&& other) noexcept;

  std::span<const std::byte> bytes() const { return bytes_; }

 private:
  std::span<const std::byte> bytes_;
};

/// Keeps a folder for one process at a time, until it is destroyed or the process ends in any way.
/// Throws InputError when the folder is not there or another process holds it. Writes nothing; on
/// a file system without locks it holds nothing.
class FolderLock {
 public:
  explicit FolderLock(const std::string& folder);
  ~FolderLock();
  FolderLock(const FolderLock&) = delete;
  FolderLock& operator=(const FolderLock&) = delete;

 private:
  int descriptor_;
};

/// Fingerprint of a file, or of a folder (names and contents in sorted order), as
/// "xxh3:<32 hex digits>": tells changed data from unchanged, is no defence against forgery.
/// Reads at memory speed with constant memory.
std::string hash_path(const std::string& path);

/// Name of a file in messages: the path, or "<stdin>" for "-".
std::string display_name(const std::string& path);

/// The text of an errno value, such as "No space left on device".
std::string system_error_text(int error_number);

}  // namespace fovea::io
