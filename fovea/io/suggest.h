#pragma once

#include <span>
#include <string>
#include <string_view>

namespace fovea::io {

/// The candidate nearest to `word` (edit distance, a swap of neighbours counts one), or "" when
/// none is near enough to be a typing error: at most a third of the longer word's letters, at least
/// one.
std::string nearest(std::string_view word, std::span<const std::string> candidates);

/// `; did you mean "x"?` for nearest(), or "".
std::string suggestion(std::string_view word, std::span<const std::string> candidates);

}  // namespace fovea::io
