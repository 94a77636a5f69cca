#include "fovea/io/byte_source.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>
#include <vector>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>
#include <zstd.h>

#include "fovea/core/status.h"
#include "fovea/io/file.h"

namespace fovea::io {
namespace {

constexpr size_t kInputBytes = 1 << 18;
constexpr int kZstdWindowLog = 27;

class FileSource : public ByteSource {
 public:
  explicit FileSource(const std::string& path) : ByteSource(display_name(path)) {
    if (path == "-") {
      fd_ = STDIN_FILENO;
      return;
    }
    fd_ = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
    if (fd_ < 0) throw InputError(path + ": cannot be opened: " + system_error_text(errno));
    struct stat info {};
    if (::fstat(fd_, &info) == 0 && S_ISDIR(info.st_mode)) {
      ::close(fd_);
      throw InputError(path + ": expected a file, found a folder");
    }
  }
  ~FileSource() override {
    if (fd_ != STDIN_FILENO) ::close(fd_);
  }
  size_t read(char* out, size_t capacity) override {
    for (;;) {
      const ssize_t n = ::read(fd_, out, capacity);
      if (n >= 0) return static_cast<size_t>(n);
      if (errno != EINTR) {
        throw Error(ErrorCode::kFailed, name() + ": cannot be read: " + system_error_text(errno));
      }
    }
  }

 private:
  int fd_;
};

class MemorySource : public ByteSource {
 public:
  MemorySource(std::string_view bytes, const std::string& name) : ByteSource(name), rest_(bytes) {}
  size_t read(char* out, size_t capacity) override {
    const size_t n = std::min(capacity, rest_.size());
    if (n > 0) std::memcpy(out, rest_.data(), n);
    rest_.remove_prefix(n);
    return n;
  }

 private:
  std::string_view rest_;
};

// The still compressed bytes, with what was read ahead to see which kind they are.
class Input {
 public:
  explicit Input(std::unique_ptr<ByteSource> source)
      : source_(std::move(source)), buffer_(kInputBytes) {}

  const std::string& name() const { return source_->name(); }
  std::string_view available() const { return {buffer_.data() + begin_, end_ - begin_}; }
  void consume(size_t n) { begin_ += n; }

  // Reads more behind what is available (only while that is short); false at the end.
  bool fill() {
    if (begin_ == end_) begin_ = end_ = 0;
    const size_t n = source_->read(buffer_.data() + end_, buffer_.size() - end_);
    end_ += n;
    return n > 0;
  }

  // Bytes past the buffer, straight from the source.
  size_t read(char* out, size_t capacity) {
    if (begin_ == end_) return source_->read(out, capacity);
    const size_t n = std::min(capacity, end_ - begin_);
    std::memcpy(out, buffer_.data() + begin_, n);
    begin_ += n;
    return n;
  }

 private:
  std::unique_ptr<ByteSource> source_;
  std::vector<char> buffer_;
  size_t begin_ = 0, end_ = 0;
};

[[noreturn]] void fail_damaged(const std::string& name, const char* kind, const std::string& what,
                               int64_t good_bytes) {
  throw InputError(name + ": " + kind + " data is " + what + " after " +
                   std::to_string(good_bytes) +
                   " decompressed bytes; fetch or compress the file again");
}

class PlainSource : public ByteSource {
 public:
  explicit PlainSource(Input input) : ByteSource(input.name()), input_(std::move(input)) {}
  size_t read(char* out, size_t capacity) override { return input_.read(out, capacity); }

 private:
  Input input_;
};

class GzipSource : public ByteSource {
 public:
  explicit GzipSource(Input input) : ByteSource(input.name()), input_(std::move(input)) {
    constexpr int kGzipOnly = 15 + 16;
    if (inflateInit2(&stream_, kGzipOnly) != Z_OK) throw std::bad_alloc();
  }
  ~GzipSource() override { inflateEnd(&stream_); }

  size_t read(char* out, size_t capacity) override {
    stream_.next_out = reinterpret_cast<Bytef*>(out);
    stream_.avail_out = static_cast<uInt>(std::min<size_t>(capacity, kInputBytes));
    const size_t wanted = stream_.avail_out;
    while (stream_.avail_out == wanted) {
      if (input_.available().empty() && !input_.fill()) {
        if (!between_members_) fail_damaged(name(), "gzip", "truncated", total_);
        return 0;
      }
      if (between_members_ && !start_member()) continue;
      inflate_some();
    }
    const size_t n = wanted - stream_.avail_out;
    total_ += static_cast<int64_t>(n);
    return n;
  }

 private:
  // A further member, or the zero padding that tapes and some tools leave behind the last one.
  bool start_member() {
    if (total_members_ > 0 && input_.available().front() == '\0') {
      input_.consume(1);
      padding_ = true;
      return false;
    }
    if (padding_) fail_damaged(name(), "gzip", "followed by other bytes", total_);
    if (total_members_ > 0) inflateReset(&stream_);
    between_members_ = false;
    return true;
  }

  void inflate_some() {
    const std::string_view in = input_.available();
    stream_.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(in.data()));
    stream_.avail_in = static_cast<uInt>(in.size());
    const int result = inflate(&stream_, Z_NO_FLUSH);
    input_.consume(in.size() - stream_.avail_in);
    if (result == Z_STREAM_END) {
      between_members_ = true;
      ++total_members_;
    } else if (result == Z_MEM_ERROR) {
      throw std::bad_alloc();
    } else if (result != Z_OK && result != Z_BUF_ERROR) {
      const std::string reason = stream_.msg != nullptr ? stream_.msg : "no message";
      fail_damaged(name(), "gzip", "damaged (" + reason + ")", total_);
    }
  }

  Input input_;
  z_stream stream_ = {};
  bool between_members_ = true;
  bool padding_ = false;
  int64_t total_members_ = 0;
  int64_t total_ = 0;
};

class ZstdSource : public ByteSource {
 public:
  explicit ZstdSource(Input input)
      : ByteSource(input.name()), input_(std::move(input)), stream_(ZSTD_createDStream()) {
    if (stream_ == nullptr) throw std::bad_alloc();
    ZSTD_DCtx_setParameter(stream_, ZSTD_d_windowLogMax, kZstdWindowLog);
  }
  ~ZstdSource() override { ZSTD_freeDStream(stream_); }

  size_t read(char* out, size_t capacity) override {
    ZSTD_outBuffer output = {out, capacity, 0};
    while (output.pos == 0) {
      // Called also without input: a full output buffer can leave decoded bytes inside.
      const bool ended = input_.available().empty() && !input_.fill();
      if (ended && frame_complete_) return 0;
      const std::string_view in = input_.available();
      ZSTD_inBuffer input = {in.data(), in.size(), 0};
      const size_t result = ZSTD_decompressStream(stream_, &output, &input);
      input_.consume(input.pos);
      if (ZSTD_isError(result)) {
        fail_damaged(name(), "zstd",
                     std::string("damaged or above the limits (") + ZSTD_getErrorName(result) + ")",
                     total_);
      }
      frame_complete_ = result == 0;
      if (ended && output.pos == 0 && !frame_complete_) {
        fail_damaged(name(), "zstd", "truncated", total_);
      }
    }
    total_ += static_cast<int64_t>(output.pos);
    return output.pos;
  }

 private:
  Input input_;
  ZSTD_DStream* stream_;
  bool frame_complete_ = true;
  int64_t total_ = 0;
};

bool is_gzip(std::string_view head) { return head.starts_with("\x1f\x8b"); }

bool is_zstd(std::string_view head) {
  if (head.size() < 4) return false;
  const bool skippable = (static_cast<uint8_t>(head[0]) & 0xF0) == 0x50 &&
                         head.substr(1, 3) == std::string_view("\x2A\x4D\x18", 3);
  return skippable || head.starts_with("\x28\xB5\x2F\xFD");
}

std::unique_ptr<ByteSource> decompress(std::unique_ptr<ByteSource> raw) {
  Input input(std::move(raw));
  while (input.available().size() < 4 && input.fill()) {
  }
  const std::string_view head = input.available();
  if (is_gzip(head)) return std::make_unique<GzipSource>(std::move(input));
  if (is_zstd(head)) return std::make_unique<ZstdSource>(std::move(input));
  return std::make_unique<PlainSource>(std::move(input));
}

}  // namespace

std::unique_ptr<ByteSource> open_bytes(const std::string& path) {
  return decompress(std::make_unique<FileSource>(path));
}

std::unique_ptr<ByteSource> bytes_from_memory(std::string_view bytes, const std::string& name) {
  return decompress(std::make_unique<MemorySource>(bytes, name));
}

LineReader::LineReader(const std::string& path, int64_t max_line_bytes)
    : LineReader(open_bytes(path), max_line_bytes) {}

LineReader::LineReader(std::unique_ptr<ByteSource> source, int64_t max_line_bytes)
    : source_(std::move(source)), max_line_bytes_(max_line_bytes) {
  buffer_.resize(kInputBytes);
}

bool LineReader::fill_line() {
  if (have_line_) return true;
  for (;;) {
    const void* newline = std::memchr(buffer_.data() + scanned_, '\n', end_ - scanned_);
    if (newline != nullptr) {
      line_end_ = static_cast<size_t>(static_cast<const char*>(newline) - buffer_.data());
      break;
    }
    scanned_ = end_;
    if (at_end_) {
      if (begin_ == end_) return false;
      line_end_ = end_;
      break;
    }
    if (static_cast<int64_t>(end_ - begin_) > max_line_bytes_) break;
    if (begin_ > 0) {
      std::memmove(buffer_.data(), buffer_.data() + begin_, end_ - begin_);
      end_ -= begin_;
      scanned_ = end_;
      begin_ = 0;
    }
    if (end_ == buffer_.size()) buffer_.resize(2 * buffer_.size());
    const size_t n = source_->read(buffer_.data() + end_, buffer_.size() - end_);
    end_ += n;
    at_end_ = n == 0;
  }
  if (static_cast<int64_t>(std::max(line_end_, scanned_) - begin_) > max_line_bytes_) {
    throw InputError(name() + ":" + std::to_string(line_number_ + 1) +
                     ": expected a line of at most " + std::to_string(max_line_bytes_) +
                     " bytes, found a longer one; is this a text file, one record a line?");
  }
  have_line_ = true;
  return true;
}

bool LineReader::peek(std::string_view& line) {
  if (!fill_line()) return false;
  line = {buffer_.data() + begin_, line_end_ - begin_};
  return true;
}

bool LineReader::next(std::string_view& line) {
  if (!peek(line)) return false;
  have_line_ = false;
  ++line_number_;
  begin_ = scanned_ = std::min(line_end_ + 1, end_);
  return true;
}

}  // namespace fovea::io
