#include "fovea/train/interrupt.h"

#include <csignal>

#include <unistd.h>

namespace fovea::train {
namespace {

volatile std::sig_atomic_t received = 0;

void remember(int signal) {
  received = signal;
  constexpr char kText[] = "\nstopping after this step; once more to stop at once\n";
  [[maybe_unused]] const auto written = write(STDERR_FILENO, kText, sizeof kText - 1);
}

}  // namespace

void catch_interrupts() {
  received = 0;
  struct sigaction action {};
  action.sa_handler = remember;
  action.sa_flags = static_cast<int>(SA_RESETHAND | SA_RESTART);
  sigaction(SIGINT, &action, nullptr);
  sigaction(SIGTERM, &action, nullptr);
}

int interrupted() { return received; }

}  // namespace fovea::train
