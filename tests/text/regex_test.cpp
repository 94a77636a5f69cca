#include "fovea/text/regex.h"

#include <gtest/gtest.h>

#include "fovea/core/status.h"

namespace fovea {
namespace {

std::vector<std::string> matches(const char* pattern, const std::string& text) {
  std::vector<ByteRange> ranges;
  Regex(pattern, "test").find_all(text, ranges);
  std::vector<std::string> found;
  for (const ByteRange& range : ranges) {
    found.push_back(text.substr(range.begin, range.end - range.begin));
  }
  return found;
}

using Strings = std::vector<std::string>;

TEST(Regex, FindsByteRanges) {
  EXPECT_EQ(matches(R"(\p{L}+)", "\xC3\xA9t\xC3\xA9 1 \xE4\xBD\xA0"),
            (Strings{"\xC3\xA9t\xC3\xA9", "\xE4\xBD\xA0"}));
  EXPECT_EQ(matches(R"(\s+(?!\S))", "a   b "), (Strings{"  ", " "}));
  EXPECT_EQ(matches("a*", "baa"), (Strings{"", "aa"}));
}

TEST(Regex, LinesAreRubys) {
  EXPECT_EQ(matches("^.", "a\nb\rc"), (Strings{"a", "b"}));
  EXPECT_EQ(matches("\\Aa\\z", "a"), Strings{"a"});
}

TEST(Regex, RefusesWhatEnginesReadDifferently) {
  for (const char* pattern :
       {"(?m:a)", "\\h", "\\R", "a{1,2}+", "(?<x>a)", "\\1", "[a--b]", "\\", "(", "[a"}) {
    EXPECT_THROW(Regex(pattern, "test"), InputError) << pattern;
  }
}

// Nested quantifiers: exponential backtracking must end in an error, not in a hang or an overflow.
TEST(Regex, LimitsBacktracking) {
  const std::string text(40, 'a');
  EXPECT_THROW(matches("(?:a*a*)*(?:a*a*)*b", text + "c"), InputError);
}

}  // namespace
}  // namespace fovea
