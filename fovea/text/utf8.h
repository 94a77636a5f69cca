#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace fovea {

/// Offset in bytes of the first byte that does not continue or start a valid UTF-8 character
/// (Unicode 15 table 3-7: no surrogates, nothing above U+10FFFF, shortest form only), the start of
/// the broken character as Python's UnicodeDecodeError.start; std::string_view::npos if all is
/// valid. Cost: linear, about memory speed on ASCII.
size_t find_invalid_utf8(std::string_view text);

/// Throws InputError "<where>: invalid UTF-8 at byte <offset>: …" unless `text` is valid.
void require_utf8(std::string_view text, std::string_view where);

/// `text` with every maximal part of a broken character replaced by U+FFFD, exactly as Python's
/// bytes.decode("utf-8", errors="replace") and the Unicode standard's recommended practice.
std::string replace_invalid_utf8(std::string_view text);

}  // namespace fovea
