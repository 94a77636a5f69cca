// The three trainers: count, make the parts of a tokenizer.json, read them back.

#include <algorithm>
#include <set>

#include <nlohmann/json.hpp>
#include <unicode/uchar.h>

#include "fovea/core/status.h"
#include "fovea/text/bpe_trainer.h"
#include "fovea/text/byte_alphabet.h"
#include "fovea/text/tokenizer_impl.h"
#include "fovea/text/unicode.h"
#include "fovea/text/utf8.h"
#include "fovea/text/vocabulary.h"

namespace fovea {
namespace {

using nlohmann::json;

constexpr char kUnknown[] = "[UNK]";

[[noreturn]] void bad_option(const std::string& name, const std::string& expected, int64_t found) {
  throw InputError("tokenizer option " + name + ": expected " + expected + ", found " +
                   std::to_string(found));
}

void check_special_tokens(const std::vector<std::string>& tokens) {
  std::set<std::string> seen;
  for (const std::string& token : tokens) {
    require_utf8(token, "special token");
    if (token.empty() || token == kUnknown || !seen.insert(token).second) {
      throw InputError("special token " + shown_token(token) +
                       ": expected names that are not empty, not [UNK] and not given twice");
    }
  }
}

// Special tokens follow the model's vocabulary, as the package numbers them.
void add_special_tokens(const std::vector<std::string>& tokens, TokenizerParts& parts) {
  for (const std::string& token : tokens) {
    const size_t id = parts.vocab.size() + parts.added.size();
    parts.added.push_back(special_token(token, static_cast<int32_t>(id)));
  }
}

json byte_level_step(bool use_regex) {
  return {{"type", "ByteLevel"},
          {"add_prefix_space", false},
          {"trim_offsets", false},
          {"use_regex", use_regex}};
}

TokenizerParts byte_level_parts(bool use_regex) {
  TokenizerParts parts;
  parts.pre_tokenizer = byte_level_step(use_regex);
  parts.decoder = byte_level_step(use_regex);
  parts.model = {{"type", "BPE"},
                 {"dropout", nullptr},
                 {"unk_token", nullptr},
                 {"continuing_subword_prefix", nullptr},
                 {"end_of_word_suffix", nullptr},
                 {"fuse_unk", false},
                 {"byte_fallback", false},
                 {"ignore_merges", false}};
  parts.merges = json::array();
  return parts;
}

// A stop word in the spellings that a text which is not lower-cased may have.
void add_spellings(const std::string& word, std::set<std::string>& spellings) {
  std::string lower, capital, upper;
  const char* end = word.data() + word.size();
  for (const char* p = word.data(); p < end;) {
    const Char c = decode_utf8(p, end);
    p += c.size;
    append_lower(lower, c.code);
    const auto code = static_cast<UChar32>(c.code);
    append_utf8(upper, static_cast<uint32_t>(u_toupper(code)));
    if (capital.empty()) {
      append_utf8(capital, static_cast<uint32_t>(u_totitle(code)));
    } else {
      append_lower(capital, c.code);
    }
  }
  spellings.insert({word, lower, capital, upper});
}

json split_step(const std::string& pattern, const char* behavior) {
  return {{"type", "Split"},
          {"pattern", {{"Regex", pattern}}},
          {"behavior", behavior},
          {"invert", false}};
}

PreTokenizer made_from(const json& config) {
  return PreTokenizer(JsonField(config, "pre_tokenizer"));
}

json word_steps(const WordOptions& options) {
  json steps = json::array();
  if (options.split_punctuation) {
    steps.push_back({{"type", "Whitespace"}});
    steps.push_back({{"type", "Punctuation"}, {"behavior", "Isolated"}});
    steps.push_back(split_step(kHanPattern, "Isolated"));
  } else {
    steps.push_back({{"type", "WhitespaceSplit"}});
  }
  const json config = {{"type", "Sequence"}, {"pretokenizers", steps}};
  if (options.stop_words.empty()) return config;

  const PreTokenizer split = made_from(config);
  std::set<std::string> spellings;
  for (const std::string& word : options.stop_words) {
    require_utf8(word, "stop word");
    const size_t pieces = split(word).pieces.size();
    if (pieces != 1 || split(word).pieces[0] != word) {
      throw InputError("stop word " + shown_token(word) + ": expected one word, found " +
                       std::to_string(pieces) +
                       " by this tokenizer's rules; give its parts as stop words of their own");
    }
    if (options.lowercase) {
      std::string lower;
      const char* end = word.data() + word.size();
      for (const char* p = word.data(); p < end;) {
        const Char c = decode_utf8(p, end);
        append_lower(lower, c.code);
        p += c.size;
      }
      spellings.insert(lower);
    } else {
      add_spellings(word, spellings);
    }
  }
  steps.push_back(split_step(whole_word_pattern({spellings.begin(), spellings.end()}), "Removed"));
  return {{"type", "Sequence"}, {"pretokenizers", steps}};
}

// Finds the special tokens of a corpus: the model never sees them, so it does not learn from them.
TokenFinder finder_of(const std::vector<std::string>& special_tokens) {
  std::vector<AddedToken> tokens;
  tokens.reserve(special_tokens.size());
  for (const std::string& token : special_tokens) tokens.push_back(special_token(token, 0));
  return TokenFinder(std::move(tokens));
}

// Words and their counts over the whole corpus.
struct WordCounts {
  StringTable words;
  std::vector<int64_t> counts;

  void add(std::string_view word) {
    const int32_t number = words.add(word);
    if (number == static_cast<int32_t>(counts.size())) counts.push_back(0);
    ++counts[number];
  }
};

}  // namespace

Tokenizer Tokenizer::byte_level(std::vector<std::string> special_tokens) {
  check_special_tokens(special_tokens);
  TokenizerParts parts = byte_level_parts(false);
  for (int b = 0; b < 256; ++b) {
    const char byte = static_cast<char>(b);
    parts.vocab.emplace_back(to_byte_alphabet({&byte, 1}), b);
  }
  add_special_tokens(special_tokens, parts);
  return from_json(write_tokenizer_json(parts), "byte-level tokenizer");
}

Tokenizer Tokenizer::train_words(const TextSource& corpus, const WordOptions& options) {
  check_special_tokens(options.special_tokens);
  if (options.min_count < 1) bad_option("min_count", "at least 1", options.min_count);
  const int64_t room = options.max_vocab - 1 - static_cast<int64_t>(options.special_tokens.size());
  if (room < 1 || options.max_vocab > INT32_MAX / 2) {
    bad_option("max_vocab", "room for [UNK], the special tokens and a word", options.max_vocab);
  }
  TokenizerParts parts;
  if (options.lowercase) parts.normalizer = {{"type", "Lowercase"}};
  parts.pre_tokenizer = word_steps(options);
  parts.model = {{"type", "WordLevel"}, {"unk_token", kUnknown}};

  const Normalizer normalize =
      options.lowercase ? Normalizer(JsonField(parts.normalizer, "normalizer")) : Normalizer();
  const PreTokenizer split = made_from(parts.pre_tokenizer);
  const TokenFinder finder = finder_of(options.special_tokens);
  WordCounts found;
  std::string text;
  for (int64_t number = 0; corpus(text); ++number) {
    require_utf8(text, "corpus, text " + std::to_string(number));
    finder.scan(
        text,
        [&](size_t begin, size_t end) {
          const std::string normal = normalize(std::string_view(text).substr(begin, end - begin));
          for (const std::string_view word : split(normal).pieces) found.add(word);
        },
        [](int32_t) {});
  }

  std::vector<int32_t> order;
  const std::set<std::string, std::less<>> special(options.special_tokens.begin(),
                                                   options.special_tokens.end());
  for (int32_t word = 0; word < found.words.size(); ++word) {
    if (found.counts[word] >= options.min_count && !special.contains(found.words[word])) {
      order.push_back(word);
    }
  }
  std::sort(order.begin(), order.end(), [&](int32_t a, int32_t b) {
    if (found.counts[a] != found.counts[b]) return found.counts[a] > found.counts[b];
    return found.words[a] < found.words[b];
  });
  if (static_cast<int64_t>(order.size()) > room) order.resize(static_cast<size_t>(room));
  parts.vocab.emplace_back(kUnknown, 0);
  for (const int32_t word : order) {
    parts.vocab.emplace_back(found.words[word], static_cast<int32_t>(parts.vocab.size()));
  }
  add_special_tokens(options.special_tokens, parts);
  return from_json(write_tokenizer_json(parts), "trained word tokenizer");
}

Tokenizer Tokenizer::train_bpe(const TextSource& corpus, const BpeOptions& options) {
  check_special_tokens(options.special_tokens);
  const int64_t size = options.vocab_size - static_cast<int64_t>(options.special_tokens.size());
  if (size < 256 || options.vocab_size > INT32_MAX / 2) {
    bad_option("vocab_size", "room for 256 bytes and the special tokens", options.vocab_size);
  }
  if (options.min_frequency < 1) bad_option("min_frequency", "at least 1", options.min_frequency);
  const TokenFinder finder = finder_of(options.special_tokens);
  WordCounts found;
  std::string text;
  std::vector<std::string_view> pieces;
  while (corpus(text)) {
    pieces.clear();
    finder.scan(
        text,
        [&](size_t begin, size_t end) {
          split_gpt2(std::string_view(text).substr(begin, end - begin), pieces);
        },
        [](int32_t) {});
    for (const std::string_view piece : pieces) found.add(piece);
  }
  const LearnedBpe learned = learn_bpe(found.words, found.counts, size, options.min_frequency);

  TokenizerParts parts = byte_level_parts(true);
  for (const std::string& token : learned.tokens) {
    parts.vocab.emplace_back(to_byte_alphabet(token), static_cast<int32_t>(parts.vocab.size()));
  }
  for (const auto& [left, right] : learned.merges) {
    parts.merges.push_back({parts.vocab[left].first, parts.vocab[right].first});
  }
  add_special_tokens(options.special_tokens, parts);
  return from_json(write_tokenizer_json(parts), "trained BPE tokenizer");
}

}  // namespace fovea
