#pragma once

#include <string_view>

namespace fovea::train {

enum class Schedule { kLinear, kCosine, kInverseSqrt, kConstant };

/// Parses linear, cosine, inverse_sqrt, constant; throws InputError that lists them.
Schedule parse_schedule(std::string_view name);

/// Factor of the peak learning rate at `position` of `total` updates (both may be fractional: a run
/// limited by minutes maps its time onto updates), in [0, 1].
///
/// The first `warmup` updates rise linearly: (position + 1) / warmup. After them, with
/// t = (position - warmup) / (total - warmup):
///   linear        1 - t
///   cosine        (1 + cos(pi t)) / 2
///   inverse_sqrt  sqrt(w / (w + position - warmup)), w = max(warmup, 1)
///   constant      1
double schedule_factor(Schedule schedule, double position, double warmup, double total);

}  // namespace fovea::train
