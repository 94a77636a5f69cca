#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace fovea {

/// GPT-2's names of the bytes: the code point that `tokenizer.json` writes for `byte`. Printable
/// Latin-1 characters name themselves, the other 68 bytes are U+0100, U+0101, … in their order.
uint32_t byte_character(uint8_t byte);

/// `bytes` in that alphabet, as UTF-8.
std::string to_byte_alphabet(std::string_view bytes);

/// The bytes that `text` names, or nothing if one of its characters names none.
std::optional<std::string> from_byte_alphabet(std::string_view text);

}  // namespace fovea
