#include "fovea/ops/rotary.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <mutex>
#include <type_traits>
#include <utility>

#include <ATen/Dispatch.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/ops/empty.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

#include "fovea/ops/tensor_bridge.h"

namespace fovea::ops {
namespace {

using at::Tensor;

constexpr int64_t kRowsPerTask = 64;

/// y = x rotated by the angles of one table row (cosines, then sines); sign is -1 to rotate back.
template <typename T, typename Angle>
void rotate(const T* x, const Angle* angles, int64_t half, Angle sign, T* y) {
  for (int64_t i = 0; i < half; ++i) {
    const auto a = static_cast<Angle>(x[i]), b = static_cast<Angle>(x[i + half]);
    const Angle c = angles[i], s = sign * angles[i + half];
    y[i] = static_cast<T>(a * c - b * s);
    y[i + half] = static_cast<T>(b * c + a * s);
  }
}

void check_arguments(const Tensor& x, const Tensor& table, const Tensor& positions, int64_t heads) {
  TORCH_CHECK(x.dim() == 3 && table.dim() == 2 && positions.dim() == 1,
              "fovea::rotary: expected x [T, H, D], table [length, D] and positions [T], got ",
              x.dim(), ", ", table.dim(), " and ", positions.dim(), " dimensions");
  TORCH_CHECK(heads >= 0, "fovea::rotary: expected heads >= 0, got ", heads);
  TORCH_CHECK(positions.scalar_type() == at::kLong, "fovea::rotary: expected int64 positions, got ",
              positions.scalar_type());
}

template <typename T, typename Angle>
void rotary_rows(const Tensor& x, const Tensor& table, const Tensor& positions, int64_t heads,
                 Angle sign, const Tensor& y) {
  const int64_t tokens = x.size(0), all_heads = x.size(1), dim = x.size(2);
  const T* from = x.const_data_ptr<T>();
  const Angle* angles = table.const_data_ptr<Angle>();
  const int64_t* position = positions.const_data_ptr<int64_t>();
  T* to = y.mutable_data_ptr<T>();
  parallel_for((tokens + kRowsPerTask - 1) / kRowsPerTask, [&](int64_t task, int) {
    const int64_t end = std::min(tokens, (task + 1) * kRowsPerTask);
    for (int64_t t = task * kRowsPerTask; t < end; ++t) {
      const int64_t row = t * all_heads * dim;
      for (int64_t h = 0; h < heads; ++h) {
        rotate(from + row + h * dim, angles + position[t] * dim, dim / 2, sign, to + row + h * dim);
      }
      std::copy(from + row + heads * dim, from + row + all_heads * dim, to + row + heads * dim);
    }
  });
}

Tensor rotary_cpu(const Tensor& x, const Tensor& table, const Tensor& positions, int64_t heads,
                  bool inverse) {
  check_arguments(x, table, positions, heads);
  TORCH_CHECK(x.size(2) % 2 == 0 && table.size(1) == x.size(2),
              "fovea::rotary: expected an even head size and a table as wide, got ", x.sizes(),
              " and ", table.sizes());
  TORCH_CHECK(positions.size(0) == x.size(0) && heads <= x.size(1),
              "fovea::rotary: expected a position for each row and at most ", x.size(1),
              " heads, got ", positions.size(0), " positions for ", x.size(0), " rows and ", heads,
              " heads");
  const Tensor where = positions.contiguous();
  for (int64_t i = 0; i < where.numel(); ++i) {
    const int64_t position = where.const_data_ptr<int64_t>()[i];
    TORCH_CHECK_INDEX(position >= 0 && position < table.size(0),
                      "fovea::rotary: expected positions below the table's length ", table.size(0),
                      ", got ", position, " at row ", i);
  }
  const Tensor x_dense = x.contiguous();
  const Tensor y = at::empty(x.sizes(), x.options());
  AT_DISPATCH_FLOATING_TYPES_AND2(at::kBFloat16, at::kHalf, x.scalar_type(), "fovea::rotary", [&] {
    using Angle = std::conditional_t<std::is_same_v<scalar_t, double>, double, float>;
    const Tensor angles = table.to(c10::CppTypeToScalarType<Angle>::value).contiguous();
    rotary_rows<scalar_t, Angle>(x_dense, angles, where, heads, inverse ? -1 : 1, y);
  });
  return y;
}

Tensor rotary_meta(const Tensor& x, const Tensor& table, const Tensor& positions, int64_t heads,
                   bool) {
  check_arguments(x, table, positions, heads);
  return at::empty_symint(x.sym_sizes(), x.options());
}

Tensor call_rotary(const Tensor& x, const Tensor& table, const Tensor& positions, int64_t heads,
                   bool inverse) {
  static const auto op =
      c10::Dispatcher::singleton()
          .findSchemaOrThrow("fovea::rotary", "")
          .typed<Tensor(const Tensor&, const Tensor&, const Tensor&, int64_t, bool)>();
  return op.call(x, table, positions, heads, inverse);
}

// Linear in x, and a rotation: its gradient rotates back.
struct RotaryFunction : torch::autograd::Function<RotaryFunction> {
  static Tensor forward(torch::autograd::AutogradContext* ctx, const Tensor& x, const Tensor& table,
                        const Tensor& positions, int64_t heads, bool inverse) {
    at::AutoDispatchBelowADInplaceOrView below;
    ctx->save_for_backward({table, positions});
    ctx->saved_data["heads"] = heads;
    ctx->saved_data["inverse"] = inverse;
    return call_rotary(x, table, positions, heads, inverse);
  }
  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* ctx,
                                                 const torch::autograd::variable_list& d) {
    const auto saved = ctx->get_saved_variables();
    return {call_rotary(d[0], saved[0], saved[1], ctx->saved_data["heads"].toInt(),
                        !ctx->saved_data["inverse"].toBool()),
            Tensor(), Tensor(), Tensor(), Tensor()};
  }
};

Tensor rotary_autograd(const Tensor& x, const Tensor& table, const Tensor& positions, int64_t heads,
                       bool inverse) {
  if (at::GradMode::is_enabled() && x.requires_grad()) {
    return RotaryFunction::apply(x, table, positions, heads, inverse);
  }
  at::AutoDispatchBelowADInplaceOrView below;
  return call_rotary(x, table, positions, heads, inverse);
}

Tensor make_table(int64_t length, int64_t head_dim, double theta) {
  const Tensor table = at::empty({length, head_dim}, at::TensorOptions().dtype(at::kFloat));
  float* row = table.mutable_data_ptr<float>();
  const int64_t half = head_dim / 2;
  for (int64_t p = 0; p < length; ++p, row += head_dim) {
    for (int64_t i = 0; i < half; ++i) {
      const double angle = static_cast<double>(p) * std::pow(theta, -2.0 * i / head_dim);
      row[i] = static_cast<float>(std::cos(angle));
      row[i + half] = static_cast<float>(std::sin(angle));
    }
  }
  return table;
}

}  // namespace

Tensor rotary(const Tensor& x, const Tensor& table, const Tensor& positions, int64_t heads,
              bool inverse) {
  return call_rotary(x, table, positions, heads, inverse);
}

Tensor rotary_table(int64_t length, int64_t head_dim, double theta) {
  static std::mutex mutex;
  static auto& tables = *new std::map<std::pair<int64_t, double>, Tensor>();
  const std::lock_guard lock(mutex);
  Tensor& table = tables[{head_dim, theta}];
  if (!table.defined() || table.size(0) < length) {
    int64_t rows = 1024;
    while (rows < length) rows *= 2;
    table = make_table(rows, head_dim, theta);
  }
  return table;
}

TORCH_LIBRARY_IMPL(fovea, CPU, m) { m.impl("rotary", rotary_cpu); }
TORCH_LIBRARY_IMPL(fovea, Meta, m) { m.impl("rotary", rotary_meta); }
TORCH_LIBRARY_IMPL(fovea, Autograd, m) { m.impl("rotary", rotary_autograd); }

}  // namespace fovea::ops
