#include "fovea/text/unicode.h"

#include <gtest/gtest.h>
#include <unicode/uchar.h>

namespace fovea {
namespace {

std::string lower(uint32_t code) {
  std::string text;
  append_lower(text, code);
  return text;
}

TEST(CharTable, AgreesWithIcuOnWhatUnicode9Assigned) {
  const CharTable& chars = CharTable::get();
  int checked = 0;
  for (UChar32 c = 0; c <= 0x10FFFF; ++c) {
    if (c >= 0xD800 && c <= 0xDFFF) continue;
    UVersionInfo age;
    u_charAge(c, age);
    if (age[0] == 0 || age[0] > 9) continue;
    if (c == 0x1CF2 || c == 0x1CF3 || c == 0x111C9) continue;  // mark or not: changed since
    ++checked;
    const uint8_t classes = chars.classes(static_cast<uint32_t>(c));
    const uint32_t category = U_MASK(u_charType(c));
    ASSERT_EQ((classes & kLetter) != 0, (category & U_GC_L_MASK) != 0) << std::hex << c;
    ASSERT_EQ((classes & kNumber) != 0, (category & U_GC_N_MASK) != 0) << std::hex << c;
    ASSERT_EQ((classes & kSpace) != 0, u_isUWhiteSpace(c) != 0) << std::hex << c;
    ASSERT_EQ((classes & kAccent) != 0, (category & U_GC_M_MASK) != 0) << std::hex << c;
  }
  EXPECT_GT(checked, 200'000);
}

TEST(CharTable, HasNoClassForInvalid) { EXPECT_EQ(CharTable::get().classes(kInvalidChar), 0); }

TEST(AppendLower, FollowsUnicodeDataOneCharacterAtATime) {
  EXPECT_EQ(lower('A'), "a");
  EXPECT_EQ(lower('['), "[");
  EXPECT_EQ(lower(0xC4), "\xC3\xA4");             // Ä
  EXPECT_EQ(lower(0x100), "\xC4\x81");            // A with macron
  EXPECT_EQ(lower(0x101), "\xC4\x81");            // its lower case stands between upper cases
  EXPECT_EQ(lower(0xD7), "\xC3\x97");             // the multiplication sign stands between letters
  EXPECT_EQ(lower(0x130), "i\xCC\x87");           // dotted capital I
  EXPECT_EQ(lower(0x3A3), "\xCF\x83");            // capital sigma, never the final form
  EXPECT_EQ(lower(0x1E9E), "\xC3\x9F");           // capital sharp s
  EXPECT_EQ(lower(0x1C5), "\xC7\x86");            // title-case dz
  EXPECT_EQ(lower(0x10400), "\xF0\x90\x90\xA8");  // Deseret
}

}  // namespace
}  // namespace fovea
