#pragma once

// Internal to ops: what every backward operator does about a second derivative.

#include <string>

#include <ATen/core/grad_mode.h>
#include <torch/csrc/autograd/custom_function.h>

namespace fovea::ops {

/// Marks the results of a backward operator as not differentiable once more: asking for that is an
/// error with a name, not a silent zero.
struct OnceFunction : torch::autograd::Function<OnceFunction> {
  struct Results {  // a type of its own, or the results would count as inputs
    torch::autograd::variable_list tensors;
  };
  static torch::autograd::variable_list forward(torch::autograd::AutogradContext* ctx,
                                                at::TensorList /*inputs*/, const Results& results,
                                                const std::string& what) {
    ctx->saved_data["what"] = what;
    return results.tensors;
  }
  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* ctx,
                                                 const torch::autograd::variable_list&) {
    TORCH_CHECK_NOT_IMPLEMENTED(
        false, "fovea: ", ctx->saved_data["what"].toStringRef(),
        " is differentiable once; the gradient of its gradient (create_graph=True followed by a "
        "second backward) is not implemented");
  }
};

/// `results` of the backward of `what`, marked if a graph is recorded for any of `inputs`.
inline torch::autograd::variable_list mark_once(const std::string& what,
                                                const torch::autograd::variable_list& inputs,
                                                const torch::autograd::variable_list& results) {
  torch::autograd::variable_list recorded;
  for (const at::Tensor& x : inputs) {
    if (x.defined() && x.requires_grad()) recorded.push_back(x);
  }
  if (recorded.empty() || !at::GradMode::is_enabled()) return results;
  return OnceFunction::apply(at::TensorList(recorded), OnceFunction::Results{results}, what);
}

}  // namespace fovea::ops
