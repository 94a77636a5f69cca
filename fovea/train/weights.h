#pragma once

#include <map>
#include <string>

#include <torch/nn/module.h>

#include "fovea/io/safetensors.h"
#include "fovea/train/optimizer.h"

namespace fovea::train {

/// Writes tensors (float32 or uint8, CPU, contiguous) to a safetensors file, atomically.
void save_tensors(const std::string& path, const NamedTensors& tensors,
                  const std::map<std::string, std::string>& metadata = {});

/// A model's parameters with their names.
NamedTensors named_parameters(const torch::nn::Module& model);

/// Copies a file's tensors into `tensors`, which must agree in names, shapes and types: a missing,
/// a surplus or a different one throws InputError before anything is changed.
void load_tensors(const std::string& path, const NamedTensors& tensors);

}  // namespace fovea::train
