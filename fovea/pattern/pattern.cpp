#include "fovea/pattern/pattern.h"

#include <limits>
#include <numeric>

#include "fovea/core/status.h"
#include "fovea/pattern/pattern_node.h"

namespace fovea {
namespace {

using NodePtr = std::shared_ptr<const PatternNode>;

bool contains(const PatternNode& node, PatternKind kind) {
  if (node.kind == kind) return true;
  return std::any_of(node.children.begin(), node.children.end(),
                     [&](const NodePtr& child) { return contains(*child, kind); });
}

// The definition. `r` and `j` are rows of the domain, r's place among the keys is i = r + shift.
bool node_allows(const PatternNode& node, const PatternDomain& d, int64_t r, int64_t j) {
  const std::vector<int64_t>& n = node.numbers;
  const int64_t i = r + d.shift;
  switch (node.kind) {
    case PatternKind::kFull:
    case PatternKind::kSegments:  // other segments are outside the domain
      return true;
    case PatternKind::kCausal:
      return j <= i;
    case PatternKind::kWindow:
      return i - n[0] <= j && j <= i + n[1];
    case PatternKind::kDilated:
      return i - n[0] <= j && j <= i + n[1] && (i - j) % n[2] == 0;
    case PatternKind::kChunked:
      return floor_div(i, n[0]) == j / n[0];
    case PatternKind::kBlockNeighbours: {
      const int64_t distance = j / n[0] - floor_div(i, n[0]);
      return -n[1] <= distance && distance <= n[2];
    }
    case PatternKind::kNeighbourhood: {
      const int64_t begin = std::max<int64_t>(0, std::min(i - n[0] / 2, d.k_len - n[0]));
      return begin <= j && j < begin + n[0];
    }
    case PatternKind::kGlobal:
      return j < n[0] || (0 <= i && i < n[0]);
    case PatternKind::kGlobalTokens: {
      auto is_global = [&](int64_t position) {
        if (!n.empty()) return std::binary_search(n.begin(), n.end(), position);
        const auto& tokens = d.inputs->global_tokens;
        return std::find(tokens.begin(), tokens.end(), position) != tokens.end();
      };
      return is_global(j) || is_global(i);
    }
    case PatternKind::kRandomBlocks: {
      const int64_t blocks = (d.k_len + n[0] - 1) / n[0];
      const auto keys = random_key_blocks(floor_div(i, n[0]), blocks, n[1], n[2]);
      return std::binary_search(keys.begin(), keys.end(), j / n[0]);
    }
    case PatternKind::kBlockMask:
      return d.inputs->block_mask[r / n[0] * d.inputs->block_mask_columns + j / n[0]] != 0;
    case PatternKind::kIntervals: {
      const int32_t* range = d.inputs->intervals.data() + 2 * (d.q_begin + r);
      return range[0] <= j && j < range[1];
    }
    case PatternKind::kKeyLengths:
      return j < d.key_length;
    case PatternKind::kUnion:
      return std::any_of(node.children.begin(), node.children.end(),
                         [&](const NodePtr& child) { return node_allows(*child, d, r, j); });
    case PatternKind::kIntersection:
      return std::all_of(node.children.begin(), node.children.end(),
                         [&](const NodePtr& child) { return node_allows(*child, d, r, j); });
    case PatternKind::kPerHead:
      return node_allows(*node.children[d.head % std::ssize(node.children)], d, r, j);
  }
  return false;
}

// Heads must be a multiple of every per_head's number of patterns.
void unmet_heads(const PatternNode& node, int64_t heads, std::vector<std::string>& out) {
  const int64_t count = std::ssize(node.children);
  if (node.kind == PatternKind::kPerHead && heads % count != 0) {
    out.push_back("expected a number of heads that is a multiple of the " + std::to_string(count) +
                  " patterns of per_head, got " + std::to_string(heads) + " heads");
  }
  for (const NodePtr& child : node.children) unmet_heads(*child, heads, out);
}

bool unmet_cu_seqlens(std::span<const int32_t> cu, int64_t len, const std::string& name,
                      std::vector<std::string>& out) {
  if (cu.size() < 2) {
    out.push_back("expected " + name + " with at least 2 entries (0, …, " + std::to_string(len) +
                  ") for segments, got " + std::to_string(cu.size()));
    return true;
  }
  if (cu.front() != 0 || cu.back() != len) {
    out.push_back("expected " + name + " to run from 0 to " + std::to_string(len) + ", got " +
                  std::to_string(cu.front()) + " to " + std::to_string(cu.back()));
    return true;
  }
  for (size_t i = 1; i < cu.size(); ++i) {
    if (cu[i] < cu[i - 1]) {
      out.push_back("expected ascending " + name + ", got " + std::to_string(cu[i]) + " after " +
                    std::to_string(cu[i - 1]) + " at index " + std::to_string(i));
      return true;
    }
  }
  return false;
}

// Longest segment of the queries or keys; the whole length without segments.
int64_t longest(std::span<const int32_t> cu) {
  int64_t best = 0;
  for (size_t i = 1; i < cu.size(); ++i) best = std::max<int64_t>(best, cu[i] - cu[i - 1]);
  return best;
}

void unmet_block_masks(const PatternNode& node, const PatternInputs& in, int64_t q_len,
                       int64_t kv_len, std::vector<std::string>& out) {
  if (node.kind == PatternKind::kBlockMask) {
    const int64_t size = node.numbers[0];
    const int64_t rows = (q_len + size - 1) / size, columns = (kv_len + size - 1) / size;
    const int64_t got_columns = in.block_mask_columns;
    if (got_columns != columns || std::ssize(in.block_mask) != rows * columns) {
      out.push_back("expected block_mask [" + std::to_string(rows) + ", " +
                    std::to_string(columns) + "] for blocks of " + std::to_string(size) + ", got " +
                    std::to_string(in.block_mask.size()) + " entries in " +
                    std::to_string(got_columns) + " columns");
    }
  }
  for (const NodePtr& child : node.children) unmet_block_masks(*child, in, q_len, kv_len, out);
}

bool needs_global_tokens(const PatternNode& node) {
  if (node.kind == PatternKind::kGlobalTokens) return node.numbers.empty();
  return std::any_of(node.children.begin(), node.children.end(),
                     [](const NodePtr& child) { return needs_global_tokens(*child); });
}

}  // namespace

std::vector<int64_t> random_key_blocks(int64_t row, int64_t blocks, int64_t count, int64_t seed) {
  std::vector<int64_t> chosen;
  if (count >= blocks) {
    chosen.resize(std::max<int64_t>(blocks, 0));
    std::iota(chosen.begin(), chosen.end(), int64_t{0});
    return chosen;
  }
  chosen.reserve(count);
  const auto words64 = [](int64_t x) {
    return std::array<uint32_t, 2>{static_cast<uint32_t>(x), static_cast<uint32_t>(x >> 32)};
  };
  for (int64_t t = blocks - count; t < blocks; ++t) {
    const auto words =
        philox4x32({static_cast<uint32_t>(t), words64(row)[0], words64(row)[1], 0}, words64(seed));
    // blocks < 2^31, so the product of a word and t + 1 fits and the bias is below 2^-32 · blocks.
    const int64_t pick =
        static_cast<int64_t>(uint64_t{words[0]} * static_cast<uint64_t>(t + 1) >> 32);
    const auto at = std::lower_bound(chosen.begin(), chosen.end(), pick);
    if (at != chosen.end() && *at == pick) {
      chosen.push_back(t);  // larger than all before
    } else {
      chosen.insert(at, pick);
    }
  }
  return chosen;
}

std::string canonical_text(const PatternNode& node) {
  std::string text(name_of(node.kind));
  const bool is_operator =
      node.kind == PatternKind::kUnion || node.kind == PatternKind::kIntersection;
  if (!is_operator && node.numbers.empty() && node.children.empty()) return text;
  const char* separator = node.kind == PatternKind::kUnion          ? "|"
                          : node.kind == PatternKind::kIntersection ? "&"
                                                                    : ",";
  if (!is_operator) text += '(';
  bool first = true;
  auto add = [&](const std::string& part) {
    if (!first) text += separator;
    text += part;
    first = false;
  };
  for (int64_t number : node.numbers) add(std::to_string(number));
  for (const NodePtr& child : node.children) {
    const bool wrap = node.kind == PatternKind::kIntersection && child->kind == PatternKind::kUnion;
    add(wrap ? std::string(1, '(').append(canonical_text(*child)).append(1, ')')
             : canonical_text(*child));
  }
  if (!is_operator) text += ')';
  return text;
}

NodePtr node_of_head(const NodePtr& node, int64_t head) {
  if (!contains(*node, PatternKind::kPerHead)) return node;
  if (node->kind == PatternKind::kPerHead) {
    return node_of_head(node->children[head % std::ssize(node->children)], head);
  }
  PatternNode copy{node->kind, node->numbers, {}};
  for (const NodePtr& child : node->children) copy.children.push_back(node_of_head(child, head));
  return std::make_shared<const PatternNode>(std::move(copy));
}

void throw_if_unmet(const Pattern& pattern, const std::vector<std::string>& unmet) {
  if (unmet.empty()) return;
  std::string message = "attention pattern \"" + pattern.to_string() + "\": ";
  for (size_t i = 0; i < unmet.size(); ++i) message.append(i ? "; " : "").append(unmet[i]);
  throw InputError(message);
}

Pattern::Pattern() : Pattern(std::make_shared<const PatternNode>()) {}

Pattern::Pattern(std::shared_ptr<const PatternNode> node)
    : node_(std::move(node)), text_(canonical_text(*node_)) {}

Pattern Pattern::parse(std::string_view text) { return Pattern(parse_pattern_text(text)); }

bool Pattern::allows(const PatternScope& scope, int64_t q, int64_t k) const {
  if (!uses_segments()) return node_allows(*node_, whole_domain(scope), q, k);
  const int64_t s = segment_of(scope.inputs->cu_seqlens_q, q);
  if (s != segment_of(scope.inputs->cu_seqlens_k, k)) return false;
  const PatternDomain d = segment_domain(scope, s);
  return node_allows(*node_, d, q - d.q_begin, k - d.k_begin);
}

int64_t Pattern::aligned_key(const PatternScope& scope, int64_t q) const {
  const PatternDomain d = uses_segments()
                              ? segment_domain(scope, segment_of(scope.inputs->cu_seqlens_q, q))
                              : whole_domain(scope);
  return q - d.q_begin + d.shift + d.k_begin;
}

std::vector<std::string> Pattern::unmet(const PatternScope& scope, int64_t batch,
                                        int64_t heads) const {
  std::vector<std::string> out;
  constexpr int64_t kMaxLength = std::numeric_limits<int32_t>::max();
  if (scope.q_len < 0 || scope.q_len > kMaxLength || scope.kv_len < 0 ||
      scope.kv_len > kMaxLength) {
    out.push_back("expected lengths between 0 and " + std::to_string(kMaxLength) + ", got " +
                  std::to_string(scope.q_len) + " queries and " + std::to_string(scope.kv_len) +
                  " keys");
    return out;
  }
  unmet_heads(*node_, heads, out);
  if (!uses_inputs()) return out;
  const PatternInputs none;
  const PatternInputs& in = scope.inputs ? *scope.inputs : none;
  if (uses_segments()) {
    const bool bad_q = unmet_cu_seqlens(in.cu_seqlens_q, scope.q_len, "cu_seqlens_q", out);
    const bool bad_k = unmet_cu_seqlens(in.cu_seqlens_k, scope.kv_len, "cu_seqlens_k", out);
    if (!bad_q && !bad_k && in.cu_seqlens_q.size() != in.cu_seqlens_k.size()) {
      out.push_back("expected as many query segments as key segments, got " +
                    std::to_string(in.cu_seqlens_q.size() - 1) + " and " +
                    std::to_string(in.cu_seqlens_k.size() - 1));
    }
    if (!out.empty()) return out;
  }
  if (uses_key_lengths()) {
    const int64_t expected = uses_segments() ? std::ssize(in.cu_seqlens_k) - 1 : batch;
    if (std::ssize(in.key_lengths) != expected) {
      out.push_back("expected key_lengths [" + std::to_string(expected) + "], one for each " +
                    (uses_segments() ? "segment" : "batch element") + ", got " +
                    std::to_string(in.key_lengths.size()) + " entries");
    }
    for (size_t b = 0; b < in.key_lengths.size(); ++b) {
      if (in.key_lengths[b] < 0 || in.key_lengths[b] > scope.kv_len) {
        out.push_back("expected key_lengths between 0 and " + std::to_string(scope.kv_len) +
                      ", got " + std::to_string(in.key_lengths[b]) + " at index " +
                      std::to_string(b));
        break;
      }
    }
  }
  if (contains(*node_, PatternKind::kIntervals) && std::ssize(in.intervals) != 2 * scope.q_len) {
    out.push_back("expected intervals [" + std::to_string(scope.q_len) + ", 2], got " +
                  std::to_string(in.intervals.size()) + " numbers");
  }
  if (needs_global_tokens(*node_)) {
    for (int32_t token : in.global_tokens) {
      if (token >= 0) continue;
      out.push_back("expected global_tokens of at least 0, got " + std::to_string(token));
      break;
    }
  }
  const bool packed = uses_segments();
  unmet_block_masks(*node_, in, packed ? longest(in.cu_seqlens_q) : scope.q_len,
                    packed ? longest(in.cu_seqlens_k) : scope.kv_len, out);
  return out;
}

bool Pattern::uses_segments() const { return contains(*node_, PatternKind::kSegments); }
bool Pattern::uses_key_lengths() const { return contains(*node_, PatternKind::kKeyLengths); }
bool Pattern::per_head() const { return contains(*node_, PatternKind::kPerHead); }

bool Pattern::uses_inputs() const {
  return uses_segments() || uses_key_lengths() || contains(*node_, PatternKind::kIntervals) ||
         contains(*node_, PatternKind::kBlockMask) || needs_global_tokens(*node_);
}

Pattern Pattern::within_segments() const {
  if (uses_segments()) return *this;
  PatternNode node{PatternKind::kIntersection, {}, {}};
  if (node_->kind == PatternKind::kIntersection) {
    node.children = node_->children;
  } else {
    node.children.push_back(node_);
  }
  node.children.push_back(
      std::make_shared<const PatternNode>(PatternNode{PatternKind::kSegments, {}, {}}));
  return Pattern(std::make_shared<const PatternNode>(std::move(node)));
}

std::vector<Pattern> parse_layer_patterns(std::string_view text, int64_t layers) {
  const std::vector<LayerEntry> entries = parse_layer_text(text);
  std::vector<Pattern> period;
  if (layers < 0) throw InputError("expected at least 0 layers, got " + std::to_string(layers));
  for (const LayerEntry& entry : entries) {
    const Pattern pattern = Pattern::parse(canonical_text(*entry.node));
    for (int64_t i = 0; i < entry.repeats && std::ssize(period) < layers; ++i) {
      period.push_back(pattern);
    }
  }
  std::vector<Pattern> result;
  for (int64_t i = 0; i < layers; ++i) result.push_back(period[i % std::ssize(period)]);
  return result;
}

}  // namespace fovea
