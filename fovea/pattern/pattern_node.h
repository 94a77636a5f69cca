#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "fovea/core/philox.h"
#include "fovea/pattern/pattern.h"

namespace fovea {

enum class PatternKind : uint8_t {
  kFull,
  kCausal,
  kWindow,           // left, right
  kDilated,          // left, right, step
  kChunked,          // size
  kBlockNeighbours,  // size, before, after
  kNeighbourhood,    // size
  kGlobal,           // n
  kGlobalTokens,     // sorted positions; none: PatternInputs::global_tokens
  kRandomBlocks,     // size, count, seed
  kBlockMask,        // size
  kIntervals,
  kKeyLengths,
  kSegments,
  kUnion,         // children
  kIntersection,  // children
  kPerHead,       // children; head h takes child h mod their number
};

struct PatternNode {
  PatternKind kind = PatternKind::kFull;
  std::vector<int64_t> numbers;
  std::vector<std::shared_ptr<const PatternNode>> children;
};

// The part of a problem in which positions are counted from 0: one segment, or everything. Rows are
// query rows and columns are key rows, both local; row r stands at key position r + shift.
struct PatternDomain {
  int64_t q_begin = 0, k_begin = 0;  // of the segment in the packed tensors
  int64_t q_len = 0, k_len = 0;
  int64_t shift = 0;
  int64_t key_length = 0;  // for kKeyLengths
  int64_t head = 0;
  const PatternInputs* inputs = nullptr;
};

inline int64_t floor_div(int64_t a, int64_t b) { return a / b - (a % b < 0 ? 1 : 0); }

// Domain of segment `s`, or of the whole problem when `segment_count` is 0.
inline int64_t segment_count(const Pattern& pattern, const PatternScope& scope) {
  return pattern.uses_segments() ? static_cast<int64_t>(scope.inputs->cu_seqlens_q.size()) - 1 : 0;
}
inline PatternDomain whole_domain(const PatternScope& scope) {
  const bool lengths = scope.inputs && scope.batch < std::ssize(scope.inputs->key_lengths);
  return {.q_len = scope.q_len,
          .k_len = scope.kv_len,
          .shift = scope.alignment == Alignment::kBottomRight ? scope.kv_len - scope.q_len : 0,
          .key_length = lengths ? scope.inputs->key_lengths[scope.batch] : scope.kv_len,
          .head = scope.head,
          .inputs = scope.inputs};
}
inline PatternDomain segment_domain(const PatternScope& scope, int64_t s) {
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

// Index of the segment that holds row `i`: the last one that begins at or before it.
inline int64_t segment_of(std::span<const int32_t> cu_seqlens, int64_t i) {
  return std::upper_bound(cu_seqlens.begin(), cu_seqlens.end(), i) - cu_seqlens.begin() - 1;
}

// Sorted key blocks of block row `row`: `count` distinct ones of `blocks`, uniformly, by Floyd's
// algorithm (Bentley, "Programming Pearls", CACM 30(9), 1987) over Philox words.
std::vector<int64_t> random_key_blocks(int64_t row, int64_t blocks, int64_t count, int64_t seed);

// Canonical text of a node.
std::string canonical_text(const PatternNode& node);

// The node with every per_head replaced by the child of `head`; `node` itself if there is none.
std::shared_ptr<const PatternNode> node_of_head(const std::shared_ptr<const PatternNode>& node,
                                                int64_t head);

// Throws InputError with all conditions of Pattern::unmet, if any.
void throw_if_unmet(const Pattern& pattern, const std::vector<std::string>& unmet);

// Name in the grammar; "" for operators.
std::string_view name_of(PatternKind kind);

// Parses one pattern, or a comma-separated list of (pattern, repeats) when `layers` is not null.
struct LayerEntry {
  std::shared_ptr<const PatternNode> node;
  int64_t repeats;
};
std::shared_ptr<const PatternNode> parse_pattern_text(std::string_view text);
std::vector<LayerEntry> parse_layer_text(std::string_view text);

}  // namespace fovea
