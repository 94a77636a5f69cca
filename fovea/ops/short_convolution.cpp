#include "fovea/ops/short_convolution.h"

#include <algorithm>
#include <optional>
#include <vector>

#include <ATen/Dispatch.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

#include "fovea/ops/once.h"
#include "fovea/ops/tensor_bridge.h"

namespace fovea::ops {
namespace {

using at::Tensor;
using MaybeTensor = std::optional<Tensor>;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;
using Pair = std::tuple<Tensor, Tensor>;
using Triple = std::tuple<Tensor, Tensor, Tensor>;

constexpr int64_t kRowsPerTask = 256;
constexpr const char* kName = "fovea::short_convolution";

void check_arguments(const Tensor& x, const Tensor& weight, const Tensor& cu_seqlens,
                     const MaybeTensor& state) {
  TORCH_CHECK(x.dim() == 2 && weight.dim() == 2 && cu_seqlens.dim() == 1, kName,
              ": expected x [T, C], weight [C, W] and cu_seqlens [N + 1], got ", x.dim(), ", ",
              weight.dim(), " and ", cu_seqlens.dim(), " dimensions");
  TORCH_CHECK(weight.sym_size(0) == x.sym_size(1) && weight.sym_size(1) >= 1, kName,
              ": expected weight [", x.sym_size(1), ", W], got ", weight.sym_sizes());
  TORCH_CHECK(!state || (state->dim() == 3 && state->sym_size(0) == cu_seqlens.sym_size(0) - 1 &&
                         state->sym_size(1) == weight.sym_size(1) - 1 &&
                         state->sym_size(2) == x.sym_size(1)),
              kName, ": expected initial_state [", cu_seqlens.sym_size(0) - 1, ", ",
              weight.sym_size(1) - 1, ", ", x.sym_size(1), "], got ",
              state ? state->sym_sizes() : c10::SymIntArrayRef());
}

/// Some rows of one document.
struct Rows {
  int64_t document, document_begin, document_end, begin, end;
};

std::vector<Rows> tasks_of(const std::vector<int32_t>& bounds, int64_t tokens) {
  TORCH_CHECK(!bounds.empty() && bounds.front() == 0 && bounds.back() == tokens &&
                  std::is_sorted(bounds.begin(), bounds.end()),
              kName, ": expected cu_seqlens that ascends from 0 to ", tokens);
  std::vector<Rows> tasks;
  for (size_t n = 0; n + 1 < bounds.size(); ++n) {
    for (int64_t t = bounds[n]; t < bounds[n + 1]; t += kRowsPerTask) {
      tasks.push_back({static_cast<int64_t>(n), bounds[n], bounds[n + 1], t,
                       std::min<int64_t>(bounds[n + 1], t + kRowsPerTask)});
    }
  }
  return tasks;
}

/// One call in storage type T, summed in type S; x, weight and state dense.
template <typename T, typename S>
class Convolution {
 public:
  Convolution(const Tensor& x, const Tensor& weight, const std::vector<int32_t>& bounds,
              const MaybeTensor& state)
      : x_(x.const_data_ptr<T>()),
        state_(state ? state->const_data_ptr<T>() : nullptr),
        channels_(x.size(1)),
        width_(weight.size(1)),
        tasks_(tasks_of(bounds, x.size(0))),
        bounds_(bounds),
        columns_(static_cast<size_t>(weight.numel())) {
    const S* from = weight.const_data_ptr<S>();
    for (int64_t c = 0; c < channels_; ++c) {
      for (int64_t w = 0; w < width_; ++w) columns_[w * channels_ + c] = from[c * width_ + w];
    }
  }

  void forward(T* y) const {
    parallel_for(std::ssize(tasks_), [&](int64_t i, int) {
      const Rows& task = tasks_[i];
      std::vector<S> sum(static_cast<size_t>(channels_));
      for (int64_t t = task.begin; t < task.end; ++t) {
        std::fill(sum.begin(), sum.end(), S{0});
        for (int64_t w = 0; w < width_; ++w) {
          if (const T* row = row_before(task, t, width_ - 1 - w)) add(row, column(w), sum.data());
        }
        for (int64_t c = 0; c < channels_; ++c) y[t * channels_ + c] = static_cast<T>(sum[c]);
      }
    });
  }

  /// The last rows of each document, oldest first.
  void final_state(T* out) const {
    for (int64_t n = 0; n + 1 < std::ssize(bounds_); ++n) {
      const Rows document = {n, bounds_[n], bounds_[n + 1], 0, 0};
      for (int64_t w = 0; w + 1 < width_; ++w, out += channels_) {
        const T* row = row_before(document, document.document_end, width_ - 1 - w);
        row ? std::copy_n(row, channels_, out) : std::fill_n(out, channels_, T(0));
      }
    }
  }

  void backward(const T* d_y, T* d_x, S* d_weight, T* d_state) const {
    const int64_t size = width_ * channels_;
    std::vector<S> parts(tasks_.size() * static_cast<size_t>(size), S{0});
    parallel_for(std::ssize(tasks_), [&](int64_t i, int) {
      const Rows& task = tasks_[i];
      for (int64_t t = task.begin; t < task.end; ++t) {
        gradient_of_row(task, t, d_y, d_x + t * channels_);
        for (int64_t w = 0; w < width_; ++w) {
          const T* row = row_before(task, t, width_ - 1 - w);
          S* sum = parts.data() + i * size + w * channels_;
          for (int64_t c = 0; row && c < channels_; ++c) {
            sum[c] += static_cast<S>(row[c]) * static_cast<S>(d_y[t * channels_ + c]);
          }
        }
      }
    });
    std::fill_n(d_weight, size, S{0});
    for (size_t i = 0; i < tasks_.size(); ++i) {
      for (int64_t c = 0; c < channels_; ++c) {
        for (int64_t w = 0; w < width_; ++w) {
          d_weight[c * width_ + w] += parts[i * static_cast<size_t>(size) + w * channels_ + c];
        }
      }
    }
    for (int64_t n = 0; d_state && n + 1 < std::ssize(bounds_); ++n) {
      const Rows document = {n, bounds_[n], bounds_[n + 1], 0, 0};
      for (int64_t w = 0; w + 1 < width_; ++w, d_state += channels_) {
        gradient_of_row(document, document.document_begin - (width_ - 1) + w, d_y, d_state);
      }
    }
  }

 private:
  const S* column(int64_t w) const { return columns_.data() + w * channels_; }

  /// Row t - back of a document, before its first row the state's; null: zeros.
  const T* row_before(const Rows& task, int64_t t, int64_t back) const {
    const int64_t at = t - back;
    if (at >= task.document_begin) return x_ + at * channels_;
    if (!state_) return nullptr;
    const int64_t row = width_ - 1 + at - task.document_begin;
    return state_ + (task.document * (width_ - 1) + row) * channels_;
  }

  template <typename From>
  void add(const From* row, const S* weight, S* sum) const {
    for (int64_t c = 0; c < channels_; ++c) sum[c] += static_cast<S>(row[c]) * weight[c];
  }

  /// Gradient of row t, which may be one of the state's.
  void gradient_of_row(const Rows& task, int64_t t, const T* d_y, T* d_row) const {
    std::vector<S> sum(static_cast<size_t>(channels_), S{0});
    for (int64_t ahead = 0; ahead < width_; ++ahead) {
      const int64_t at = t + ahead;
      if (at < task.document_begin || at >= task.document_end) continue;
      add(d_y + at * channels_, column(width_ - 1 - ahead), sum.data());
    }
    for (int64_t c = 0; c < channels_; ++c) d_row[c] = static_cast<T>(sum[c]);
  }

  const T *x_, *state_;
  int64_t channels_, width_;
  std::vector<Rows> tasks_;
  const std::vector<int32_t>& bounds_;
  std::vector<S> columns_;  ///< the weight as [W, C]
};

/// Calls body(T{}, S{}) with the storage type of x and the type of its sums.
template <typename Body>
void dispatch(const Tensor& x, const Body& body) {
  sync_threads();
  AT_DISPATCH_FLOATING_TYPES_AND2(at::kBFloat16, at::kHalf, x.scalar_type(), kName, [&] {
    using Sum = std::conditional_t<std::is_same_v<scalar_t, double>, double, float>;
    body(scalar_t{}, Sum{});
  });
}

at::ScalarType sum_type(const Tensor& x) {
  return x.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
}
MaybeTensor dense_as(const MaybeTensor& x, at::ScalarType type) {
  return x ? MaybeTensor(x->to(type).contiguous()) : std::nullopt;
}
Tensor empty_state(const Tensor& x, const Tensor& weight, const Tensor& cu_seqlens) {
  return at::empty_symint({cu_seqlens.sym_size(0) - 1, weight.sym_size(1) - 1, x.sym_size(1)},
                          x.options());
}

Pair convolution_cpu(const Tensor& x, const Tensor& weight, const Tensor& cu_seqlens,
                     const MaybeTensor& initial_state) {
  check_arguments(x, weight, cu_seqlens, initial_state);
  const auto bounds = int32_values(cu_seqlens, "cu_seqlens");
  const Tensor rows = x.contiguous(), weights = weight.to(sum_type(x)).contiguous();
  const MaybeTensor state = dense_as(initial_state, x.scalar_type());
  const Tensor y = at::empty(x.sizes(), x.options()), last = empty_state(x, weight, cu_seqlens);
  dispatch(x, [&](auto type, auto sum) {
    using T = decltype(type);
    const Convolution<T, decltype(sum)> convolution(rows, weights, bounds, state);
    convolution.forward(y.mutable_data_ptr<T>());
    convolution.final_state(last.mutable_data_ptr<T>());
  });
  return {y, last};
}

Triple convolution_backward_cpu(const Tensor& d_y, const Tensor& x, const Tensor& weight,
                                const Tensor& cu_seqlens, const MaybeTensor& initial_state) {
  check_arguments(x, weight, cu_seqlens, initial_state);
  const auto bounds = int32_values(cu_seqlens, "cu_seqlens");
  const Tensor rows = x.contiguous(), weights = weight.to(sum_type(x)).contiguous();
  const Tensor gradient = d_y.to(x.scalar_type()).contiguous();
  const MaybeTensor state = dense_as(initial_state, x.scalar_type());
  const Tensor d_x = at::empty(x.sizes(), x.options());
  const Tensor d_weight = at::empty(weight.sizes(), weights.options());
  const Tensor d_state = state ? empty_state(x, weight, cu_seqlens) : at::empty({0}, x.options());
  dispatch(x, [&](auto type, auto sum) {
    using T = decltype(type);
    using S = decltype(sum);
    Convolution<T, S>(rows, weights, bounds, state)
        .backward(gradient.const_data_ptr<T>(), d_x.mutable_data_ptr<T>(),
                  d_weight.mutable_data_ptr<S>(), state ? d_state.mutable_data_ptr<T>() : nullptr);
  });
  return {d_x, d_weight.to(weight.scalar_type()),
          initial_state ? d_state.to(initial_state->scalar_type()) : d_state};
}

Pair convolution_meta(const Tensor& x, const Tensor& weight, const Tensor& cu_seqlens,
                      const MaybeTensor& initial_state) {
  check_arguments(x, weight, cu_seqlens, initial_state);
  return {at::empty_symint(x.sym_sizes(), x.options()), empty_state(x, weight, cu_seqlens)};
}

Triple convolution_backward_meta(const Tensor&, const Tensor& x, const Tensor& weight,
                                 const Tensor& cu_seqlens, const MaybeTensor& initial_state) {
  check_arguments(x, weight, cu_seqlens, initial_state);
  const auto like = [](const Tensor& t) { return at::empty_symint(t.sym_sizes(), t.options()); };
  return {like(x), like(weight),
          initial_state ? like(*initial_state) : at::empty({0}, x.options())};
}

Pair call(const Tensor& x, const Tensor& weight, const Tensor& cu_seqlens,
          const MaybeTensor& initial_state) {
  static const auto op =
      c10::Dispatcher::singleton()
          .findSchemaOrThrow(kName, "")
          .typed<Pair(const Tensor&, const Tensor&, const Tensor&, const MaybeTensor&)>();
  return op.call(x, weight, cu_seqlens, initial_state);
}
Triple call_backward(const Tensor& d_y, const Tensor& x, const Tensor& weight,
                     const Tensor& cu_seqlens, const MaybeTensor& initial_state) {
  static const auto op = c10::Dispatcher::singleton()
                             .findSchemaOrThrow("fovea::short_convolution_backward", "")
                             .typed<Triple(const Tensor&, const Tensor&, const Tensor&,
                                           const Tensor&, const MaybeTensor&)>();
  return op.call(d_y, x, weight, cu_seqlens, initial_state);
}

MaybeTensor maybe(const Tensor& x) { return x.defined() ? MaybeTensor(x) : std::nullopt; }

struct ConvolutionFunction : torch::autograd::Function<ConvolutionFunction> {
  static variable_list forward(AutogradContext* ctx, const Tensor& x, const Tensor& weight,
                               const Tensor& cu_seqlens, const MaybeTensor& initial_state) {
    at::AutoDispatchBelowADInplaceOrView below;
    auto [y, last] = call(x, weight, cu_seqlens, initial_state);
    ctx->save_for_backward({x, weight, cu_seqlens, initial_state.value_or(Tensor())});
    ctx->mark_non_differentiable({last});
    return {y, last};
  }
  static variable_list backward(AutogradContext* ctx, const variable_list& d) {
    const auto s = ctx->get_saved_variables();
    auto [d_x, d_weight, d_state] = call_backward(d[0], s[0], s[1], s[2], maybe(s[3]));
    return {d_x, d_weight, Tensor(), s[3].defined() ? d_state : Tensor()};
  }
};

Pair convolution_autograd(const Tensor& x, const Tensor& weight, const Tensor& cu_seqlens,
                          const MaybeTensor& initial_state) {
  if (at::GradMode::is_enabled() && (x.requires_grad() || weight.requires_grad() ||
                                     (initial_state && initial_state->requires_grad()))) {
    const auto results = ConvolutionFunction::apply(x, weight, cu_seqlens, initial_state);
    return {results[0], results[1]};
  }
  at::AutoDispatchBelowADInplaceOrView below;
  return call(x, weight, cu_seqlens, initial_state);
}

Triple convolution_backward_autograd(const Tensor& d_y, const Tensor& x, const Tensor& weight,
                                     const Tensor& cu_seqlens, const MaybeTensor& initial_state) {
  Triple result;
  {
    at::AutoDispatchBelowADInplaceOrView below;
    result = call_backward(d_y, x, weight, cu_seqlens, initial_state);
  }
  const auto marked =
      mark_once("short_convolution", {d_y, x, weight, initial_state.value_or(Tensor())},
                {std::get<0>(result), std::get<1>(result), std::get<2>(result)});
  return {marked[0], marked[1], marked[2]};
}

}  // namespace

Pair short_convolution(const Tensor& x, const Tensor& weight, const Tensor& cu_seqlens,
                       const Tensor& initial_state) {
  return call(x, weight, cu_seqlens, maybe(initial_state));
}

TORCH_LIBRARY_IMPL(fovea, CPU, m) {
  m.impl("short_convolution", convolution_cpu);
  m.impl("short_convolution_backward", convolution_backward_cpu);
}
TORCH_LIBRARY_IMPL(fovea, Meta, m) {
  m.impl("short_convolution", convolution_meta);
  m.impl("short_convolution_backward", convolution_backward_meta);
}
TORCH_LIBRARY_IMPL(fovea, Autograd, m) {
  m.impl("short_convolution", convolution_autograd);
  m.impl("short_convolution_backward", convolution_backward_autograd);
}

}  // namespace fovea::ops
