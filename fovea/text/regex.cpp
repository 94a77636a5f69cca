#include "fovea/text/regex.h"

#include <algorithm>
#include <cstdint>
#include <cstring>

#include <unicode/uregex.h>
#include <unicode/ustring.h>
#include <unicode/utext.h>

#include "fovea/core/status.h"
#include "fovea/text/unicode.h"

namespace fovea {
namespace {

constexpr size_t kMaxPatternBytes = 1 << 20;
// ICU counts backtracking steps in units of 10,000 (about a millisecond), over all of a text.
constexpr int64_t kMaxUnits = 500;
constexpr int64_t kBytesPerUnit = 50;
constexpr int32_t kMaxStackBytes = 64 << 20;  // of backtracking state

[[noreturn]] void refuse(std::string_view where, const std::string& what) {
  throw InputError(std::string(where) + ": regular expression not supported: " + what +
                   "; supported are Oniguruma patterns that ICU reads the same way");
}

// Rewrites a pattern piece by piece: escapes become explicit sets, the rest is checked and copied.
class Translator {
 public:
  Translator(std::string_view pattern, std::string_view where) : rest_(pattern), where_(where) {}

  std::string run() {
    while (!rest_.empty()) step();
    return std::move(result_);
  }

 private:
  void step() {
    if (rest_[0] == '\\') return escape();
    if (rest_[0] == '[') ++set_depth_;
    if (rest_[0] == ']' && set_depth_ > 0) --set_depth_;
    if (set_depth_ == 0 && rest_.starts_with("(?")) check_group();
    if (set_depth_ == 0 && rest_.starts_with("}+")) refuse(where_, "'+' after '{n,m}'");
    if (set_depth_ > 0 && rest_.starts_with("--")) refuse(where_, "'--' in a set");
    copy(1);
  }

  void check_group() {
    for (const char* known : {"(?:", "(?=", "(?!", "(?<=", "(?<!", "(?>", "(?i:", "(?i)"}) {
      if (rest_.starts_with(known)) return;
    }
    refuse(where_, "group '" + std::string(rest_.substr(0, 4)) + "'");
  }

  void escape() {
    if (rest_.size() < 2) refuse(where_, "'\\' at its end");
    const char kind = rest_[1];
    switch (kind) {
      case 's':
        return set(kSpace, false, 2);
      case 'S':
        return set(kSpace, true, 2);
      case 'w':
      case 'W':
        return word(kind == 'W');
      case 'p':
      case 'P':
        return property(kind == 'P');
      case 'b':
      case 'B':
        return boundary(kind == 'b');
      case 'v':
        return replace("\\x0B", 2);
      default:
        break;
    }
    const bool letter = (kind >= 'a' && kind <= 'z') || (kind >= 'A' && kind <= 'Z');
    const bool digit = kind >= '0' && kind <= '9';
    if ((letter && std::strchr("dDAzZnrtfaexu", kind) == nullptr) || digit) {
      refuse(where_, std::string("'\\") + kind + "'");
    }
    copy(2);
  }

  void property(bool negated) {
    if (rest_.substr(2).starts_with("{L}")) return set(kLetter, negated, 5);
    if (rest_.substr(2).starts_with("{N}")) return set(kNumber, negated, 5);
    copy(2);
  }

  // In a set, Oniguruma's \w has not the superscripts and fractions of Latin-1 that it has outside.
  void word(bool negated) {
    if (set_depth_ == 0) return set(kRegexWord, negated, 2);
    const std::string odd = "\\xB2\\xB3\\xB9\\xBC-\\xBE", all = set_of(kRegexWord, negated);
    replace(negated ? "[" + all + odd + "]" : "[" + all + "-[" + odd + "]]", 2);
  }

  // In a set \b is a backspace to both engines.
  void boundary(bool positive) {
    if (set_depth_ > 0) return copy(2);
    const std::string word = set_of(kRegexWord, false);
    const std::string behind = "(?<=" + word + ")", behind_not = "(?<!" + word + ")";
    const std::string ahead = "(?=" + word + ")", ahead_not = "(?!" + word + ")";
    replace("(?:" + behind + (positive ? ahead_not : ahead) + "|" + behind_not +
                (positive ? ahead : ahead_not) + ")",
            2);
  }

  void set(CharClass char_class, bool negated, size_t length) {
    replace(set_of(char_class, negated), length);
  }

  static std::string set_of(CharClass char_class, bool negated) {
    return std::string(negated ? "[^" : "[").append(regex_set(char_class)).append("]");
  }

  void replace(const std::string& with, size_t length) {
    result_ += with;
    rest_.remove_prefix(length);
    if (result_.size() > kMaxPatternBytes) refuse(where_, "longer than 1 MiB");
  }

  void copy(size_t length) { replace(std::string(rest_.substr(0, length)), length); }

  std::string_view rest_;
  std::string_view where_;
  std::string result_;
  int set_depth_ = 0;
};

struct CloseText {
  void operator()(UText* text) const { utext_close(text); }
};

}  // namespace

std::string translate_regex(std::string_view pattern, std::string_view where) {
  return Translator(pattern, where).run();
}

struct Regex::Compiled {
  URegularExpression* expression = nullptr;
  ~Compiled() { uregex_close(expression); }
};

Regex::Regex(std::string_view pattern, std::string_view where) {
  const std::string translated = translate_regex(pattern, where);
  auto compiled = std::make_shared<Compiled>();
  UErrorCode status = U_ZERO_ERROR;
  const std::unique_ptr<UText, CloseText> text(
      utext_openUTF8(nullptr, translated.data(), static_cast<int64_t>(translated.size()), &status));
  UParseError at;
  // Ruby's ^ and $ always match at lines, and only \n ends a line.
  compiled->expression =
      uregex_openUText(text.get(), UREGEX_MULTILINE | UREGEX_UNIX_LINES, &at, &status);
  if (U_FAILURE(status)) refuse(where, std::string(pattern) + " (" + u_errorName(status) + ")");
  uregex_setStackLimit(compiled->expression, kMaxStackBytes, &status);
  compiled_ = std::move(compiled);
}

void Regex::find_all(std::string_view text, std::vector<ByteRange>& matches) const {
  UErrorCode status = U_ZERO_ERROR;
  const std::unique_ptr<URegularExpression, decltype(&uregex_close)> expression(
      uregex_clone(compiled_->expression, &status), &uregex_close);
  const std::unique_ptr<UText, CloseText> source(
      utext_openUTF8(nullptr, text.data(), static_cast<int64_t>(text.size()), &status));
  uregex_setUText(expression.get(), source.get(), &status);
  const int64_t units = kMaxUnits + static_cast<int64_t>(text.size()) / kBytesPerUnit;
  uregex_setTimeLimit(expression.get(), static_cast<int32_t>(std::min<int64_t>(units, INT32_MAX)),
                      &status);
  int64_t last_end = -1;
  while (U_SUCCESS(status) && uregex_findNext(expression.get(), &status)) {
    const int64_t begin = uregex_start64(expression.get(), 0, &status);
    const int64_t end = uregex_end64(expression.get(), 0, &status);
    if (U_FAILURE(status)) break;
    if (begin == end && begin == last_end) continue;
    matches.push_back({static_cast<size_t>(begin), static_cast<size_t>(end)});
    last_end = end;
  }
  if (U_FAILURE(status)) {
    throw InputError(std::string("tokenizer: a regular expression failed on a text of ") +
                     std::to_string(text.size()) + " bytes (" + u_errorName(status) +
                     "); simplify the pattern or split the text");
  }
}

}  // namespace fovea
