#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

namespace fovea::io {

/// A stream of bytes. read() returns how many bytes it stored, 0 only at the end; it throws
/// InputError (with the name) for damaged or truncated compressed data and Error(kFailed) when the
/// system fails.
class ByteSource {
 public:
  virtual ~ByteSource() = default;
  virtual size_t read(char* out, size_t capacity) = 0;
  const std::string& name() const { return name_; }

 protected:
  explicit ByteSource(std::string name) : name_(std::move(name)) {}

 private:
  std::string name_;
};

/// Opens a file ("-" = standard input) and decompresses gzip (any number of members) and zstd (any
/// number of frames) on the way; which it is, is read off the first bytes, not off the name.
/// Constant memory: zstd frames that ask for a window above 128 MiB are refused.
std::unique_ptr<ByteSource> open_bytes(const std::string& path);

/// A stream over bytes in memory (which must stay alive), decompressed likewise.
std::unique_ptr<ByteSource> bytes_from_memory(std::string_view bytes, const std::string& name);

/// Splits a stream into lines with one growing buffer (at most the longest line, doubled).
class LineReader {
 public:
  static constexpr int64_t kDefaultMaxLineBytes = int64_t{256} << 20;

  explicit LineReader(const std::string& path, int64_t max_line_bytes = kDefaultMaxLineBytes);
  explicit LineReader(std::unique_ptr<ByteSource> source,
                      int64_t max_line_bytes = kDefaultMaxLineBytes);

  /// Next line without its newline (a carriage return before it stays); valid until the next call.
  /// The last line needs no newline. Returns false at the end. Throws InputError with file and line
  /// for a line above the limit, before it is read whole.
  bool next(std::string_view& line);

  /// The line that the following next() returns, or false at the end.
  bool peek(std::string_view& line);

  /// 1-based number of the line that next() returned last.
  int64_t line_number() const { return line_number_; }

  const std::string& name() const { return source_->name(); }

 private:
  bool fill_line();

  std::unique_ptr<ByteSource> source_;
  int64_t max_line_bytes_;
  std::string buffer_;
  size_t begin_ = 0;    // first byte not yet returned
  size_t end_ = 0;      // end of the bytes read
  size_t scanned_ = 0;  // no newline before here
  size_t line_end_ = 0;
  bool have_line_ = false;
  bool at_end_ = false;
  int64_t line_number_ = 0;
};

}  // namespace fovea::io
