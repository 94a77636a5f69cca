#include "fovea/text/utf8.h"

#include <cstdint>
#include <cstdio>
#include <cstring>

#include "fovea/core/status.h"
#include "fovea/text/unicode.h"

namespace fovea {
namespace {

size_t skip_ascii(std::string_view text, size_t i) {
  while (i + 8 <= text.size()) {
    uint64_t word;
    std::memcpy(&word, text.data() + i, 8);
    if (word & 0x8080808080808080u) break;
    i += 8;
  }
  while (i < text.size() && static_cast<unsigned char>(text[i]) < 0x80) ++i;
  return i;
}

// Length of the longest start of a valid character at text[i], at least 1.
size_t maximal_subpart(std::string_view text, size_t i) {
  const auto byte = [&](size_t at) { return static_cast<unsigned char>(text[at]); };
  const int lead = byte(i);
  if (lead < 0xC2 || lead > 0xF4) return 1;
  const int continuations = lead < 0xE0 ? 1 : lead < 0xF0 ? 2 : 3;
  int low = 0x80, high = 0xBF;  // of the second byte
  if (lead == 0xE0) low = 0xA0;
  if (lead == 0xED) high = 0x9F;
  if (lead == 0xF0) low = 0x90;
  if (lead == 0xF4) high = 0x8F;
  size_t length = 1;
  while (length <= static_cast<size_t>(continuations) && i + length < text.size()) {
    const int b = byte(i + length);
    if (b < low || b > high) break;
    low = 0x80, high = 0xBF;
    ++length;
  }
  return length;
}

}  // namespace

size_t find_invalid_utf8(std::string_view text) {
  const char* end = text.data() + text.size();
  for (size_t i = skip_ascii(text, 0); i < text.size(); i = skip_ascii(text, i)) {
    const Char c = decode_utf8(text.data() + i, end);
    if (c.code == kInvalidChar) return i;
    i += c.size;
  }
  return std::string_view::npos;
}

void require_utf8(std::string_view text, std::string_view where) {
  const size_t at = find_invalid_utf8(text);
  if (at == std::string_view::npos) return;
  char bytes[16];
  std::snprintf(bytes, sizeof bytes, "0x%02X", static_cast<unsigned char>(text[at]));
  throw InputError(std::string(where) + ": invalid UTF-8 at byte " + std::to_string(at) +
                   ": expected a whole UTF-8 character, found byte " + bytes +
                   "; convert the text to UTF-8, or read it with replacement of what is broken");
}

std::string replace_invalid_utf8(std::string_view text) {
  size_t bad = find_invalid_utf8(text);
  std::string result;
  result.reserve(text.size());
  while (bad != std::string_view::npos) {
    result.append(text.substr(0, bad));
    result.append("\xEF\xBF\xBD");
    text.remove_prefix(bad + maximal_subpart(text, bad));
    bad = find_invalid_utf8(text);
  }
  result.append(text);
  return result;
}

}  // namespace fovea
