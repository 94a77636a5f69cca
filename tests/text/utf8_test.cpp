#include "fovea/text/utf8.h"

#include <string>

#include <gtest/gtest.h>

#include "fovea/core/status.h"
#include "fovea/text/unicode.h"

namespace fovea {
namespace {

TEST(Utf8, EveryCodePointIsValidAndEverySurrogateIsNot) {
  for (uint32_t code = 0; code <= 0x10FFFF; ++code) {
    std::string text = "a";
    append_utf8(text, code);
    text += "b";
    const bool surrogate = code >= 0xD800 && code <= 0xDFFF;
    ASSERT_EQ(find_invalid_utf8(text), surrogate ? 1 : std::string::npos) << std::hex << code;
    const Char c = decode_utf8(text.data() + 1, text.data() + text.size());
    ASSERT_EQ(c.code, surrogate ? kInvalidChar : code);
  }
}

// Table 3-8 of the Unicode standard 15, "U+FFFD for Non-Shortest Form Sequences" and its sisters.
TEST(Utf8, ReplacesMaximalSubpartsAsTheStandardShows) {
  const std::string r = "\xEF\xBF\xBD";
  EXPECT_EQ(replace_invalid_utf8("\xC0\xAF\xE0\x80\xBF\xF0\x81\x82\x41"),
            r + r + r + r + r + r + r + r + "A");
  EXPECT_EQ(replace_invalid_utf8("\xED\xA0\x80\xED\xBF\xBF\xED\xAF\x41"),
            r + r + r + r + r + r + r + r + "A");
  EXPECT_EQ(replace_invalid_utf8("\xF4\x91\x92\x93\xFF\x41\x80\xBF\x42"),
            r + r + r + r + r + "A" + r + r + "B");
  EXPECT_EQ(replace_invalid_utf8("\xE1\x80\xE2\xF0\x91\x92\xF1\xBF\x41"), r + r + r + r + "A");
}

TEST(Utf8, FindsTheFirstBrokenByteBehindLongAscii) {
  for (size_t length = 0; length < 40; ++length) {
    const std::string ascii(length, 'x');
    EXPECT_EQ(find_invalid_utf8(ascii), std::string::npos);
    EXPECT_EQ(find_invalid_utf8(ascii + "\x80"), length);
    EXPECT_EQ(find_invalid_utf8(ascii + "\xC3\xA9\xC3"), length + 2);
  }
}

TEST(Utf8, ErrorNamesPlaceOffsetAndByte) {
  try {
    require_utf8("ab\xFF", "data.jsonl:7");
    FAIL();
  } catch (const InputError& error) {
    const std::string message = error.what();
    EXPECT_NE(message.find("data.jsonl:7: invalid UTF-8 at byte 2"), std::string::npos) << message;
    EXPECT_NE(message.find("0xFF"), std::string::npos) << message;
  }
}

}  // namespace
}  // namespace fovea
