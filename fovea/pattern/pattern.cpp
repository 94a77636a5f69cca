#include "fovea/pattern/pattern.h"

#include <limits>
#include <numeric>

#include "fovea/core/status.h"
#include "fovea/pattern/leaf_patterns.h"

namespace fovea {
namespace {

using Kind = PatternNode::Kind;

template <typename Predicate>
bool any_node(const PatternNode& node, const Predicate& predicate) {
  if (predicate(node)) return true;
  return std::any_of(node.children.begin(), node.children.end(),
                     [&](const NodePtr& child) { return any_node(*child, predicate); });
}

bool uses(const PatternNode& node, PatternTensor tensor) {
  return any_node(
      node, [&](const PatternNode& n) { return n.kind == Kind::kLeaf && tensor_of(n) == tensor; });
}

bool node_allows(const PatternNode& node, const PatternDomain& d, int64_t r, int64_t j) {
  const auto allows = [&](const NodePtr& child) { return node_allows(*child, d, r, j); };
  switch (node.kind) {
    case Kind::kLeaf:
      return node.leaf->allows(node.numbers, d, r, j);
    case Kind::kUnion:
      return std::any_of(node.children.begin(), node.children.end(), allows);
    case Kind::kIntersection:
      return std::all_of(node.children.begin(), node.children.end(), allows);
    case Kind::kPerHead:
      return node_allows(child_of_head(node, d.head), d, r, j);
  }
  return false;
}

// Heads must be a multiple of every per_head's number of patterns.
void unmet_heads(const PatternNode& node, int64_t heads, std::vector<std::string>& out) {
  const int64_t count = std::ssize(node.children);
  if (node.kind == Kind::kPerHead && heads % count != 0) {
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
  if (node.kind == Kind::kLeaf && tensor_of(node) == PatternTensor::kBlockMask) {
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

NodePtr leaf_node(std::string_view name) {
  return std::make_shared<const PatternNode>(PatternNode{Kind::kLeaf, find_leaf(name), {}, {}});
}

// Number of heads after which a per_head repeats.
int64_t period_of(const PatternNode& node) {
  int64_t period = node.kind == Kind::kPerHead ? std::ssize(node.children) : 1;
  for (const NodePtr& child : node.children) period = std::lcm(period, period_of(*child));
  return period;
}

NodePtr node_of_head(const NodePtr& node, int64_t head) {
  if (node->kind == Kind::kPerHead) {
    return node_of_head(node->children[head % std::ssize(node->children)], head);
  }
  if (node->children.empty()) return node;
  PatternNode copy{node->kind, nullptr, {}, {}};
  for (const NodePtr& child : node->children) copy.children.push_back(node_of_head(child, head));
  return std::make_shared<const PatternNode>(std::move(copy));
}

}  // namespace

PatternDomain whole_domain(const PatternScope& scope) {
  const bool has_length = scope.inputs && scope.batch < std::ssize(scope.inputs->key_lengths);
  return {.q_len = scope.q_len,
          .k_len = scope.kv_len,
          .shift = scope.alignment == Alignment::kBottomRight ? scope.kv_len - scope.q_len : 0,
          .key_length = has_length ? scope.inputs->key_lengths[scope.batch] : scope.kv_len,
          .head = scope.head,
          .inputs = scope.inputs};
}

PatternDomain segment_domain(const PatternScope& scope, int64_t s) {
  const PatternInputs& in = *scope.inputs;
  PatternDomain d = whole_domain(scope);
  d.q_begin = in.cu_seqlens_q[s];
  d.k_begin = in.cu_seqlens_k[s];
  d.q_len = in.cu_seqlens_q[s + 1] - d.q_begin;
  d.k_len = in.cu_seqlens_k[s + 1] - d.k_begin;
  d.shift = scope.alignment == Alignment::kBottomRight ? d.k_len - d.q_len : 0;
  d.key_length = s < std::ssize(in.key_lengths) ? in.key_lengths[s] : d.k_len;
  return d;
}

std::string canonical_text(const PatternNode& node) {
  std::vector<std::string> parts;
  for (int64_t number : node.numbers) parts.push_back(std::to_string(number));
  for (const NodePtr& child : node.children) {
    parts.push_back(canonical_text(*child));
    if (node.kind == Kind::kIntersection && child->kind == Kind::kUnion) {
      parts.back().insert(0, 1, '(').append(1, ')');
    }
  }
  const bool is_operator = node.kind == Kind::kUnion || node.kind == Kind::kIntersection;
  const char separator = node.kind == Kind::kUnion ? '|' : is_operator ? '&' : ',';
  std::string joined;
  for (const std::string& part : parts) {
    if (!joined.empty()) joined += separator;
    joined += part;
  }
  if (is_operator) return joined;
  std::string text = node.kind == Kind::kLeaf ? node.leaf->name : "per_head";
  return parts.empty() ? text : text.append(1, '(').append(joined).append(1, ')');
}

void throw_if_unmet(const Pattern& pattern, const std::vector<std::string>& unmet) {
  if (unmet.empty()) return;
  std::string message = "attention pattern \"" + pattern.to_string() + "\": ";
  for (size_t i = 0; i < unmet.size(); ++i) message.append(i ? "; " : "").append(unmet[i]);
  throw InputError(message);
}

Pattern::Pattern() : Pattern(leaf_node("full")) {}

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
  if (uses(*node_, PatternTensor::kIntervals) && std::ssize(in.intervals) != 2 * scope.q_len) {
    out.push_back("expected intervals [" + std::to_string(scope.q_len) + ", 2], got " +
                  std::to_string(in.intervals.size()) + " numbers");
  }
  if (uses(*node_, PatternTensor::kGlobalTokens)) {
    if (!scope.inputs) out.push_back("expected global_tokens, got none");
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

bool Pattern::uses_segments() const { return uses(*node_, PatternTensor::kSegments); }
bool Pattern::uses_key_lengths() const { return uses(*node_, PatternTensor::kKeyLengths); }
bool Pattern::per_head() const {
  return any_node(*node_, [](const PatternNode& n) { return n.kind == Kind::kPerHead; });
}

bool Pattern::uses_inputs() const {
  return any_node(*node_, [](const PatternNode& n) {
    return n.kind == Kind::kLeaf && tensor_of(n) != PatternTensor::kNone;
  });
}

int64_t Pattern::head_period() const { return period_of(*node_); }

Pattern Pattern::for_head(int64_t head) const { return Pattern(node_of_head(node_, head)); }

Pattern Pattern::within_segments() const {
  if (uses_segments()) return *this;
  PatternNode node{Kind::kIntersection, nullptr, {}, {node_}};
  if (node_->kind == Kind::kIntersection) node.children = node_->children;
  node.children.push_back(leaf_node("segments"));
  return Pattern(std::make_shared<const PatternNode>(std::move(node)));
}

std::vector<std::string> explain(const Pattern& pattern) {
  std::vector<std::string> lines;
  any_node(pattern.node(), [&](const PatternNode& node) {
    if (node.kind != Kind::kLeaf) return false;
    std::string line = canonical_text(node) + ": " + node.leaf->meaning;
    if (std::find(lines.begin(), lines.end(), line) == lines.end()) lines.push_back(line);
    return false;
  });
  return lines;
}

}  // namespace fovea
