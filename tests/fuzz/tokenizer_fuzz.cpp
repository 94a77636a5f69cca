// Reads a tokenizer.json made by an adversary; what is accepted must encode, decode and be written
// so that it reads back the same.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

#include "fovea/core/status.h"
#include "fovea/text/tokenizer.h"

namespace {

constexpr std::string_view kTexts[] = {
    "", "the cat's  mat \r\n 12\xC2\xBD", "\xE4\xBD\xA0\xE5\xA5\xBD a\xCC\x81\xC4\xB0 [PAD]<s> ab",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaabbb", "\xFF\x80 ab"};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  try {
    const fovea::Tokenizer tokenizer =
        fovea::Tokenizer::from_json({reinterpret_cast<const char*>(data), size}, "fuzz");
    const std::string written = tokenizer.to_json();
    const fovea::Tokenizer again = fovea::Tokenizer::from_json(written, "again");
    if (again.to_json() != written || again.vocab_size() != tokenizer.vocab_size()) std::abort();
    for (const std::string_view text : kTexts) {
      try {
        const std::vector<int32_t> ids = tokenizer.encode(text);
        if (again.encode(text) != ids) std::abort();
        tokenizer.decode(ids, false);
      } catch (const fovea::InputError&) {
      }
    }
  } catch (const fovea::InputError&) {
  }
  return 0;
}
