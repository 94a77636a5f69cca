// A recursive-descent parser of the pattern grammar; recursion is bounded by kMaxDepth.
#include <cstring>
#include <limits>

#include "fovea/core/status.h"
#include "fovea/pattern/pattern_node.h"

namespace fovea {
namespace {

using NodePtr = std::shared_ptr<const PatternNode>;

constexpr int kMaxDepth = 64;
constexpr int64_t kMaxNumber = std::numeric_limits<int32_t>::max();
constexpr size_t kMaxQuoted = 72;

struct Leaf {
  const char* name;
  PatternKind kind;
  const char* arguments;  // as shown in messages
  int min_numbers, max_numbers;
};
constexpr Leaf kLeaves[] = {
    {"full", PatternKind::kFull, "", 0, 0},
    {"causal", PatternKind::kCausal, "", 0, 0},
    {"window", PatternKind::kWindow, "left,right", 1, 2},
    {"dilated", PatternKind::kDilated, "left,right,step", 3, 3},
    {"chunked", PatternKind::kChunked, "size", 1, 1},
    {"block_neighbours", PatternKind::kBlockNeighbours, "size,before,after", 1, 3},
    {"neighbourhood", PatternKind::kNeighbourhood, "size", 1, 1},
    {"global", PatternKind::kGlobal, "n", 1, 1},
    {"global_tokens", PatternKind::kGlobalTokens, "i,…", 0, std::numeric_limits<int>::max()},
    {"random_blocks", PatternKind::kRandomBlocks, "size,count,seed", 3, 3},
    {"block_mask", PatternKind::kBlockMask, "size", 1, 1},
    {"intervals", PatternKind::kIntervals, "", 0, 0},
    {"key_lengths", PatternKind::kKeyLengths, "", 0, 0},
    {"segments", PatternKind::kSegments, "", 0, 0},
};

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
  for (const Leaf& leaf : kLeaves) consider(leaf.name);
  consider("per_head");
  return best;
}

bool is_mechanism(std::string_view name) {
  for (std::string_view m : {"linear", "hierarchical", "additive", "delta", "retention",
                             "performer", "linformer", "nystrom", "compressed", "moba", "nsa"}) {
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
      LayerEntry entry{union_expression(0), 1};
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
  NodePtr union_expression(int depth) {
    return flat(PatternKind::kUnion, '|', depth, &Parser::intersection);
  }
  NodePtr intersection(int depth) {
    return flat(PatternKind::kIntersection, '&', depth, &Parser::primary);
  }

  // operand (symbol operand)*, as one node with many children.
  NodePtr flat(PatternKind kind, char symbol, int depth, NodePtr (Parser::*operand)(int)) {
    PatternNode node{kind, {}, {}};
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
    for (const Leaf& leaf : kLeaves) {
      if (name == leaf.name) return leaf_node(leaf, at);
    }
    unknown(name, at);
  }

  [[noreturn]] void unknown(std::string_view name, size_t at) {
    const std::string got = "\"" + std::string(name.substr(0, 32)) + "\"";
    if (is_mechanism(name)) {
      fail(at, "expected a pattern, got the mechanism " + got +
                   "; mechanisms other than softmax over a pattern cannot be written here yet");
    }
    const std::string_view near = nearest_name(name);
    if (!near.empty()) {
      fail(at, "expected a pattern, got " + got + "; did you mean \"" + std::string(near) + "\"?");
    }
    std::string names;
    for (const Leaf& leaf : kLeaves) names += std::string(leaf.name) + ", ";
    fail(at, "expected one of " + names + "per_head, got " + got);
  }

  NodePtr per_head(size_t at, int depth) {
    skip_blanks();
    const size_t open = pos_;
    if (!accept('(')) fail(at, "expected per_head(pattern, pattern, …), got no parenthesis");
    PatternNode node{PatternKind::kPerHead, {}, {}};
    do {
      node.children.push_back(union_expression(depth + 1));
    } while (accept(','));
    close(open);
    return std::make_shared<const PatternNode>(std::move(node));
  }

  NodePtr leaf_node(const Leaf& leaf, size_t at) {
    PatternNode node{leaf.kind, {}, {}};
    skip_blanks();
    const size_t open = pos_;
    std::vector<size_t> places;
    if (accept('(')) {
      do {
        places.push_back(skip_blanks());
        const bool is_seed = leaf.kind == PatternKind::kRandomBlocks && node.numbers.size() == 2;
        node.numbers.push_back(number("a number in " + usage(leaf),
                                      is_seed ? std::numeric_limits<int64_t>::max() : kMaxNumber));
      } while (accept(','));
      close(open);
    }
    const int got = static_cast<int>(node.numbers.size());
    if (got < leaf.min_numbers || got > leaf.max_numbers) {
      fail(at, "expected " + usage(leaf) + ", got " + std::to_string(got) +
                   (got == 1 ? " argument" : " arguments"));
    }
    complete(leaf, node, places);
    return std::make_shared<const PatternNode>(std::move(node));
  }

  // Fills in defaults and checks what must be positive.
  void complete(const Leaf& leaf, PatternNode& node, const std::vector<size_t>& places) {
    std::vector<int64_t>& n = node.numbers;
    auto positive = [&](size_t i, const char* what) {
      if (n[i] < 1) fail(places[i], std::string("expected a ") + what + " of at least 1, got 0");
    };
    switch (leaf.kind) {
      case PatternKind::kWindow:
        if (n.size() == 1) n.push_back(n[0]);
        break;
      case PatternKind::kDilated:
        positive(2, "step");
        break;
      case PatternKind::kBlockNeighbours:
        positive(0, "block size");
        if (n.size() == 2) {
          fail(places[1],
               "expected block_neighbours(size) or block_neighbours(size,before,after), "
               "got 2 arguments");
        }
        if (n.size() == 1) n.insert(n.end(), {1, 1});
        break;
      case PatternKind::kChunked:
      case PatternKind::kNeighbourhood:
      case PatternKind::kRandomBlocks:
      case PatternKind::kBlockMask:
        positive(0, "size");
        break;
      case PatternKind::kGlobalTokens:
        std::sort(n.begin(), n.end());
        n.erase(std::unique(n.begin(), n.end()), n.end());
        break;
      default:
        break;
    }
  }

  static std::string usage(const Leaf& leaf) {
    if (leaf.kind == PatternKind::kWindow) return "window(left,right) or window(width)";
    if (!*leaf.arguments) return std::string(leaf.name) + " without arguments";
    return std::string(leaf.name) + "(" + leaf.arguments + ")";
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
           "expected \"|\" or \"&\" between patterns, got \"+\", which joins mechanisms and "
           "cannot be written here yet");
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
      if (c >= 0 && (c < 32 || c == 127)) c = '?';
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

std::string_view name_of(PatternKind kind) {
  for (const Leaf& leaf : kLeaves) {
    if (leaf.kind == kind) return leaf.name;
  }
  return kind == PatternKind::kPerHead ? "per_head" : "";
}

std::shared_ptr<const PatternNode> parse_pattern_text(std::string_view text) {
  return Parser(text).pattern();
}

std::vector<LayerEntry> parse_layer_text(std::string_view text) { return Parser(text).layers(); }

}  // namespace fovea
