#include "fovea/train/schedule.h"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <string>

#include "fovea/core/status.h"

namespace fovea::train {

Schedule parse_schedule(std::string_view name) {
  if (name == "linear") return Schedule::kLinear;
  if (name == "cosine") return Schedule::kCosine;
  if (name == "inverse_sqrt") return Schedule::kInverseSqrt;
  if (name == "constant") return Schedule::kConstant;
  throw InputError("schedule \"" + std::string(name) +
                   "\" is unknown; expected linear, cosine, inverse_sqrt or constant");
}

double schedule_factor(Schedule schedule, double position, double warmup, double total) {
  if (position < warmup) return std::min(1.0, (position + 1) / warmup);
  const double after = position - warmup;
  const double t = std::clamp(after / std::max(total - warmup, 1.0), 0.0, 1.0);
  switch (schedule) {
    case Schedule::kLinear:
      return 1 - t;
    case Schedule::kCosine:
      return 0.5 * (1 + std::cos(std::numbers::pi * t));
    case Schedule::kInverseSqrt: {
      const double w = std::max(warmup, 1.0);
      return std::sqrt(w / (w + after));
    }
    case Schedule::kConstant:
      return 1;
  }
  return 1;
}

}  // namespace fovea::train
