#include "fovea/pattern/causality.h"

#include <algorithm>

#include "fovea/pattern/leaf_patterns.h"
#include "fovea/pattern/pattern_node.h"

namespace fovea {
namespace {

bool node_is_causal(const PatternNode& node) {
  const auto causal = [](const NodePtr& child) { return node_is_causal(*child); };
  switch (node.kind) {
    case PatternNode::Kind::kLeaf: {
      const std::string_view name = node.leaf->name;
      return name == "causal" || ((name == "window" || name == "dilated") && node.numbers[1] <= 0);
    }
    case PatternNode::Kind::kIntersection:
      return std::any_of(node.children.begin(), node.children.end(), causal);
    case PatternNode::Kind::kUnion:
    case PatternNode::Kind::kPerHead:
      return std::all_of(node.children.begin(), node.children.end(), causal);
  }
  return false;
}

bool node_depends_on_length(const PatternNode& node) {
  if (node.kind != PatternNode::Kind::kLeaf) {
    return std::any_of(node.children.begin(), node.children.end(),
                       [](const NodePtr& child) { return node_depends_on_length(*child); });
  }
  const std::string_view name = node.leaf->name;
  return name == "random_blocks" || name == "neighbourhood";
}

}  // namespace

std::optional<WindowReach> window_reach(const PatternNode& node) {
  if (node.kind == PatternNode::Kind::kLeaf) {
    if (std::string_view(node.leaf->name) != "window") return std::nullopt;
    return WindowReach{node.numbers[0], node.numbers[1]};
  }
  if (node.kind != PatternNode::Kind::kIntersection) return std::nullopt;
  std::optional<WindowReach> reach;
  bool causal = false;
  for (const NodePtr& child : node.children) {
    if (child->kind == PatternNode::Kind::kLeaf &&
        std::string_view(child->leaf->name) == "causal") {
      causal = true;
      continue;
    }
    const std::optional<WindowReach> part = window_reach(*child);
    if (!part) return std::nullopt;
    reach =
        reach ? WindowReach{std::min(reach->left, part->left), std::min(reach->right, part->right)}
              : *part;
  }
  if (reach && causal) reach->right = 0;
  return reach;
}

bool is_causal(const Pattern& pattern) { return node_is_causal(pattern.node()); }

std::optional<int64_t> trailing_window(const Pattern& pattern) {
  const PatternNode& node = pattern.node();
  if (node.kind != PatternNode::Kind::kLeaf) return std::nullopt;
  const std::string_view name = node.leaf->name;
  if (name == "causal") return 0;
  if (name == "window" && node.numbers[1] == 0) return node.numbers[0] + 1;
  return std::nullopt;
}

bool depends_on_length(const Pattern& pattern) { return node_depends_on_length(pattern.node()); }

}  // namespace fovea
