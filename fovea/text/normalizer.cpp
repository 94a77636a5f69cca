#include "fovea/text/normalizer.h"

#include <algorithm>
#include <memory>

#include <unicode/normalizer2.h>
#include <unicode/uniset.h>
#include <unicode/unistr.h>

#include "fovea/core/status.h"
#include "fovea/text/unicode.h"

namespace fovea {
namespace {

using Form = const icu::Normalizer2* (*)(UErrorCode&);

void check_icu(UErrorCode status) {
  if (U_FAILURE(status)) {
    throw Error(ErrorCode::kFailed,
                std::string("text normalization failed in ICU: ") + u_errorName(status));
  }
}

// The `tokenizers` package normalizes by the tables of Unicode 9: newer characters stay as they
// are.
const icu::UnicodeSet& unicode_9() {
  static const std::unique_ptr<icu::UnicodeSet> set = [] {
    UErrorCode status = U_ZERO_ERROR;
    auto result = std::make_unique<icu::UnicodeSet>(u"[:age=9.0:]", status);
    check_icu(status);
    result->freeze();
    return result;
  }();
  return *set;
}

void normalize_unicode(Form form, std::string& text) {
  const bool ascii = std::all_of(text.begin(), text.end(),
                                 [](char c) { return static_cast<unsigned char>(c) < 0x80; });
  if (ascii) return;
  UErrorCode status = U_ZERO_ERROR;
  const icu::Normalizer2* all = form(status);
  check_icu(status);
  const icu::FilteredNormalizer2 normalizer(*all, unicode_9());
  icu::UnicodeString result;
  normalizer.normalize(icu::UnicodeString::fromUTF8(text), result, status);
  check_icu(status);
  text.clear();
  result.toUTF8String(text);
}

// Calls write(code, result) for every character and stores the result.
template <typename Write>
void map_characters(std::string& text, const Write& write) {
  std::string result;
  result.reserve(text.size());
  const char* end = text.data() + text.size();
  for (const char* p = text.data(); p < end;) {
    const Char c = decode_utf8(p, end);
    p += c.size;
    write(c.code, result);
  }
  text = std::move(result);
}

void strip_accents(std::string& text) {
  const CharTable& chars = CharTable::get();
  map_characters(text, [&](uint32_t code, std::string& result) {
    if ((chars.classes(code) & kAccent) == 0) append_utf8(result, code);
  });
}

void lowercase(std::string& text) {
  map_characters(text, [](uint32_t code, std::string& result) { append_lower(result, code); });
}

void strip(std::string& text, bool left, bool right) {
  const CharTable& chars = CharTable::get();
  const char* end = text.data() + text.size();
  const char* first = nullptr;            // first character that is no space
  const char* behind_last = text.data();  // behind the last one
  for (const char* p = text.data(); p < end;) {
    const Char c = decode_utf8(p, end);
    const bool space = (chars.classes(c.code) & kSpace) != 0;
    if (!space && first == nullptr) first = p;
    p += c.size;
    if (!space) behind_last = p;
  }
  if (first == nullptr) {
    if (left || right) text.clear();
    return;
  }
  const char* from = left ? first : text.data();
  text = std::string(from, right ? behind_last : end);
}

// A few Replace steps in a hostile file could blow a text up to any size.
constexpr size_t kMaxGrowth = 1000;
constexpr size_t kMaxGrowthBytes = 1 << 20;

void replace(std::string& text, const std::string& pattern, const std::string& content,
             size_t original_bytes) {
  std::string result;
  size_t from = 0;
  for (size_t at = text.find(pattern); at != std::string::npos; at = text.find(pattern, from)) {
    result.append(text, from, at - from).append(content);
    if (result.size() > original_bytes * kMaxGrowth + kMaxGrowthBytes) {
      throw InputError(
          "tokenizer: normalizer Replace makes a text a thousand times longer; correct its "
          "\"content\" or split the text");
    }
    from = at + pattern.size();
  }
  text = result.append(text, from);
}

}  // namespace

Normalizer::Normalizer(const JsonField& config) { add(config); }

void Normalizer::add(const JsonField& config) {
  const std::string type = config.at("type").string();
  const auto unicode = [this](Form form) {
    steps_.emplace_back([form](std::string& text, size_t) { normalize_unicode(form, text); });
  };
  if (type == "Sequence") {
    for (const JsonField& part : config.at("normalizers").elements()) add(part);
  } else if (type == "NFC") {
    unicode(&icu::Normalizer2::getNFCInstance);
  } else if (type == "NFD") {
    unicode(&icu::Normalizer2::getNFDInstance);
  } else if (type == "NFKC") {
    unicode(&icu::Normalizer2::getNFKCInstance);
  } else if (type == "NFKD") {
    unicode(&icu::Normalizer2::getNFKDInstance);
  } else if (type == "Lowercase") {
    steps_.emplace_back([](std::string& text, size_t) { lowercase(text); });
  } else if (type == "StripAccents") {
    steps_.emplace_back([](std::string& text, size_t) { strip_accents(text); });
  } else if (type == "Strip") {
    const bool left = config.at("strip_left").boolean();
    const bool right = config.at("strip_right").boolean();
    steps_.emplace_back([left, right](std::string& text, size_t) { strip(text, left, right); });
  } else if (type == "Replace") {
    const JsonField pattern = config.at("pattern");
    if (!pattern.find("String")) pattern.fail("{\"String\": …}; other patterns are not supported");
    const std::string from = pattern.at("String").string();
    if (from.empty()) pattern.fail("a string that is not empty");
    const std::string to = config.at("content").string();
    steps_.emplace_back([from, to](std::string& text, size_t original_bytes) {
      replace(text, from, to, original_bytes);
    });
  } else {
    config.at("type").fail(
        "a normalizer that fovea supports (NFC, NFD, NFKC, NFKD, Lowercase, StripAccents, Strip, "
        "Replace, Sequence)");
  }
}

std::string Normalizer::operator()(std::string_view text) const {
  std::string result(text);
  for (const Step& step : steps_) step(result, text.size());
  return result;
}

}  // namespace fovea
