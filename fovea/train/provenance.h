#pragma once

#include <string>

#include "fovea/io/json.h"
#include "fovea/train/run_config.h"

namespace fovea::train {

/// Versions that a run is recorded with: fovea, torch, compiler.
io::Json versions();

/// The machine, without its name: processor, instruction set in use, threads, memory.
io::Json machine();

/// What the bits of a run depend on: build (fingerprint of this program's code), instruction sets,
/// threads, precision, config (without what only concerns its files) and `data` (fingerprints).
io::Json run_provenance(const RunConfig& config, bool bf16, const io::Json& data);

}  // namespace fovea::train
