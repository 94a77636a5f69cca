#include "fovea/nn/checkpoint.h"

#include <memory>
#include <mutex>
#include <type_traits>

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/autocast_mode.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/function.h>
#include <torch/csrc/autograd/saved_variable.h>
#include <torch/csrc/autograd/variable.h>

namespace fovea::nn {
namespace {

using at::Tensor;
using torch::autograd::variable_list;
using Body = std::function<Tensor(const Tensor&)>;

/// What a recomputation must find as the first run found it.
struct Surroundings {
  Tensor generator_state;
  bool autocast = at::autocast::is_autocast_enabled(at::kCPU);
  at::ScalarType autocast_type = at::autocast::get_autocast_dtype(at::kCPU);

  static Surroundings now() {
    Surroundings s;
    at::Generator generator = at::detail::getDefaultCPUGenerator();
    const std::lock_guard lock(generator.mutex());
    s.generator_state = generator.get_state();
    return s;
  }
};

/// Sets surroundings for a scope and puts the former ones back.
class Restore {
 public:
  explicit Restore(const Surroundings& wanted) : former_(Surroundings::now()) { set(wanted); }
  ~Restore() { set(former_); }
  Restore(const Restore&) = delete;
  Restore& operator=(const Restore&) = delete;

 private:
  static void set(const Surroundings& s) {
    at::autocast::set_autocast_enabled(at::kCPU, s.autocast);
    at::autocast::set_autocast_dtype(at::kCPU, s.autocast_type);
    at::Generator generator = at::detail::getDefaultCPUGenerator();
    const std::lock_guard lock(generator.mutex());
    generator.set_state(s.generator_state);
  }
  Surroundings former_;
};

/// Autocast keeps lowered copies of weights. One made in the first run, which records no gradients,
/// must not be found by the recomputation, which needs its gradient.
class NoAutocastCache {
 public:
  NoAutocastCache() : former_(at::autocast::is_autocast_cache_enabled()) {
    at::autocast::set_autocast_cache_enabled(false);
  }
  ~NoAutocastCache() { at::autocast::set_autocast_cache_enabled(former_); }
  NoAutocastCache(const NoAutocastCache&) = delete;
  NoAutocastCache& operator=(const NoAutocastCache&) = delete;

 private:
  bool former_;
};

// A Node of its own, not an autograd::Function, since the number of parameters varies. They are
// inputs of the node, so that their gradients are results of it: that works with backward() and
// with autograd::grad(), and where x itself wants no gradient.
class CheckpointNode : public torch::autograd::Node {
 public:
  CheckpointNode(Body body, const Tensor& x, std::vector<Tensor> parameters, Surroundings s)
      : body_(std::move(body)),
        x_(x, /*is_output=*/false),
        parameters_(std::move(parameters)),
        surroundings_(std::move(s)) {
    torch::autograd::edge_list edges = {edge_of(x)};
    for (const Tensor& parameter : parameters_) edges.push_back(edge_of(parameter));
    set_next_edges(std::move(edges));
  }

  variable_list apply(variable_list&& d_y) override {
    const Tensor saved = x_.unpack();
    variable_list inputs = {saved.detach().requires_grad_(task_should_compute_output(0))};
    inputs.insert(inputs.end(), parameters_.begin(), parameters_.end());
    const at::AutoGradMode record(true);
    Tensor y;
    {
      const Restore restore(surroundings_);
      const NoAutocastCache no_cache;
      y = body_(inputs[0]);
    }
    variable_list wanted;
    for (size_t i = 0; i < inputs.size(); ++i) {
      if (task_should_compute_output(i)) wanted.push_back(inputs[i]);
    }
    const variable_list gradients =
        torch::autograd::grad({y}, wanted, {d_y[0]}, std::nullopt, /*create_graph=*/false,
                              /*allow_unused=*/true);
    variable_list result(inputs.size());
    for (size_t i = 0, next = 0; i < inputs.size(); ++i) {
      if (task_should_compute_output(i)) result[i] = gradients[next++];
    }
    return result;
  }

  void release_variables() override { x_.reset_data(); }
  std::string name() const override { return "FoveaCheckpoint"; }

 private:
  static torch::autograd::Edge edge_of(const Tensor& tensor) {
    return tensor.requires_grad() ? torch::autograd::impl::gradient_edge(tensor)
                                  : torch::autograd::Edge();
  }

  Body body_;
  torch::autograd::SavedVariable x_;
  std::vector<Tensor> parameters_;
  Surroundings surroundings_;
};

// Torch's owner of nodes: std::shared_ptr in older releases, c10::intrusive_ptr in newer ones.
using NodePointer = decltype(torch::autograd::Edge::function);

template <typename Pointer, typename... Arguments>
Pointer make_node(Arguments&&... arguments) {
  if constexpr (std::is_same_v<Pointer, std::shared_ptr<torch::autograd::Node>>) {
    return std::make_shared<CheckpointNode>(std::forward<Arguments>(arguments)...);
  } else {
    return c10::make_intrusive<CheckpointNode>(std::forward<Arguments>(arguments)...);
  }
}

}  // namespace

Tensor checkpoint(const Body& body, const Tensor& x, const std::vector<Tensor>& parameters) {
  const NodePointer node = make_node<NodePointer>(body, x, parameters, Surroundings::now());
  Tensor y;
  {
    const at::NoGradGuard no_grad;
    const NoAutocastCache no_cache;
    y = body(x);
  }
  torch::autograd::create_gradient_edge(y, node);
  return y;
}

}  // namespace fovea::nn
