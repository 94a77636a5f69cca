#include "fovea/core/parallel.h"

#include <atomic>
#include <stdexcept>
#include <vector>

#include <gtest/gtest.h>

namespace fovea {
namespace {

TEST(ParallelFor, RunsEveryTaskOnceOnAValidThread) {
  const int before = num_threads();
  for (const int threads : {1, 2, 5}) {
    set_num_threads(threads);
    std::vector<std::atomic<int>> runs(1000);
    std::atomic<bool> bad_thread{false};
    parallel_for(1000, [&](int64_t task, int thread) {
      ++runs[task];
      if (thread < 0 || thread >= threads) bad_thread = true;
    });
    for (auto& count : runs) EXPECT_EQ(count, 1);
    EXPECT_FALSE(bad_thread);
  }
  set_num_threads(before);
}

TEST(ParallelFor, RethrowsTheBodysException) {
  EXPECT_THROW(parallel_for(100,
                            [](int64_t task, int) {
                              if (task == 42) throw std::out_of_range("task 42");
                            }),
               std::out_of_range);
}

TEST(ParallelFor, NestedLoopsRunSerially) {
  std::atomic<int> sum{0};
  parallel_for(4, [&](int64_t, int) {
    parallel_for(10, [&](int64_t, int thread) {
      EXPECT_EQ(thread, 0);
      ++sum;
    });
  });
  EXPECT_EQ(sum, 40);
}

TEST(ParallelFor, NoTasksIsNoWork) {
  parallel_for(0, [](int64_t, int) { FAIL(); });
}

}  // namespace
}  // namespace fovea
