#pragma once

#include <string>
#include <string_view>

namespace fovea::data {

/// Language of a source file by its name (`.py`, `CMakeLists.txt`, a manual page's `.3`), or ""
/// when the name does not tell. `.h` gives "header": C or C++, to be settled by its package.
std::string language_of_name(std::string_view path);

/// Language by a `#!` line or an Emacs mode line (`-*- C++ -*-`) at the start of the content, or
/// "".
std::string language_of_content(std::string_view content);

}  // namespace fovea::data
