#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "fovea/io/json.h"
#include "fovea/train/optimizer.h"

namespace fovea::train {

/// What a Trainer trains: a model with its examples, and the loss between them.
class Objective {
 public:
  virtual ~Objective() = default;

  /// All that the optimizer may change and a checkpoint keeps.
  virtual NamedTensors parameters() = 0;

  /// Tokens of each training example, which batches are planned by.
  virtual std::span<const int32_t> lengths() const = 0;

  /// Losses that a training example adds: an update follows their mean over all its examples.
  virtual int64_t targets(int64_t example) const = 0;

  /// Sum of those losses over the training examples of one pass, a float32 scalar that records
  /// gradients; the model is in training mode afterwards.
  virtual at::Tensor loss(std::span<const int64_t> examples) = 0;

  /// Metrics of the validation examples, computed `micro_tokens` at a time: an object of numbers,
  /// "loss" (the mean, in nats) among them. The model is in evaluation mode afterwards.
  virtual io::Json evaluate(int64_t micro_tokens) = 0;

  /// Those metrics in a line for people.
  virtual std::string describe(const io::Json& metrics) const = 0;

  /// Less memory for more time, with the same bits.
  virtual void set_gradient_checkpointing(bool on) = 0;
};

}  // namespace fovea::train
