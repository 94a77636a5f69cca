#pragma once

#include <string_view>

namespace fovea {

/// Severity of a message to the person who runs the program.
enum class LogLevel { kDebug, kInfo, kWarning, kError };

/// Drops messages below `level`; default kInfo.
void set_log_level(LogLevel level);
LogLevel log_level();

/// Writes one line to stderr (stdout carries results only): plain for kInfo, with a
/// "warning: "/"error: " prefix otherwise. Thread-safe: a line is one write.
void log(LogLevel level, std::string_view message);

inline void log_info(std::string_view message) { log(LogLevel::kInfo, message); }
inline void log_warning(std::string_view message) { log(LogLevel::kWarning, message); }

}  // namespace fovea
