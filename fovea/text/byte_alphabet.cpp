#include "fovea/text/byte_alphabet.h"

#include <array>

#include "fovea/text/unicode.h"

namespace fovea {
namespace {

struct Alphabet {
  std::array<uint32_t, 256> character;
  std::array<int16_t, 0x144> byte;  // of a code point; -1 for none

  Alphabet() {
    byte.fill(-1);
    uint32_t next = 0x100;
    for (uint32_t b = 0; b < 256; ++b) {
      const bool printable = (b >= 0x21 && b <= 0x7E) || (b >= 0xA1 && b != 0xAD);
      character[b] = printable ? b : next++;
      byte[character[b]] = static_cast<int16_t>(b);
    }
  }
};

const Alphabet& alphabet() {
  static const Alphabet result;
  return result;
}

}  // namespace

uint32_t byte_character(uint8_t byte) { return alphabet().character[byte]; }

std::string to_byte_alphabet(std::string_view bytes) {
  std::string text;
  for (const char b : bytes) append_utf8(text, byte_character(static_cast<uint8_t>(b)));
  return text;
}

std::optional<std::string> from_byte_alphabet(std::string_view text) {
  const Alphabet& names = alphabet();
  std::string bytes;
  const char* end = text.data() + text.size();
  for (const char* p = text.data(); p < end;) {
    const Char c = decode_utf8(p, end);
    if (c.code >= names.byte.size() || names.byte[c.code] < 0) return std::nullopt;
    bytes.push_back(static_cast<char>(names.byte[c.code]));
    p += c.size;
  }
  return bytes;
}

}  // namespace fovea
