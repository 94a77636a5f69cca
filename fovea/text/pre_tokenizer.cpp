#include "fovea/text/pre_tokenizer.h"

#include <algorithm>
#include <functional>
#include <utility>

#include <nlohmann/json.hpp>

#include "fovea/text/regex.h"
#include "fovea/text/string_table.h"
#include "fovea/text/unicode.h"

namespace fovea {

const char kGpt2Pattern[] =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";
const char kHanPattern[] = "[\u3400-\u4DBF\u4E00-\u9FFF\uF900-\uFAFF\U00020000-\U000323AF]";

namespace {

using Pieces = std::vector<std::string_view>;

enum class Behavior { kRemoved, kIsolated, kMergedWithPrevious, kMergedWithNext, kContiguous };

Behavior behavior_of(const JsonField& field) {
  const std::string name = field.string();
  if (name == "Removed") return Behavior::kRemoved;
  if (name == "Isolated") return Behavior::kIsolated;
  if (name == "MergedWithPrevious") return Behavior::kMergedWithPrevious;
  if (name == "MergedWithNext") return Behavior::kMergedWithNext;
  if (name == "Contiguous") return Behavior::kContiguous;
  field.fail("Removed, Isolated, MergedWithPrevious, MergedWithNext or Contiguous");
}

// A part of a piece, either a match of the step's pattern or what lies between matches.
struct Part {
  std::string_view text;
  bool match;
};

// Turns the parts of a piece into pieces. Merging looks only at neighbours: a delimiter joins the
// part before (after) it unless that is a delimiter too.
void join_parts(std::vector<Part>& parts, Behavior behavior, Pieces& pieces) {
  if (behavior == Behavior::kMergedWithNext) std::reverse(parts.begin(), parts.end());
  const size_t first = pieces.size();
  bool previous_match = false;
  for (const Part& part : parts) {
    const bool joins = behavior == Behavior::kContiguous ? part.match == previous_match
                                                         : part.match && !previous_match;
    previous_match = part.match;
    if (behavior == Behavior::kRemoved && part.match) continue;
    if (behavior == Behavior::kRemoved || behavior == Behavior::kIsolated || !joins ||
        pieces.size() == first) {
      pieces.push_back(part.text);
      continue;
    }
    std::string_view& last = pieces.back();
    const char* begin = std::min(last.data(), part.text.data());
    last = std::string_view(begin, last.size() + part.text.size());
  }
  if (behavior == Behavior::kMergedWithNext) std::reverse(pieces.begin() + first, pieces.end());
  pieces.erase(std::remove(pieces.begin() + first, pieces.end(), std::string_view()), pieces.end());
}

// Splits around single characters.
class CharacterStep : public SplitStep {
 public:
  CharacterStep(bool (*matches)(uint32_t code, uint8_t classes), Behavior behavior)
      : matches_(matches), behavior_(behavior) {}

  void apply(SplitText& text) const override {
    Pieces pieces;
    pieces.reserve(text.pieces.size() * 2);
    std::vector<Part> parts;
    for (const std::string_view piece : text.pieces) {
      parts.clear();
      find_parts(piece, parts);
      join_parts(parts, behavior_, pieces);
    }
    text.pieces = std::move(pieces);
  }

 private:
  void find_parts(std::string_view piece, std::vector<Part>& parts) const {
    const CharTable& chars = CharTable::get();
    const char* end = piece.data() + piece.size();
    const char* between = piece.data();
    for (const char* p = piece.data(); p < end;) {
      const Char c = decode_utf8(p, end);
      if (matches_(c.code, chars.classes(c.code))) {
        if (between < p) parts.push_back({{between, static_cast<size_t>(p - between)}, false});
        parts.push_back({{p, c.size}, true});
        between = p + c.size;
      }
      p += c.size;
    }
    if (between < end) parts.push_back({{between, static_cast<size_t>(end - between)}, false});
  }

  bool (*matches_)(uint32_t, uint8_t);
  Behavior behavior_;
};

// Whitespace: runs of \w and runs of what is neither \w nor \s.
class WordStep : public SplitStep {
 public:
  void apply(SplitText& text) const override {
    Pieces pieces;
    for (const std::string_view piece : text.pieces) split(piece, pieces);
    text.pieces = std::move(pieces);
  }

 private:
  static void split(std::string_view piece, Pieces& pieces) {
    const CharTable& chars = CharTable::get();
    const char* end = piece.data() + piece.size();
    const char* run = piece.data();
    int run_kind = kSpace;
    const auto close = [&](const char* at) {
      if (run_kind != kSpace && run < at) pieces.emplace_back(run, static_cast<size_t>(at - run));
    };
    for (const char* p = piece.data(); p < end;) {
      const Char c = decode_utf8(p, end);
      const uint8_t classes = chars.classes(c.code);
      const int kind = (classes & kWord) != 0 ? kWord : classes & kSpace;
      if (kind != run_kind) {
        close(p);
        run = p;
        run_kind = kind;
      }
      p += c.size;
    }
    close(end);
  }
};

// Split by a regular expression or by a string.
class PatternStep : public SplitStep {
 public:
  PatternStep(std::function<void(std::string_view, std::vector<ByteRange>&)> find,
              Behavior behavior, bool invert)
      : find_(std::move(find)), behavior_(behavior), invert_(invert) {}

  void apply(SplitText& text) const override {
    Pieces pieces;
    std::vector<ByteRange> matches;
    std::vector<Part> parts;
    for (const std::string_view piece : text.pieces) {
      matches.clear();
      parts.clear();
      find_(piece, matches);
      size_t between = 0;
      for (const ByteRange& match : matches) {
        if (between != match.begin) {
          parts.push_back({piece.substr(between, match.begin - between), invert_});
        }
        parts.push_back({piece.substr(match.begin, match.end - match.begin), !invert_});
        between = match.end;
      }
      if (between != piece.size()) parts.push_back({piece.substr(between), invert_});
      join_parts(parts, behavior_, pieces);
    }
    text.pieces = std::move(pieces);
  }

 private:
  std::function<void(std::string_view, std::vector<ByteRange>&)> find_;
  Behavior behavior_;
  bool invert_;
};

// Drops the pieces that are one of a set of words.
class DropWordsStep : public SplitStep {
 public:
  explicit DropWordsStep(const std::vector<std::string>& words) {
    for (const std::string& word : words) words_.add(word);
  }

  void apply(SplitText& text) const override {
    std::erase_if(text.pieces, [this](std::string_view piece) { return words_.find(piece) >= 0; });
  }

 private:
  StringTable words_;
};

class Gpt2Step : public SplitStep {
 public:
  void apply(SplitText& text) const override {
    Pieces pieces;
    size_t bytes = 0;
    for (const std::string_view piece : text.pieces) bytes += piece.size();
    pieces.reserve(bytes / 4 + 1);
    for (const std::string_view piece : text.pieces) split_gpt2(piece, pieces);
    text.pieces = std::move(pieces);
  }
};

// ByteLevel's add_prefix_space: every piece begins with a space.
class PrefixSpaceStep : public SplitStep {
 public:
  void apply(SplitText& text) const override {
    size_t bytes = text.pieces.size();
    for (const std::string_view piece : text.pieces) bytes += piece.size();
    std::vector<char> joined;
    joined.reserve(bytes);  // so that the views below stay good
    for (std::string_view& piece : text.pieces) {
      const size_t begin = joined.size();
      if (!piece.starts_with(' ')) joined.push_back(' ');
      joined.insert(joined.end(), piece.begin(), piece.end());
      piece = std::string_view(joined.data() + begin, joined.size() - begin);
    }
    text.with_spaces = std::move(joined);
  }
};

bool is_space(uint32_t, uint8_t classes) { return (classes & kSpace) != 0; }
bool is_punctuation(uint32_t, uint8_t classes) { return (classes & kPunctuation) != 0; }
bool is_numeric(uint32_t, uint8_t classes) { return (classes & kNumeric) != 0; }
bool is_han(uint32_t code, uint8_t) {
  return (code >= 0x3400 && code <= 0x4DBF) || (code >= 0x4E00 && code <= 0x9FFF) ||
         (code >= 0xF900 && code <= 0xFAFF) || (code >= 0x20000 && code <= 0x323AF);
}

void find_string(std::string_view text, const std::string& pattern,
                 std::vector<ByteRange>& matches) {
  for (size_t at = text.find(pattern); at != std::string_view::npos;
       at = text.find(pattern, at + pattern.size())) {
    matches.push_back({at, at + pattern.size()});
  }
}

}  // namespace

void split_gpt2(std::string_view text, std::vector<std::string_view>& pieces) {
  const CharTable& chars = CharTable::get();
  const char* end = text.data() + text.size();
  constexpr uint8_t kAll = kLetter | kNumber | kSpace;
  const auto kind_at = [&](const char* p, uint32_t& size) -> uint8_t {
    const Char c = decode_utf8(p, end);
    size = c.size;
    return chars.classes(c.code) & kAll;
  };
  const auto contraction = [&](const char* p) -> size_t {
    const std::string_view rest(p + 1, std::min<size_t>(2, static_cast<size_t>(end - p - 1)));
    if (rest.empty()) return 0;
    if (std::string_view("stmd").find(rest[0]) != std::string_view::npos) return 2;
    return rest == "re" || rest == "ve" || rest == "ll" ? 3 : 0;
  };
  for (const char* p = text.data(); p < end;) {
    const char* begin = p;
    uint32_t size;
    uint8_t kind = kind_at(p, size);
    if (*p == '\'') {
      if (const size_t length = contraction(p)) {
        pieces.emplace_back(p, length);
        p += length;
        continue;
      }
    }
    if (*p == ' ' && p + 1 < end) {  // " ?" of the next three alternatives
      uint32_t next_size;
      const uint8_t next = kind_at(p + 1, next_size);
      if (next != kSpace) {
        ++p;
        kind = next;
        size = next_size;
      }
    }
    const char* last = p;  // begin of the last character of the run
    do {
      last = p;
      p += size;
    } while (p < end && kind_at(p, size) == kind);
    // \s+(?!\S): spaces before a visible character leave their last one to it.
    if (kind == kSpace && p < end && last > begin) p = last;
    pieces.emplace_back(begin, static_cast<size_t>(p - begin));
  }
}

std::string whole_word_pattern(const std::vector<std::string>& words) {
  std::string pattern = "\\A(?:";
  for (const std::string& word : words) {
    if (&word != &words.front()) pattern += '|';
    for (const char c : word) {
      if (std::string_view("\\.*?+^$|()[]{}-#&~").find(c) != std::string_view::npos)
        pattern += '\\';
      pattern += c;
    }
  }
  return pattern + ")\\z";
}

std::vector<std::string> words_of_pattern(std::string_view pattern) {
  constexpr std::string_view kHead = "\\A(?:", kTail = ")\\z";
  if (!pattern.starts_with(kHead) || !pattern.ends_with(kTail)) return {};
  pattern.remove_prefix(kHead.size());
  if (pattern.size() < kTail.size()) return {};
  pattern.remove_suffix(kTail.size());
  std::vector<std::string> words(1);
  for (size_t i = 0; i < pattern.size(); ++i) {
    char c = pattern[i];
    if (c == '|') {
      words.emplace_back();
      continue;
    }
    if (c == '\\') {
      if (++i == pattern.size()) return {};
      c = pattern[i];
      if (std::string_view("\\.*?+^$|()[]{}-#&~").find(c) == std::string_view::npos) return {};
    } else if (std::string_view(".*?+^$()[]{}").find(c) != std::string_view::npos) {
      return {};
    }
    words.back().push_back(c);
  }
  return words;
}

PreTokenizer::PreTokenizer(const JsonField& config) { add(config); }

void PreTokenizer::add(const JsonField& config) {
  const std::string type = config.at("type").string();
  if (type == "Sequence") {
    for (const JsonField& part : config.at("pretokenizers").elements()) add(part);
    return;
  }
  if (byte_level_) {
    config.fail(
        "no step behind ByteLevel, which must be the last (another order is not supported)");
  }
  ++step_count_;
  const auto characters = [this](bool (*matches)(uint32_t, uint8_t), Behavior behavior) {
    steps_.push_back(std::make_shared<CharacterStep>(matches, behavior));
  };
  if (type == "ByteLevel") {
    add_byte_level(config);
  } else if (type == "Whitespace") {
    steps_.push_back(std::make_shared<WordStep>());
  } else if (type == "WhitespaceSplit") {
    characters(is_space, Behavior::kRemoved);
  } else if (type == "Punctuation") {
    const auto behavior = config.find("behavior");
    characters(is_punctuation, behavior ? behavior_of(*behavior) : Behavior::kIsolated);
  } else if (type == "Digits") {
    const bool single = config.boolean_or("individual_digits", false);
    characters(is_numeric, single ? Behavior::kIsolated : Behavior::kContiguous);
  } else if (type == "Split") {
    add_split(config);
  } else {
    config.at("type").fail(
        "a pre-tokenizer that fovea supports (ByteLevel, Whitespace, WhitespaceSplit, Punctuation, "
        "Digits, Split, Sequence)");
  }
}

void PreTokenizer::add_byte_level(const JsonField& config) {
  byte_level_ = true;
  if (config.at("add_prefix_space").boolean()) {
    steps_.push_back(std::make_shared<PrefixSpaceStep>());
  }
  if (config.boolean_or("use_regex", true)) steps_.push_back(std::make_shared<Gpt2Step>());
}

void PreTokenizer::add_split(const JsonField& config) {
  const Behavior behavior = behavior_of(config.at("behavior"));
  const bool invert = config.at("invert").boolean();
  const JsonField pattern = config.at("pattern");
  if (const auto text = pattern.find("String")) {
    const std::string string = text->string();
    if (string.empty()) text->fail("a string that is not empty");
    const auto find = [string](std::string_view piece, std::vector<ByteRange>& matches) {
      find_string(piece, string, matches);
    };
    steps_.push_back(std::make_shared<PatternStep>(find, behavior, invert));
    return;
  }
  const std::string expression = pattern.at("Regex").string();
  const std::vector<std::string> words = words_of_pattern(expression);
  if (expression == kHanPattern && !invert) {
    steps_.push_back(std::make_shared<CharacterStep>(is_han, behavior));
  } else if (expression == kGpt2Pattern &&
             (behavior == Behavior::kIsolated || (behavior == Behavior::kRemoved && invert))) {
    steps_.push_back(std::make_shared<Gpt2Step>());  // the pattern matches all of a text
  } else if (!words.empty() && behavior == Behavior::kRemoved && !invert) {
    steps_.push_back(std::make_shared<DropWordsStep>(words));
  } else {
    const Regex regex(expression, pattern.where());
    const auto find = [regex](std::string_view piece, std::vector<ByteRange>& matches) {
      regex.find_all(piece, matches);
    };
    steps_.push_back(std::make_shared<PatternStep>(find, behavior, invert));
  }
}

SplitText PreTokenizer::operator()(std::string_view text) const {
  SplitText result;
  if (!text.empty()) result.pieces.push_back(text);
  for (const auto& step : steps_) step->apply(result);
  return result;
}

}  // namespace fovea
