#pragma once

#include <cstdint>
#include <functional>

namespace fovea {

/// Threads that parallel loops use; default: the processors this process may run on
/// (affinity mask), or FOVEA_NUM_THREADS / OMP_NUM_THREADS where set.
int num_threads();

/// Sets the thread count of parallel loops (and of OpenMP in this process); n >= 1.
void set_num_threads(int n);

/// Runs `body(task, thread)` for every task in [0, tasks), handing tasks out one by one in
/// ascending order (dynamic schedule: put the heaviest first). `thread` is in [0, num_threads()),
/// for per-thread scratch. Which thread runs a task varies from run to run, so results must not
/// depend on it. Runs serially inside another parallel region. The first exception thrown by a
/// body is rethrown here after all threads stopped.
void parallel_for(int64_t tasks, const std::function<void(int64_t task, int thread)>& body);

}  // namespace fovea
