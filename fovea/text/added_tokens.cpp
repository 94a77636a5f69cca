#include "fovea/text/added_tokens.h"

#include <algorithm>

#include "fovea/text/unicode.h"

namespace fovea {
namespace {

uint8_t first_byte(const AddedToken& token) { return static_cast<uint8_t>(token.pattern[0]); }

// Start of the character that ends before text[at].
size_t previous(std::string_view text, size_t at) {
  size_t begin = at - 1;
  while (begin > 0 && at - begin < 4 && (static_cast<uint8_t>(text[begin]) & 0xC0) == 0x80) --begin;
  const Char c = decode_utf8(text.data() + begin, text.data() + at);
  return begin + c.size == at ? begin : at - 1;
}

uint8_t classes_at(std::string_view text, size_t at) {
  return CharTable::get().classes(decode_utf8(text.data() + at, text.data() + text.size()).code);
}

bool is_word_alone(std::string_view text, size_t begin, size_t end) {
  if (begin > 0 && (classes_at(text, previous(text, begin)) & kWord) != 0) return false;
  return end == text.size() || (classes_at(text, end) & kWord) == 0;
}

}  // namespace

AddedToken read_added_token(const JsonField& config, const Normalizer& normalizer) {
  AddedToken token;
  token.content = config.at("content").string();
  token.id = config.at("id").id();
  token.single_word = config.at("single_word").boolean();
  token.lstrip = config.at("lstrip").boolean();
  token.rstrip = config.at("rstrip").boolean();
  token.normalized = config.at("normalized").boolean();
  token.special = config.at("special").boolean();
  if (token.content.empty()) config.at("content").fail("a string that is not empty");
  token.pattern = token.normalized ? normalizer(token.content) : token.content;
  if (token.pattern.empty())
    config.at("content").fail("a string that the normalizer leaves some of");
  return token;
}

TokenFinder::TokenFinder(std::vector<AddedToken> tokens) : tokens_(std::move(tokens)) {
  std::stable_sort(tokens_.begin(), tokens_.end(), [](const AddedToken& a, const AddedToken& b) {
    if (first_byte(a) != first_byte(b)) return first_byte(a) < first_byte(b);
    return a.pattern.size() > b.pattern.size();
  });
  for (const AddedToken& token : tokens_) ++first_[first_byte(token) + 1];
  for (size_t b = 0; b < 256; ++b) first_[b + 1] += first_[b];
}

bool TokenFinder::find(std::string_view text, size_t from, size_t done, Match& match) const {
  for (size_t at = from; at < text.size(); ++at) {
    const auto byte = static_cast<uint8_t>(text[at]);
    for (uint32_t i = first_[byte]; i < first_[byte + 1u]; ++i) {
      const AddedToken& token = tokens_[i];
      if (text.compare(at, token.pattern.size(), token.pattern) != 0) continue;
      match.token = &token;
      match.begin = at;
      match.end = match.next = at + token.pattern.size();
      if (token.single_word && !is_word_alone(text, match.begin, match.end)) {
        match.token = nullptr;
      } else {
        take_spaces(text, done, match);
      }
      return true;
    }
  }
  return false;
}

void TokenFinder::take_spaces(std::string_view text, size_t done, Match& match) {
  if (match.token->lstrip) {
    while (match.begin > done && (classes_at(text, previous(text, match.begin)) & kSpace) != 0) {
      match.begin = previous(text, match.begin);
    }
    match.begin = std::max(match.begin, done);
  }
  if (match.token->rstrip) {
    while (match.end < text.size() && (classes_at(text, match.end) & kSpace) != 0) {
      match.end += decode_utf8(text.data() + match.end, text.data() + text.size()).size;
    }
  }
}

}  // namespace fovea
