#include "fovea/nn/row_map.h"

#include <vector>

#include <ATen/Dispatch.h>
#include <ATen/OpMathType.h>
#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>
#include <torch/csrc/autograd/custom_function.h>

#include "fovea/nn/weighted_rows.h"
#include "fovea/ops/once.h"

namespace fovea::nn {
namespace {

using at::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

constexpr int64_t kGrain = 1 << 15;  ///< numbers that are worth a thread

const double* weights_of(const RowMap& map) {
  return map.weight.defined() ? map.weight.const_data_ptr<double>() : nullptr;
}

Tensor empty_rows(const Tensor& like, int64_t rows) {
  std::vector<int64_t> shape = like.sizes().vec();
  shape[0] = rows;
  return at::empty(shape, like.options());
}

/// x, copied unless each row is dense: rows may lie apart, as a projection's queries do.
Tensor dense_rows(const Tensor& x) {
  return x.size(0) > 0 && x.select(0, 0).is_contiguous() ? x : x.contiguous();
}

/// Rows are asked for so many entries before their turn: means of two rows of 1 kB then take two
/// thirds of the time (AMD EPYC Zen 4, 2026-11-21).
constexpr int64_t kAhead = 4;

template <typename T>
void prefetch(const T* row, int64_t size) {
  constexpr int64_t kLine = 64 / sizeof(T);
  for (int64_t c = 0; c < size; c += kLine) __builtin_prefetch(row + c);
}

int64_t grain_of(int64_t row_size) { return std::max<int64_t>(1, kGrain / (row_size + 1)); }

Tensor take(const Tensor& x, const RowMap& map) {
  TORCH_CHECK(x.size(0) == map.rows(), "take_rows: expected ", map.rows(), " rows, got ",
              x.sizes());
  const Tensor dense = dense_rows(x);
  const Tensor y = empty_rows(x, map.taken());
  const int64_t size = x.size(0) > 0 ? x.numel() / x.size(0) : 0;
  const int64_t stride = dense.stride(0);
  const int64_t* index = map.index.const_data_ptr<int64_t>();
  const double* weight = weights_of(map);
  AT_DISPATCH_FLOATING_TYPES_AND2(at::kBFloat16, at::kHalf, x.scalar_type(), "take_rows", [&] {
    using Wide = at::opmath_type<scalar_t>;
    const auto* from = dense.const_data_ptr<scalar_t>();
    auto* to = y.mutable_data_ptr<scalar_t>();
    at::parallel_for(0, map.taken(), grain_of(size), [&](int64_t first, int64_t last) {
      for (int64_t i = first; i < last; ++i) {
        scalar_t* out = to + i * size;
        const scalar_t* row = from + index[i] * stride;
        if (index[i] < 0) {
          std::fill_n(out, size, scalar_t(0));
        } else if (!weight) {
          std::copy_n(row, size, out);
        } else {
          const auto w = static_cast<Wide>(weight[i]);
          for (int64_t c = 0; c < size; ++c) out[c] = scalar_t(w * Wide(row[c]));
        }
      }
    });
  });
  return y;
}

Tensor sum(const Tensor& y, const RowMap& map) {
  TORCH_CHECK(y.size(0) == map.taken(), "sum_rows: expected ", map.taken(), " rows, got ",
              y.sizes());
  const Tensor dense = dense_rows(y);
  const Tensor x = empty_rows(y, map.rows());
  const int64_t size = y.size(0) > 0 ? y.numel() / y.size(0) : 0;
  const int64_t stride = dense.stride(0);
  const int64_t* begin = map.begin.const_data_ptr<int64_t>();
  const int64_t* order = map.order.const_data_ptr<int64_t>();
  const double* weight = weights_of(map);
  AT_DISPATCH_FLOATING_TYPES_AND2(at::kBFloat16, at::kHalf, y.scalar_type(), "sum_rows", [&] {
    using Wide = at::opmath_type<scalar_t>;
    const auto* from = dense.const_data_ptr<scalar_t>();
    auto* to = x.mutable_data_ptr<scalar_t>();
    at::parallel_for(0, map.rows(), grain_of(size), [&](int64_t first, int64_t last) {
      std::vector<Wide> weights;
      std::vector<const scalar_t*> rows;
      for (int64_t r = first; r < last; ++r) {
        weights.clear();
        rows.clear();
        for (int64_t e = begin[r]; e < begin[r + 1]; ++e) {
          rows.push_back(from + order[e] * stride);
          if (e + kAhead < begin[last]) prefetch(from + order[e + kAhead] * stride, size);
          weights.push_back(weight ? static_cast<Wide>(weight[order[e]]) : Wide(1));
        }
        sum_weighted_rows(weights.data(), rows.data(), std::ssize(rows), size, Wide(1),
                          to + r * size);
      }
    });
  });
  return x;
}

/// take (kTake) or sum, with the other for the gradient.
template <bool kTake>
struct RowMapFunction : torch::autograd::Function<RowMapFunction<kTake>> {
  static Tensor apply_to(const Tensor& x, const RowMap& map) {
    return kTake ? take(x, map) : sum(x, map);
  }
  static Tensor forward(AutogradContext* ctx, const Tensor& x, const RowMap& map) {
    at::AutoDispatchBelowADInplaceOrView below;
    // Integers and constants: no graph, so no need of save_for_backward.
    ctx->saved_data["index"] = map.index;
    ctx->saved_data["begin"] = map.begin;
    ctx->saved_data["order"] = map.order;
    ctx->saved_data["weight"] = map.weight;
    return apply_to(x, map);
  }
  static variable_list backward(AutogradContext* ctx, const variable_list& d) {
    auto& data = ctx->saved_data;
    const RowMap map = {data["index"].toTensor(), data["begin"].toTensor(),
                        data["order"].toTensor(), data["weight"].toTensor()};
    Tensor d_x;
    {
      at::AutoDispatchBelowADInplaceOrView below;
      d_x = kTake ? sum(d[0], map) : take(d[0], map);
    }
    return {ops::mark_once("rows by index", {d[0]}, {d_x})[0], Tensor()};
  }
};

template <bool kTake>
Tensor call(const Tensor& x, const RowMap& map) {
  if (at::GradMode::is_enabled() && x.requires_grad()) {
    return RowMapFunction<kTake>::apply(x, map);
  }
  return RowMapFunction<kTake>::apply_to(x, map);
}

}  // namespace

RowMap make_row_map(const Tensor& index, int64_t rows, const Tensor& weight) {
  const Tensor begin = at::empty({rows + 1}, index.options());
  int64_t* at = begin.mutable_data_ptr<int64_t>();
  std::fill_n(at, rows + 1, int64_t{0});
  const int64_t* of = index.const_data_ptr<int64_t>();
  const int64_t taken = index.size(0);
  for (int64_t i = 0; i < taken; ++i) {
    if (of[i] >= 0) ++at[of[i] + 1];
  }
  for (int64_t r = 0; r < rows; ++r) at[r + 1] += at[r];
  const Tensor order = at::empty({at[rows]}, index.options());
  int64_t* out = order.mutable_data_ptr<int64_t>();
  std::vector<int64_t> next(at, at + rows);
  for (int64_t i = 0; i < taken; ++i) {
    if (of[i] >= 0) out[next[static_cast<size_t>(of[i])]++] = i;
  }
  return {index, begin, order, weight};
}

Tensor take_rows(const Tensor& x, const RowMap& map) { return call<true>(x, map); }

Tensor sum_rows(const Tensor& y, const RowMap& map) { return call<false>(y, map); }

}  // namespace fovea::nn
