#pragma once

#include "fovea/pattern/pattern.h"

namespace fovea {

/// True when the pattern's structure shows that no token sees a later one, at any length: `causal`,
/// windows and dilated windows that reach 0 to the right, an intersection with one such part, a
/// union or per_head of such parts only. What is causal by its numbers alone, as chunked(1) is,
/// counts as not.
bool is_causal(const Pattern& pattern);

}  // namespace fovea
