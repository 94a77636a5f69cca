#pragma once

// Internal to ops: what the operators do about second derivatives and forward mode.

#include <initializer_list>
#include <optional>
#include <string>

#include <ATen/core/dispatch/Dispatcher.h>
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
        " is differentiable once here; the gradient of its gradient (create_graph=True followed by "
        "a second backward) needs the Python package fovea, and query, key and value apart");
  }
};

/// Those of `inputs` that a graph is recorded for.
inline torch::autograd::variable_list recorded(const torch::autograd::variable_list& inputs) {
  torch::autograd::variable_list result;
  if (!at::GradMode::is_enabled()) return result;
  for (const at::Tensor& x : inputs) {
    if (x.defined() && x.requires_grad()) result.push_back(x);
  }
  return result;
}

/// `results` of the backward of `what`, marked if a graph is recorded for any of `inputs`.
inline torch::autograd::variable_list mark_once(const std::string& what,
                                                const torch::autograd::variable_list& inputs,
                                                const torch::autograd::variable_list& results) {
  const auto tensors = recorded(inputs);
  if (tensors.empty()) return results;
  return OnceFunction::apply(at::TensorList(tensors), OnceFunction::Results{results}, what);
}

/// The operators would drop a tangent without a word.
inline void refuse_tangents(std::initializer_list<const at::Tensor*> tensors) {
  for (const at::Tensor* x : tensors) {
    TORCH_CHECK_NOT_IMPLEMENTED(!x->_fw_grad(0).defined(),
                                "fovea: the operators have no forward-mode gradient; "
                                "fovea.attention and its kin in Python have");
  }
}

/// The operator `name` that python/fovea implements: a backward that is differentiable again. None
/// where that package is not loaded.
template <typename Signature>
std::optional<c10::TypedOperatorHandle<Signature>> in_python(const char* name) {
  const auto op = c10::Dispatcher::singleton().findSchemaOrThrow(name, "");
  if (!op.hasKernelForDispatchKey(c10::DispatchKey::CompositeImplicitAutograd)) return std::nullopt;
  return op.typed<Signature>();
}

}  // namespace fovea::ops
