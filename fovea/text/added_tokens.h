#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "fovea/text/json_field.h"
#include "fovea/text/normalizer.h"

namespace fovea {

/// A token that is found in the text before the model sees it.
struct AddedToken {
  std::string content;
  std::string pattern;  ///< what is searched: the content, normalized if the token is
  int32_t id = 0;
  bool single_word = false;
  bool lstrip = false;
  bool rstrip = false;
  bool normalized = true;
  bool special = false;
};

/// Finds tokens in a text: the leftmost, and of those the longest.
class TokenFinder {
 public:
  explicit TokenFinder(std::vector<AddedToken> tokens = {});

  /// Calls on_text(begin, end) for what lies between tokens and on_token(id) for each token.
  template <typename OnText, typename OnToken>
  void scan(std::string_view text, const OnText& on_text, const OnToken& on_token) const {
    size_t done = 0;
    Match match;
    for (size_t from = 0; !tokens_.empty() && find(text, from, done, match); from = match.next) {
      if (match.token == nullptr) continue;
      if (match.begin >= match.end) continue;  // all of it were spaces that the last token took
      if (done < match.begin) on_text(done, match.begin);
      on_token(match.token->id);
      done = match.end;
    }
    if (done < text.size()) on_text(done, text.size());
  }

 private:
  struct Match {
    const AddedToken* token;  // null if it is none because of single_word
    size_t begin, end;        // with the spaces it takes
    size_t next;              // where to search on
  };
  bool find(std::string_view text, size_t from, size_t done, Match& match) const;
  static void take_spaces(std::string_view text, size_t done, Match& match);

  std::vector<AddedToken> tokens_;     // by first byte, longest first
  std::array<uint32_t, 257> first_{};  // tokens_[first_[b], first_[b + 1]) begin with byte b
};

/// Reads one element of "added_tokens".
AddedToken read_added_token(const JsonField& config, const Normalizer& normalizer);

}  // namespace fovea
