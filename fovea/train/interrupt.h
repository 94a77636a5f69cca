#pragma once

namespace fovea::train {

/// From now on SIGINT and SIGTERM only set interrupted(), once; a second signal ends the process.
void catch_interrupts();

/// The signal that came since catch_interrupts(), or 0.
int interrupted();

}  // namespace fovea::train
