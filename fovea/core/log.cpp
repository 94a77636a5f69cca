#include "fovea/core/log.h"

#include <atomic>
#include <cstdio>
#include <string>

namespace fovea {
namespace {
std::atomic<LogLevel> threshold{LogLevel::kInfo};
}

void set_log_level(LogLevel level) { threshold.store(level); }
LogLevel log_level() { return threshold.load(); }

void log(LogLevel level, std::string_view message) {
  if (level < threshold.load()) return;
  std::string line;
  if (level == LogLevel::kDebug) line = "debug: ";
  if (level == LogLevel::kWarning) line = "warning: ";
  if (level == LogLevel::kError) line = "error: ";
  line.append(message).push_back('\n');
  std::fwrite(line.data(), 1, line.size(), stderr);
}

}  // namespace fovea
