#include "fovea/train/optimizer.h"

#include <ATen/ops/_foreach_mul.h>
#include <ATen/ops/_foreach_norm.h>
#include <ATen/ops/_fused_adamw.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>
#include <c10/core/GradMode.h>

namespace fovea::train {
namespace {

// Matrices of the layers decay; vectors (biases, norms) and look-up tables do not.
bool decays(const std::string& name, const at::Tensor& parameter) {
  return parameter.dim() >= 2 && !name.starts_with("embeddings.") &&
         !name.ends_with(".position_bias");
}

}  // namespace

AdamW::AdamW(NamedTensors parameters, const AdamWOptions& options)
    : parameters_(std::move(parameters)), options_(options), steps_(at::zeros({}, at::kFloat)) {
  for (const auto& [name, parameter] : parameters_) {
    exp_avg_.push_back(at::zeros_like(parameter, parameter.options().requires_grad(false)));
    exp_avg_sq_.push_back(at::zeros_like(parameter, parameter.options().requires_grad(false)));
    decays_.push_back(options_.decay_all || decays(name, parameter));
  }
}

void AdamW::step(double lr) {
  const at::NoGradGuard no_grad;
  steps_.add_(1);
  step_group(true, lr);
  step_group(false, lr);
  for (auto& [name, parameter] : parameters_) parameter.mutable_grad().reset();
}

void AdamW::step_group(bool decay, double lr) {
  std::vector<at::Tensor> values, gradients, exp_avg, exp_avg_sq, steps;
  for (size_t i = 0; i < parameters_.size(); ++i) {
    const at::Tensor& parameter = parameters_[i].second;
    if (decays_[i] != decay || !parameter.grad().defined()) continue;
    values.push_back(parameter);
    gradients.push_back(parameter.grad().contiguous());
    exp_avg.push_back(exp_avg_[i]);
    exp_avg_sq.push_back(exp_avg_sq_[i]);
    steps.push_back(steps_);
  }
  if (values.empty()) return;
  at::_fused_adamw_(values, gradients, exp_avg, exp_avg_sq, {}, steps, lr, options_.beta1,
                    options_.beta2, decay ? options_.weight_decay : 0.0, options_.eps,
                    /*amsgrad=*/false, /*maximize=*/false);
}

int64_t AdamW::steps() const { return static_cast<int64_t>(steps_.item<float>()); }

NamedTensors AdamW::state() const {
  NamedTensors state;
  for (size_t i = 0; i < parameters_.size(); ++i) {
    state.emplace_back("exp_avg." + parameters_[i].first, exp_avg_[i]);
    state.emplace_back("exp_avg_sq." + parameters_[i].first, exp_avg_sq_[i]);
  }
  state.emplace_back("steps", steps_);
  return state;
}

double clip_gradients(const NamedTensors& parameters, double limit) {
  const at::NoGradGuard no_grad;
  std::vector<at::Tensor> gradients;
  for (const auto& [name, parameter] : parameters) {
    if (parameter.grad().defined()) gradients.push_back(parameter.grad());
  }
  if (gradients.empty()) return 0;
  const double norm = at::stack(at::_foreach_norm(gradients, 2)).norm().item<double>();
  if (limit > 0 && norm > limit) at::_foreach_mul_(gradients, limit / norm);
  return norm;
}

}  // namespace fovea::train
