#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace fovea::io {

/// Writes a file so that a reader, a crash or a power cut sees the old content or the new, never a
/// part: the bytes go to `<path>.tmp-<pid>` beside it, commit() does fsync, rename and fsync of the
/// directory. Without commit() the destructor removes the temporary and the old file stays.
///
/// A system failure (disk full, no permission) throws Error(kFailed) with file and reason; a
/// missing parent folder throws InputError. Not for use from several threads at once.
class AtomicFile {
 public:
  explicit AtomicFile(std::string path);
  ~AtomicFile();
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;

  void write(const void* data, size_t bytes);
  void write(std::string_view text) { write(text.data(), text.size()); }

  /// Makes the new content visible and durable. Nothing may be written afterwards.
  void commit();

 private:
  void flush();
  [[noreturn]] void fail(const char* action, int error_number);

  std::string path_;
  std::string temporary_;
  std::string buffer_;
  int fd_ = -1;
};

/// AtomicFile for content that is in memory.
void write_file(const std::string& path, std::string_view content);

/// Writes a folder so that `path` holds either all its old files or all the new ones: the caller
/// fills `staging()` (an empty folder `<path>.tmp-<pid>` beside `path`), commit() makes every file
/// durable and puts the folder in place in one step. An existing folder is exchanged
/// (renameat2 RENAME_EXCHANGE) and then deleted. Where the file system cannot exchange (old NFS),
/// the old folder is first moved to `<path>.old`; a kill between the two renames then leaves
/// `<path>.old` and the complete staging folder, and no `path`.
///
/// Errors as in AtomicFile.
class AtomicDirectory {
 public:
  explicit AtomicDirectory(std::string path);
  ~AtomicDirectory();
  AtomicDirectory(const AtomicDirectory&) = delete;
  AtomicDirectory& operator=(const AtomicDirectory&) = delete;

  const std::string& staging() const { return staging_; }
  void commit();

 private:
  std::string path_;
  std::string staging_;
  bool committed_ = false;
};

/// Removes what killed writers left behind in `folder`: entries named `*.tmp-<pid>` whose process
/// no longer runs. Returns how many were removed.
int remove_stale_temporaries(const std::string& folder);

/// Makes a folder and its parents; an existing folder is fine. Throws Error(kFailed) with the
/// reason.
void make_directories(const std::string& path);

}  // namespace fovea::io
