#pragma once

#include <string>
#include <utility>
#include <vector>

#include <ATen/core/Tensor.h>

namespace fovea::train {

using NamedTensors = std::vector<std::pair<std::string, at::Tensor>>;

struct AdamWOptions {
  double beta1 = 0.9;
  double beta2 = 0.98;
  double eps = 1e-8;
  double weight_decay = 0.01;
  bool decay_all = false;  ///< otherwise biases, norms and embeddings do not decay
};

/// AdamW: Loshchilov and Hutter, "Decoupled Weight Decay Regularization" (2019), Algorithm 2, in
/// one pass over each parameter (torch's fused kernel). Deterministic for any number of threads.
/// Memory: two tensors of each parameter's size.
class AdamW {
 public:
  /// `parameters`: leaf tensors, float32, contiguous, with their names in the model.
  AdamW(NamedTensors parameters, const AdamWOptions& options);

  /// One update with learning rate `lr` from the accumulated gradients, which are then dropped. A
  /// parameter without gradient stays as it is.
  void step(double lr);

  /// Updates done so far.
  int64_t steps() const;

  /// What a checkpoint must hold: "exp_avg.<name>", "exp_avg_sq.<name>" and "steps", shared with
  /// the optimizer, so copying into them restores it.
  NamedTensors state() const;

 private:
  void step_group(bool decay, double lr);

  NamedTensors parameters_;
  AdamWOptions options_;
  std::vector<at::Tensor> exp_avg_, exp_avg_sq_;
  std::vector<bool> decays_;
  at::Tensor steps_;  // float32 scalar, as the fused kernel wants it
};

/// Euclidean norm of all gradients together; scales them so that it is at most `limit` (> 0).
/// Returns the norm before scaling; not finite when a gradient is not.
double clip_gradients(const NamedTensors& parameters, double limit);

}  // namespace fovea::train
