#include "fovea/io/byte_source.h"

#include <vector>

#include "tests/io/temporary_folder.h"
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <zlib.h>
#include <zstd.h>

#include "fovea/core/status.h"
#include "fovea/io/atomic_file.h"

namespace fovea::io {
namespace {

using test::message_of;
using test::TemporaryFolder;
using testing::AllOf;
using testing::HasSubstr;

std::string gzip(std::string_view text) {
  z_stream stream = {};
  deflateInit2(&stream, 6, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY);
  std::string out(deflateBound(&stream, text.size()) + 32, '\0');
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(text.data()));
  stream.avail_in = static_cast<uInt>(text.size());
  stream.next_out = reinterpret_cast<Bytef*>(out.data());
  stream.avail_out = static_cast<uInt>(out.size());
  EXPECT_EQ(deflate(&stream, Z_FINISH), Z_STREAM_END);
  out.resize(stream.total_out);
  deflateEnd(&stream);
  return out;
}

std::string zstd(std::string_view text) {
  std::string out(ZSTD_compressBound(text.size()), '\0');
  out.resize(ZSTD_compress(out.data(), out.size(), text.data(), text.size(), 3));
  return out;
}

std::string read_all(std::string_view bytes, size_t step) {
  const auto source = bytes_from_memory(bytes, "f");
  std::string out, block(step, '\0');
  while (const size_t n = source->read(block.data(), block.size())) out.append(block, 0, n);
  return out;
}

// Compresses badly, so that it passes the 256 KiB input buffers several times.
std::string noise(size_t bytes) {
  std::string out(bytes, '\0');
  uint32_t state = 1;
  for (char& c : out) {
    state = state * 1664525u + 1013904223u;
    c = static_cast<char>(state >> 24);
  }
  return out;
}

TEST(ByteSource, ReadsPlainGzipAndZstdInAnySteps) {
  for (const std::string& text : {std::string(), std::string("a"), std::string(100'000, 'x'),
                                  noise(700'000), std::string("{\"text\": 1}\n")}) {
    for (const size_t step : {7u, 4096u, 1u << 20}) {
      if (step == 7 && text.size() > 200'000) continue;
      EXPECT_EQ(read_all(text, step), text);
      EXPECT_EQ(read_all(gzip(text), step), text);
      EXPECT_EQ(read_all(zstd(text), step), text);
    }
  }
}

TEST(ByteSource, ReadsSeveralMembersFramesAndPadding) {
  const std::string big = noise(300'000);
  EXPECT_EQ(read_all(gzip("a") + gzip("") + gzip(big) + gzip("z"), 5000), "a" + big + "z");
  EXPECT_EQ(read_all(zstd("a") + zstd("") + zstd(big) + zstd("z"), 5000), "a" + big + "z");
  EXPECT_EQ(read_all(gzip("a") + std::string(1000, '\0'), 100), "a");
  const std::string skippable("\x50\x2A\x4D\x18\x03\x00\x00\x00xyz", 11);
  EXPECT_EQ(read_all(skippable + zstd("a"), 100), "a");
  EXPECT_THAT(message_of<InputError>([&] { read_all(gzip("a") + "junk", 100); }), HasSubstr("f: "));
  EXPECT_THAT(message_of<InputError>([&] { read_all(gzip("a") + '\0' + gzip("b"), 100); }),
              HasSubstr("followed by other bytes"));
}

TEST(ByteSource, NoticesEveryTruncation) {
  const std::string text = "some text that is long enough to be compressed, compressed, compressed";
  const std::string whole_gzip = gzip(text);
  const std::string whole_zstd = zstd(text);
  for (size_t n = 3; n < whole_gzip.size(); ++n) {
    EXPECT_THAT(message_of<InputError>([&] { read_all(whole_gzip.substr(0, n), 1000); }),
                HasSubstr("f: gzip data is truncated"))
        << n;
  }
  for (size_t n = 4; n < whole_zstd.size(); ++n) {
    EXPECT_THAT(message_of<InputError>([&] { read_all(whole_zstd.substr(0, n), 1000); }),
                HasSubstr("f: zstd data is truncated"))
        << n;
  }
}

TEST(ByteSource, NoticesDamage) {
  std::string bytes = gzip(noise(1000));
  bytes[bytes.size() - 6] ^= 1;  // its checksum
  EXPECT_THAT(message_of<InputError>([&] { read_all(bytes, 100); }), HasSubstr("damaged"));
}

TEST(LineReader, SplitsLines) {
  using Lines = std::vector<std::string>;
  const auto lines_of = [](std::string_view text) {
    LineReader reader(bytes_from_memory(text, "f"));
    Lines lines;
    std::string_view line, ahead;
    while (reader.peek(ahead)) {
      EXPECT_TRUE(reader.next(line));
      EXPECT_EQ(line, ahead);
      lines.emplace_back(line);
      EXPECT_EQ(reader.line_number(), static_cast<int64_t>(lines.size()));
    }
    EXPECT_FALSE(reader.next(line));
    return lines;
  };
  EXPECT_EQ(lines_of(""), Lines{});
  EXPECT_EQ(lines_of("\n"), Lines{""});
  EXPECT_EQ(lines_of("a"), Lines{"a"});
  EXPECT_EQ(lines_of("a\n\nb\r\n"), (Lines{"a", "", "b\r"}));
  const std::string big(1'000'000, 'x');
  EXPECT_EQ(lines_of(big + "\n" + big + big + "\ny"), (Lines{big, big + big, "y"}));
}

TEST(LineReader, RefusesALineAboveTheLimitWithFileAndLine) {
  const auto read = [](const std::string& text, int64_t limit) {
    LineReader reader(bytes_from_memory(text, "f.jsonl"), limit);
    std::string_view line;
    while (reader.next(line)) {
    }
  };
  read("ab\nabc\nabc", 3);
  EXPECT_THAT(message_of<InputError>([&] { read("ab\nabcd\n", 3); }),
              AllOf(HasSubstr("f.jsonl:2: "), HasSubstr("at most 3 bytes")));
  EXPECT_THAT(message_of<InputError>([&] { read("ab\n" + std::string(3'000'000, 'x'), 300'000); }),
              HasSubstr("f.jsonl:2: "));
}

// A gzip file of a few kilobytes that holds a line of 4 GB must be refused at the limit.
TEST(LineReader, StopsAtTheLimitOfABomb) {
  std::string bomb;
  const std::string member = gzip(std::string(16 << 20, 'x'));
  for (int i = 0; i < 256; ++i) bomb += member;
  LineReader reader(bytes_from_memory(bomb, "bomb"), 8 << 20);
  std::string_view line;
  EXPECT_THROW(reader.next(line), InputError);
}

TEST(OpenBytes, GoesByContentNotByName) {
  const TemporaryFolder folder;
  write_file(folder / "a.txt", gzip("hello\n"));
  write_file(folder / "b.gz", "plain\n");
  std::string_view line;
  LineReader a(folder / "a.txt"), b(folder / "b.gz");
  ASSERT_TRUE(a.next(line));
  EXPECT_EQ(line, "hello");
  ASSERT_TRUE(b.next(line));
  EXPECT_EQ(line, "plain");
  EXPECT_THAT(message_of<InputError>([&] { LineReader c(folder / "c"); }),
              AllOf(HasSubstr("/c: "), HasSubstr("No such file")));
  EXPECT_THAT(message_of<InputError>([&] { LineReader c(folder.path()); }), HasSubstr("folder"));
}

}  // namespace
}  // namespace fovea::io
