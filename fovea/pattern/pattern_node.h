#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "fovea/pattern/layer_attention.h"
#include "fovea/pattern/pattern.h"

namespace fovea {

struct LeafPattern;  // leaf_patterns.h

struct PatternNode {
  enum class Kind : uint8_t { kLeaf, kUnion, kIntersection, kPerHead };
  Kind kind = Kind::kLeaf;
  const LeafPattern* leaf = nullptr;
  std::vector<int64_t> numbers;  // of a leaf
  std::vector<std::shared_ptr<const PatternNode>>
      children;  // head h takes child h mod their number
};

using NodePtr = std::shared_ptr<const PatternNode>;

// The part of a problem in which positions are counted from 0: one segment, or everything. Rows are
// query rows and columns are key rows, both local; row r stands at key position r + shift.
struct PatternDomain {
  int64_t q_begin = 0, k_begin = 0;  // of the segment in the packed tensors
  int64_t q_len = 0, k_len = 0;
  int64_t shift = 0;
  int64_t key_length = 0;  // for key_lengths
  int64_t head = 0;
  const PatternInputs* inputs = nullptr;
};

inline int64_t floor_div(int64_t a, int64_t b) { return a / b - (a % b < 0 ? 1 : 0); }

PatternDomain whole_domain(const PatternScope& scope);
PatternDomain segment_domain(const PatternScope& scope, int64_t s);

// Index of the segment that holds row `i`: the last one that begins at or before it.
inline int64_t segment_of(std::span<const int32_t> cu_seqlens, int64_t i) {
  return std::upper_bound(cu_seqlens.begin(), cu_seqlens.end(), i) - cu_seqlens.begin() - 1;
}

inline const PatternNode& child_of_head(const PatternNode& node, int64_t head) {
  return *node.children[head % std::ssize(node.children)];
}

std::string canonical_text(const PatternNode& node);

// Throws InputError with all conditions of Pattern::unmet, if any.
void throw_if_unmet(const Pattern& pattern, const std::vector<std::string>& unmet);

struct LayerEntry {
  Mechanism mechanism;
  NodePtr node;
  int64_t repeats;
  std::vector<int64_t> numbers = {};  // of the mechanism
  LayerMemory memory = {};
};
NodePtr parse_pattern_text(std::string_view text);
std::vector<LayerEntry> parse_layer_text(std::string_view text);

}  // namespace fovea
