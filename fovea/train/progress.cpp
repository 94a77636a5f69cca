#include "fovea/train/progress.h"

#include <algorithm>
#include <cmath>
#include <cstdio>

#include <sys/ioctl.h>
#include <unistd.h>

#include "fovea/core/log.h"

namespace fovea::train {
namespace {

// On its own line of the screen, without the newline that log() adds.
void draw(const std::string& text) {
  if (log_level() > LogLevel::kInfo) return;
  std::fwrite(text.data(), 1, text.size(), stderr);
}

size_t terminal_columns() {
  winsize size{};
  if (ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 20) return size.ws_col;
  return 80;
}

}  // namespace

std::string format_duration(double seconds) {
  char text[64];
  const long s = std::lround(std::max(seconds, 0.0));
  if (s < 60) {
    std::snprintf(text, sizeof text, "%ld s", s);
  } else if (s < 3600) {
    std::snprintf(text, sizeof text, "%ld min %ld s", s / 60, s % 60);
  } else {
    std::snprintf(text, sizeof text, "%ld h %ld min", s / 3600, s % 3600 / 60);
  }
  return text;
}

std::string format_count(double count) {
  char text[64];
  if (count < 1e4) {
    std::snprintf(text, sizeof text, "%.0f", count);
  } else if (count < 1e6) {
    std::snprintf(text, sizeof text, "%.1fk", count / 1e3);
  } else {
    std::snprintf(text, sizeof text, "%.2fM", count / 1e6);
  }
  return text;
}

Progress::Progress(std::string what, double total)
    : what_(std::move(what)),
      total_(total),
      terminal_(isatty(STDERR_FILENO) != 0),
      start_(std::chrono::steady_clock::now()),
      last_(start_) {}

Progress::~Progress() { clear(); }

void Progress::clear() {
  if (drawn_) draw("\r\033[K");
  drawn_ = false;
}

std::string Progress::line(double done, const std::string& note) const {
  const double seconds =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
  std::string text = what_;
  if (total_ > 0) {
    const double share = std::clamp(done / total_, 0.0, 1.0);
    char percent[16];
    std::snprintf(percent, sizeof percent, " %3.0f%%", 100 * share);
    text += percent;
    if (terminal_) {
      const int filled = static_cast<int>(share * 20);
      text += " [" + std::string(filled, '=') + std::string(20 - filled, ' ') + "]";
    }
  }
  if (!note.empty()) text += "  " + note;
  // The rate of this process: a resumed run did not do the first part.
  const double here = done - first_done_;
  if (total_ > done && here > 0 && seconds > 1) {
    text += "  ETA " + format_duration(seconds / here * (total_ - done));
  }
  return text;
}

void Progress::update(double done, const std::string& note) {
  if (first_done_ < 0) first_done_ = done;
  const auto now = std::chrono::steady_clock::now();
  const auto pause = std::chrono::milliseconds(terminal_ ? 100 : 10'000);
  if (now - last_ < pause && !(terminal_ && !drawn_)) return;
  last_ = now;
  if (terminal_) {
    draw("\r\033[K" + line(done, note).substr(0, terminal_columns() - 1));
    drawn_ = true;
  } else {
    log_info(line(done, note));
  }
}

}  // namespace fovea::train
