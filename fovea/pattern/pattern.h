#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace fovea {

/// How query rows line up with key rows when the lengths differ. Row i of q stands at key position
/// i + (kv_len - q_len) under kBottomRight (the default: queries are the newest tokens) and at i
/// under kTopLeft. Under `segments` the shift is taken inside each segment.
enum class Alignment : uint8_t { kBottomRight, kTopLeft };

/// Facts of a pattern that change from batch to batch and therefore are not part of its text. The
/// spans are borrowed and must outlive every use of the scope that points to them.
struct PatternInputs {
  std::span<const int32_t> cu_seqlens_q;   ///< `segments`: [N + 1], ascending, 0 … q_len
  std::span<const int32_t> cu_seqlens_k;   ///< `segments`: [N + 1], ascending, 0 … kv_len
  std::span<const int32_t> key_lengths;    ///< `key_lengths`: [B], valid keys of each batch element
  std::span<const int32_t> intervals;      ///< `intervals`: [Sq, 2], half-open key range of a query
  std::span<const int32_t> global_tokens;  ///< `global_tokens` without arguments: positions
  std::span<const uint8_t> block_mask;     ///< `block_mask(size)`: [rows, columns], non-zero allows
  int64_t block_mask_columns = 0;
};

/// Where a pattern is evaluated: one batch element and head of one attention problem.
struct PatternScope {
  int64_t q_len = 0;
  int64_t kv_len = 0;
  Alignment alignment = Alignment::kBottomRight;
  int64_t batch = 0;
  int64_t head = 0;
  const PatternInputs* inputs = nullptr;  ///< may be null when the pattern uses none
};

struct PatternNode;  // pattern_node.h
struct LayerRun;     // layer_attention.h

/// Who may attend to whom: an immutable expression, parsed once from the grammar that the command
/// line, configs, case ids and operators share (docs/patterns.md):
///
///     full  causal  window(left,right)  window(w)  dilated(left,right,step)  chunked(size)
///     block_neighbours(size[,before,after])  neighbourhood(size)  global(n)  global_tokens(i,…)
///     random_blocks(size,count,seed)  block_mask(size)  intervals  key_lengths  segments
///     a & b   a | b   (a)   per_head(p0, p1, …)
///
/// `&` binds before `|`. Windows are inclusive: window(l,r) lets position i see [i-l, i+r].
class Pattern {
 public:
  Pattern();  ///< full

  /// Parses `text`; throws InputError that quotes the text, marks the place and says what was
  /// expected (nearest name for an unknown one; negative or missing numbers named).
  static Pattern parse(std::string_view text);

  /// Canonical text: parse(to_string()) is the same pattern, equal patterns of equal structure
  /// have equal text, and no blanks differ.
  const std::string& to_string() const { return text_; }

  /// True when query row `q` may attend to key row `k` in `scope`; false for a segment's other
  /// documents. The definition that every plan, kernel and oracle is tested against.
  bool allows(const PatternScope& scope, int64_t q, int64_t k) const;

  /// Key row that query row `q` stands at, in the same segment where there are segments; may lie
  /// outside the keys. ALiBi's distance is |aligned_key(scope, q) - k|.
  int64_t aligned_key(const PatternScope& scope, int64_t q) const;

  /// Unmet conditions of `scope` (missing or malformed inputs, head count that does not divide,
  /// …), each as "expected …, got …"; empty when the pattern can be evaluated there. Under
  /// `segments`, key_lengths are [N], of the segments, and intervals and block_mask speak of
  /// positions inside a segment.
  std::vector<std::string> unmet(const PatternScope& scope, int64_t batch, int64_t heads) const;

  bool uses_segments() const;
  bool uses_key_lengths() const;  ///< the plan differs between batch elements
  bool per_head() const;          ///< the plan differs between heads
  bool uses_inputs() const;       ///< any of PatternInputs

  /// Heads h and h + head_period() have the same pattern; 1 without per_head.
  int64_t head_period() const;
  /// What `head` sees, without per_head.
  Pattern for_head(int64_t head) const;

  /// This pattern within packed documents: `(this) & segments`, or itself if it already has it.
  Pattern within_segments() const;

  const PatternNode& node() const { return *node_; }

  friend bool operator==(const Pattern& a, const Pattern& b) { return a.text_ == b.text_; }

 private:
  explicit Pattern(std::shared_ptr<const PatternNode> node);
  friend std::vector<LayerRun> parse_layer_period(std::string_view text);
  std::shared_ptr<const PatternNode> node_;
  std::string text_;
};

/// One line for each distinct name in the pattern, "window(128,128): a token sees …".
std::vector<std::string> explain(const Pattern& pattern);

}  // namespace fovea
