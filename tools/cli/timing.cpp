#include "tools/cli/timing.h"

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <fstream>
#include <string>
#include <vector>

#include <sys/resource.h>

namespace fovea::cli {

void Timing::add_to(io::Json& row) const {
  row["ms_min"] = min_ms;
  row["ms_median"] = median_ms;
  row["ms_first"] = first_ms;
  row["spread"] = spread;
}

Timing time_call(const std::function<void()>& call, const TimingOptions& options) {
  const auto once = [&] {
    const auto start = std::chrono::steady_clock::now();
    call();
    return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start)
        .count();
  };
  Timing timing;
  timing.first_ms = once();
  once();
  std::vector<double> ms;
  double total = 0;
  while (static_cast<int>(ms.size()) < options.repeats ||
         (total < options.seconds * 1e3 && ms.size() < 100000)) {
    ms.push_back(once());
    total += ms.back();
  }
  std::sort(ms.begin(), ms.end());
  const size_t n = ms.size();
  timing.min_ms = ms[0];
  timing.median_ms = ms[n / 2];
  timing.spread = (ms[3 * n / 4] - ms[n / 4]) / timing.median_ms;
  return timing;
}

int64_t peak_bytes() {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with("VmHWM:")) return std::atoll(line.c_str() + 6) * 1024;
  }
  rusage usage;
  getrusage(RUSAGE_SELF, &usage);
  return int64_t{usage.ru_maxrss} * 1024;
}

void reset_peak_bytes() { std::ofstream("/proc/self/clear_refs") << "5"; }

}  // namespace fovea::cli
