#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace fovea {

/// What stands for a byte that belongs to no valid UTF-8 character.
constexpr uint32_t kInvalidChar = 0xFFFFFFFF;

/// A character of a UTF-8 text and its length in bytes.
struct Char {
  uint32_t code;
  uint32_t size;
};

/// Decodes the character at `p` < `end`; {kInvalidChar, 1} if there is no valid one.
inline Char decode_utf8(const char* p, const char* end) {
  const auto byte = [p](int i) { return static_cast<uint32_t>(static_cast<unsigned char>(p[i])); };
  const auto continues = [&](int i) { return (byte(i) & 0xC0) == 0x80; };
  const uint32_t lead = byte(0);
  if (lead < 0x80) return {lead, 1};
  const auto left = end - p;
  if (lead >= 0xC2 && lead < 0xE0 && left >= 2 && continues(1)) {
    return {(lead & 0x1F) << 6 | (byte(1) & 0x3F), 2};
  }
  if (lead >= 0xE0 && lead < 0xF0 && left >= 3 && continues(1) && continues(2)) {
    const uint32_t code = (lead & 0x0F) << 12 | (byte(1) & 0x3F) << 6 | (byte(2) & 0x3F);
    if (code >= 0x800 && (code < 0xD800 || code > 0xDFFF)) return {code, 3};
  }
  if (lead >= 0xF0 && lead < 0xF5 && left >= 4 && continues(1) && continues(2) && continues(3)) {
    const uint32_t code =
        (lead & 7) << 18 | (byte(1) & 0x3F) << 12 | (byte(2) & 0x3F) << 6 | (byte(3) & 0x3F);
    if (code >= 0x10000 && code <= 0x10FFFF) return {code, 4};
  }
  return {kInvalidChar, 1};
}

/// Appends a code point (not a surrogate, at most U+10FFFF) as UTF-8.
void append_utf8(std::string& text, uint32_t code);

/// Classes of a character as the `tokenizers` package sees them (bits). The order is that of
/// generate_unicode_tables.py.
enum CharClass : uint8_t {
  kLetter = 1,        ///< \p{L} of its regular expressions
  kNumber = 2,        ///< \p{N}
  kSpace = 4,         ///< \s, and whitespace everywhere else
  kWord = 8,          ///< \w of the pre-tokenizer Whitespace
  kRegexWord = 16,    ///< \w of its regular expressions
  kPunctuation = 32,  ///< pre-tokenizer Punctuation
  kNumeric = 64,      ///< pre-tokenizer Digits
  kAccent = 128,      ///< normalizer StripAccents
};

/// Table of the classes of all code points. Cost: two loads.
class CharTable {
 public:
  /// The one table, made on first use.
  static const CharTable& get();

  /// CharClass bits; 0 for kInvalidChar.
  uint8_t classes(uint32_t code) const {
    if (code > 0x10FFFF) return 0;
    return blocks_[block_of_[code >> 8] << 8 | (code & 0xFF)];
  }

 private:
  CharTable();
  std::array<uint16_t, 0x1100> block_of_;
  std::vector<uint8_t> blocks_;
};

/// Appends the lower case of `code`, one character at a time without regard to its neighbours (no
/// final sigma, no locale), as Rust's char::to_lowercase.
void append_lower(std::string& text, uint32_t code);

/// The code points of class `char_class` as the inside of a regular expression's set:
/// "\x{41}-\x{5A}…".
std::string regex_set(CharClass char_class);

}  // namespace fovea
