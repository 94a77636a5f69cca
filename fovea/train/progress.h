#pragma once

#include <chrono>
#include <cstdint>
#include <string>

namespace fovea::train {

/// Tells on stderr how far a long piece of work is: one line that is redrawn, with a bar, on a
/// terminal; a plain line now and then otherwise.
class Progress {
 public:
  /// `what` is a short name; `total` <= 0 = unknown. Shows nothing when log level hides kInfo.
  Progress(std::string what, double total);
  ~Progress();

  /// Work done so far, and a note such as "loss 0.31". Draws at most ten times a second (terminal)
  /// or every ten seconds (otherwise).
  void update(double done, const std::string& note);

  /// Removes the bar, so that other lines can be printed; the next update draws it again.
  void clear();

 private:
  std::string line(double done, const std::string& note) const;

  std::string what_;
  double total_;
  double first_done_ = -1;
  bool terminal_;
  bool drawn_ = false;
  std::chrono::steady_clock::time_point start_, last_;
};

/// "4 s", "3 min 20 s", "2 h 5 min".
std::string format_duration(double seconds);

/// "812", "12.3k", "4.56M".
std::string format_count(double count);

}  // namespace fovea::train
