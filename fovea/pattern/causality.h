#pragma once

#include <cstdint>
#include <optional>

#include "fovea/pattern/pattern.h"

namespace fovea {

/// True when the pattern's structure shows that no token sees a later one, at any length: `causal`,
/// windows and dilated windows that reach 0 to the right, an intersection with one such part, a
/// union or per_head of such parts only. What is causal by its numbers alone, as chunked(1) is,
/// counts as not.
bool is_causal(const Pattern& pattern);

/// For a pattern that shows each token a run of keys that ends with itself: 0 for all before it
/// (`causal`), w + 1 for window(w,0); nothing for any other.
std::optional<int64_t> trailing_window(const Pattern& pattern);

/// True when what a token sees changes as later tokens are added, even where none of them is seen:
/// random_blocks draws among all blocks, neighbourhood shifts at the end.
bool depends_on_length(const Pattern& pattern);

/// Tokens that one token sees before and after itself.
struct WindowReach {
  int64_t left = 0, right = 0;
};

/// The reach of a pattern that is one window: `window`, or an intersection of windows and `causal`.
/// None for others, `causal` alone among them, which leaves out nothing that it could reach.
std::optional<WindowReach> window_reach(const PatternNode& node);

}  // namespace fovea
