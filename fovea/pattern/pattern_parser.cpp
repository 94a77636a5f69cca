// A recursive-descent parser of the pattern grammar; recursion is bounded by kMaxDepth.
#include <cstring>
#include <limits>

#include "fovea/core/status.h"
#include "fovea/pattern/causality.h"
#include "fovea/pattern/leaf_patterns.h"

namespace fovea {
namespace {

using Kind = PatternNode::Kind;

constexpr int kMaxDepth = 64;
constexpr int64_t kMaxNumber = std::numeric_limits<int32_t>::max();
constexpr int64_t kMaxSeed = std::numeric_limits<int64_t>::max();
constexpr size_t kMaxQuoted = 72;

size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<size_t> row(b.size() + 1);
  for (size_t j = 0; j <= b.size(); ++j) row[j] = j;
  for (size_t i = 1; i <= a.size(); ++i) {
    size_t diagonal = row[0];
    row[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      const size_t up = row[j];
      row[j] = std::min({up + 1, row[j - 1] + 1, diagonal + (a[i - 1] != b[j - 1])});
      diagonal = up;
    }
  }
  return row[b.size()];
}

// The name meant by an unknown one, or "" when none is near.
std::string_view nearest_name(std::string_view name) {
  std::string_view best;
  if (name.size() > 32) return best;
  size_t best_distance = std::max<size_t>(2, name.size() / 3) + 1;
  auto consider = [&](std::string_view candidate) {
    const size_t d = edit_distance(name, candidate);
    if (d < best_distance) best = candidate, best_distance = d;
  };
  for (const LeafPattern& leaf : leaf_patterns()) consider(leaf.name);
  consider("per_head");
  return best;
}

bool is_mechanism(std::string_view name) {
  for (std::string_view m :
       {"hierarchical", "additive", "delta", "retention", "linformer", "nystrom", "compressed"}) {
    if (name == m) return true;
  }
  return false;
}

class Parser {
 public:
  explicit Parser(std::string_view text) : text_(text) {}

  NodePtr pattern() {
    NodePtr node = union_expression(0);
    expect_end();
    return node;
  }

  std::vector<LayerEntry> layers() {
    std::vector<LayerEntry> entries;
    do {
      LayerEntry entry{Mechanism::kSoftmax, nullptr, 1};
      if (accept_mechanism(&entry.mechanism)) {
        entry.node = seen_by(entry.mechanism, &entry.numbers);
      } else if (accept_word("gate")) {
        gated(&entry);
      } else {
        entry.node = union_expression(0);
        if (next_is('+')) remember(&entry);
      }
      if (accept('*')) {
        const size_t at = skip_blanks();
        entry.repeats = number("a number of layers");
        if (entry.repeats == 0) fail(at, "expected at least 1 layer, got 0");
      }
      entries.push_back(std::move(entry));
    } while (accept(','));
    expect_end();
    return entries;
  }

 private:
  bool accept_mechanism(Mechanism* mechanism) {
    const size_t at = skip_blanks();
    if (find_mechanism(word(), mechanism)) return true;
    pos_ = at;
    return false;
  }

  bool accept_word(std::string_view wanted) {
    const size_t at = skip_blanks();
    if (word() == wanted) return true;
    pos_ = at;
    return false;
  }

  bool next_is(char c) {
    const size_t at = skip_blanks();
    return at < text_.size() && text_[at] == c;
  }

  // gate(window + mechanism)
  void gated(LayerEntry* entry) {
    const size_t open = skip_blanks();
    if (!accept('(')) {
      fail(open,
           "expected gate(window + mechanism), such as gate(window(128)+linear), got " + found());
    }
    entry->node = union_expression(0);
    if (!next_is('+')) {
      fail(pos_,
           "expected \"+\" and a mechanism for the gate to mix with the window, got " + found());
    }
    remember(entry);
    entry->memory.gated = true;
    close(open);
  }

  // window + mechanism: what the mechanism remembers of the tokens outside the window.
  void remember(LayerEntry* entry) {
    const size_t plus = skip_blanks();
    accept('+');
    const size_t at = skip_blanks();
    const std::string_view name = word();
    LayerMemory& memory = entry->memory;
    if (!find_mechanism(name, &memory.mechanism)) {
      fail(at,
           "expected linear, performer, based or hedgehog after \"+\" (patterns are joined with "
           "\"|\" and \"&\"), got " +
               (name.empty() ? found() : '"' + std::string(name) + '"'));
    }
    if (!weighs_features(memory.mechanism)) {
      fail(at,
           "expected linear, performer, based or hedgehog after \"+\", whose weights can share a "
           "denominator with a window's, got \"" +
               std::string(name) + '"');
    }
    if (!window_reach(*entry->node)) {
      fail(plus,
           "expected a window, such as window(128) or window(128,0), before \"+\": a memory "
           "holds the tokens outside of it, which have no bounds in \"" +
               canonical_text(*entry->node) + '"');
    }
    memory.causal = canonical_text(*seen_by(memory.mechanism, &entry->numbers)) == "causal";
    if (next_is('+')) fail(pos_, "expected one memory beside a window, got a second \"+\"");
  }

  // What follows a mechanism's name, in parentheses or nothing: its numbers, and causal, or full
  // where it reads both sides.
  NodePtr seen_by(Mechanism mechanism, std::vector<int64_t>* numbers) {
    const bool both = reads_both_sides(mechanism);
    std::string_view name = both ? "full" : "causal";
    const size_t open = skip_blanks();
    if (accept('(')) {
      bool more = true;
      for (; more && starts_number(); more = accept(',')) {
        if (numbers_of(mechanism).empty()) break;
        numbers->push_back(number("a number in " + usage_of(mechanism)));
      }
      if (more) name = seen_word(mechanism, both);
      close(open);
    }
    if (const std::string expected = complete_numbers(mechanism, numbers); !expected.empty()) {
      fail(open, "expected " + expected);
    }
    const size_t at = skip_blanks();
    if (at < text_.size() && (text_[at] == '|' || text_[at] == '&')) {
      fail(at, std::string("expected ") + name_of(mechanism) +
                   " to be the whole attention of a layer, got " + found() +
                   ": only patterns are joined");
    }
    return parse_pattern_text(name);
  }

  std::string_view seen_word(Mechanism mechanism, bool both) {
    const size_t at = skip_blanks();
    const std::string_view name = word();
    if (name == "causal" || (both && name == "full")) return name;
    const std::string usage = usage_of(mechanism), bare = name_of(mechanism);
    std::string begin = usage == bare ? bare + "(" : usage;
    if (usage != bare) begin.back() = ',';
    fail(at,
         "expected " + usage + (both ? ", " + begin + "full)" : "") + " or " + begin + "causal)");
  }

  bool starts_number() {
    const size_t at = skip_blanks();
    return at < text_.size() && (is_digit(text_[at]) || text_[at] == '-');
  }

  NodePtr union_expression(int depth) {
    return flat(Kind::kUnion, '|', depth, &Parser::intersection);
  }
  NodePtr intersection(int depth) {
    return flat(Kind::kIntersection, '&', depth, &Parser::primary);
  }

  // operand (symbol operand)*, as one node with many children.
  NodePtr flat(Kind kind, char symbol, int depth, NodePtr (Parser::*operand)(int)) {
    PatternNode node{kind, nullptr, {}, {}};
    do {
      NodePtr child = (this->*operand)(depth);
      if (child->kind == kind) {
        node.children.insert(node.children.end(), child->children.begin(), child->children.end());
      } else {
        node.children.push_back(std::move(child));
      }
    } while (accept(symbol));
    if (node.children.size() == 1) return node.children[0];
    return std::make_shared<const PatternNode>(std::move(node));
  }

  NodePtr primary(int depth) {
    const size_t at = skip_blanks();
    if (depth >= kMaxDepth) {
      fail(at, "expected at most " + std::to_string(kMaxDepth) + " nested parentheses, got more");
    }
    if (accept('(')) {
      NodePtr node = union_expression(depth + 1);
      close(at);
      return node;
    }
    const std::string_view name = word();
    if (name.empty()) {
      fail(at, "expected a pattern such as window(128,128), causal or full, got " + found());
    }
    if (name == "per_head") return per_head(at, depth);
    if (const LeafPattern* leaf = find_leaf(name)) return leaf_node(*leaf, at);
    unknown(name, at);
  }

  [[noreturn]] void unknown(std::string_view name, size_t at) {
    const std::string got = "\"" + std::string(name.substr(0, 32)) + "\"";
    Mechanism known;
    if (find_mechanism(name, &known)) {
      fail(at, "expected a pattern, got the mechanism " + got +
                   ", which is the whole attention of a layer");
    }
    if (is_mechanism(name)) {
      fail(at, "expected a pattern, got the mechanism " + got +
                   "; mechanisms other than softmax over a pattern and those that are the whole "
                   "attention of a layer cannot be written here yet");
    }
    const std::string_view near = nearest_name(name);
    if (!near.empty()) {
      fail(at, "expected a pattern, got " + got + "; did you mean \"" + std::string(near) + "\"?");
    }
    std::string names;
    for (const LeafPattern& leaf : leaf_patterns()) names += std::string(leaf.name) + ", ";
    fail(at, "expected one of " + names + "per_head, got " + got);
  }

  NodePtr per_head(size_t at, int depth) {
    skip_blanks();
    const size_t open = pos_;
    if (!accept('(')) fail(at, "expected per_head(pattern, pattern, …), got no parenthesis");
    PatternNode node{Kind::kPerHead, nullptr, {}, {}};
    do {
      node.children.push_back(union_expression(depth + 1));
    } while (accept(','));
    close(open);
    return std::make_shared<const PatternNode>(std::move(node));
  }

  NodePtr leaf_node(const LeafPattern& leaf, size_t at) {
    PatternNode node{Kind::kLeaf, &leaf, {}, {}};
    skip_blanks();
    const size_t open = pos_;
    const std::string usage = leaf.usage;
    if (accept('(')) {
      if (leaf.max_numbers == 0) fail(at, "expected " + usage + " without arguments");
      do {
        // A seed, the one third number that is not a size, may be any.
        const bool wide = node.numbers.size() == 2 && usage.find("seed") != usage.npos;
        node.numbers.push_back(number("a number in " + usage, wide ? kMaxSeed : kMaxNumber));
      } while (accept(','));
      close(open);
    }
    const int got = static_cast<int>(node.numbers.size());
    if (got < leaf.min_numbers || got > leaf.max_numbers) {
      fail(at, "expected " + usage + ", got " + std::to_string(got) +
                   (got == 1 ? " argument" : " arguments"));
    }
    if (const char* expected = leaf.complete(node.numbers)) {
      fail(at, std::string("expected ") + expected);
    }
    return std::make_shared<const PatternNode>(std::move(node));
  }

  int64_t number(const std::string& what, int64_t max = kMaxNumber) {
    const size_t at = skip_blanks();
    if (pos_ < text_.size() && text_[pos_] == '-') {
      fail(at, "expected " + what + ", not negative, got " + found());
    }
    if (pos_ >= text_.size() || !is_digit(text_[pos_])) {
      fail(at, "expected " + what + ", got " + found());
    }
    int64_t value = 0;
    for (; pos_ < text_.size() && is_digit(text_[pos_]); ++pos_) {
      const int digit = text_[pos_] - '0';
      if (value > (max - digit) / 10) {
        fail(at, "expected a number up to " + std::to_string(max) + ", got a larger one");
      }
      value = value * 10 + digit;
    }
    return value;
  }

  std::string_view word() {
    const size_t begin = pos_;
    while (pos_ < text_.size() && (is_letter(text_[pos_]) || is_digit(text_[pos_]))) ++pos_;
    return text_.substr(begin, pos_ - begin);
  }

  void close(size_t open) {
    if (!accept(')')) {
      refuse_join();
      fail(pos_, "expected \")\" for the \"(\" of column " + std::to_string(open + 1) + ", got " +
                     found());
    }
  }

  void expect_end() {
    skip_blanks();
    refuse_join();
    if (pos_ < text_.size()) fail(pos_, "expected \"|\", \"&\" or the end, got " + found());
  }

  void refuse_join() {
    if (pos_ < text_.size() && text_[pos_] == '+') {
      fail(pos_,
           "expected \"|\" or \"&\" between patterns, got \"+\", which joins mechanisms: a window "
           "and linear, performer, based or hedgehog, as the whole attention of a layer");
    }
  }

  bool accept(char c) {
    skip_blanks();
    if (pos_ >= text_.size() || text_[pos_] != c) return false;
    ++pos_;
    return true;
  }

  size_t skip_blanks() {
    while (pos_ < text_.size() && (text_[pos_] == ' ' || text_[pos_] == '\t')) ++pos_;
    return pos_;
  }

  std::string found() const {
    if (pos_ >= text_.size()) return "the end";
    size_t end = pos_ + 1;
    while (end < text_.size() && end < pos_ + 16 && !std::strchr(" \t(),|&*+", text_[end])) ++end;
    return std::string(1, '"').append(printable(text_.substr(pos_, end - pos_))).append(1, '"');
  }

  static std::string printable(std::string_view s) {
    std::string out(s);
    for (char& c : out) {
      if (static_cast<unsigned char>(c) < 32 || c == 127) c = '?';
    }
    return out;
  }

  static bool is_digit(char c) { return c >= '0' && c <= '9'; }
  static bool is_letter(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
  }

  // Quotes the part of the text around the place, with a caret below it.
  [[noreturn]] void fail(size_t at, const std::string& message) const {
    const size_t begin = at > kMaxQuoted / 2 ? at - kMaxQuoted / 2 : 0;
    const std::string quoted = printable(text_.substr(begin, kMaxQuoted));
    const std::string lead = begin > 0 ? "..." : "";
    const std::string trail = begin + kMaxQuoted < text_.size() ? "..." : "";
    throw InputError("attention pattern, column " + std::to_string(at + 1) + ": " + message +
                     "\n  " + lead + quoted + trail + "\n  " +
                     std::string(lead.size() + at - begin, ' ') + "^");
  }

  std::string_view text_;
  size_t pos_ = 0;
};

}  // namespace

NodePtr parse_pattern_text(std::string_view text) { return Parser(text).pattern(); }

std::vector<LayerEntry> parse_layer_text(std::string_view text) { return Parser(text).layers(); }

}  // namespace fovea
