#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace fovea {

/// A half-open range of bytes.
struct ByteRange {
  size_t begin;
  size_t end;
};

/// A regular expression of `tokenizer.json` (Oniguruma's Ruby syntax), run by ICU.
///
/// \w \s \d \p{L} \p{N} and ^ $ . \b mean what they mean to the `tokenizers` package, whatever
/// ICU's Unicode version; other properties are ICU's. What the two engines read differently is
/// refused. Threads: immutable. Cost: slow (ICU steps through UTF-8 by a text interface); patterns
/// that matter have scanners of their own.
class Regex {
 public:
  /// Compiles `pattern`; throws InputError starting with `where`.
  Regex(std::string_view pattern, std::string_view where);

  /// Appends the matches in `text` (valid UTF-8), left to right, not overlapping; an empty match
  /// right behind another match does not count. Throws InputError if the expression needs too much
  /// time or memory on this text.
  void find_all(std::string_view text, std::vector<ByteRange>& matches) const;

 private:
  struct Compiled;
  std::shared_ptr<const Compiled> compiled_;
};

/// `pattern` in ICU's syntax. Throws InputError on what ICU would read differently.
std::string translate_regex(std::string_view pattern, std::string_view where);

}  // namespace fovea
