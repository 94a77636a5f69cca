// o = Σ w_i o_i and lse = log Σ exp lse_i with w_i = exp(lse_i - lse), for each token and head.
// Gradients, with d = d_lse - d_o·o of a token and head, summed over those that share row p:
//
//     d_o_p = Σ w d_o        d_lse_p = d_o_p·o_p + Σ w d
#include "fovea/nn/merge_rows.h"

#include <cmath>
#include <limits>

#include <ATen/Dispatch.h>
#include <ATen/OpMathType.h>
#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/zeros_like.h>
#include <torch/csrc/autograd/custom_function.h>

#include "fovea/nn/weighted_rows.h"
#include "fovea/ops/once.h"

namespace fovea::nn {
namespace {

using at::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

constexpr int64_t kGrain = 256;

/// What does not depend on values: saved for the gradient beside the tensors.
struct Layout {
  struct Part {
    RowMap rows;
    int64_t slots, heads, count;  ///< heads: 1 where rows are a head's
    bool direct() const { return !rows.index.defined(); }
  };
  std::vector<Part> parts;
  int64_t tokens, heads, dim;
};

Layout layout_of(const std::vector<PartialResult>& parts) {
  const Tensor& o = parts[0].o;
  Layout layout{{}, o.size(0), o.size(1), o.size(2)};
  for (const PartialResult& p : parts) {
    TORCH_CHECK(p.o.dim() == 3 && p.o.size(2) == layout.dim && p.lse.dim() == 2 &&
                    p.lse.size(0) == p.o.size(1) && p.lse.size(1) == p.o.size(0),
                "merge_rows: expected o [P, H, ", layout.dim, "] and lse [H, P], got ", p.o.sizes(),
                " and ", p.lse.sizes());
    const int64_t heads = p.o.size(1), per_token = heads == layout.heads ? 1 : layout.heads;
    TORCH_CHECK(heads == layout.heads || heads == 1, "merge_rows: expected ", layout.heads,
                " heads or 1, got ", heads);
    TORCH_CHECK(!p.rows.index.defined() || p.rows.taken() == layout.tokens * per_token * p.slots,
                "merge_rows: expected a row or -1 for each token and slot");
    layout.parts.push_back({p.rows, p.slots, heads, p.o.size(0)});
  }
  return layout;
}

/// Calls f(part, row) for the rows of o and lse (dense, a head's) that token t and head h merge.
template <typename F>
void for_rows(const Layout& layout, int64_t t, int64_t h, F f) {
  for (size_t i = 0; i < layout.parts.size(); ++i) {
    const Layout::Part& part = layout.parts[i];
    if (part.direct()) {
      f(i, t * layout.heads + h);
      continue;
    }
    const bool shared = part.heads == layout.heads;
    const int64_t* index = part.rows.index.const_data_ptr<int64_t>() +
                           (shared ? t : t * layout.heads + h) * part.slots;
    for (int64_t s = 0; s < part.slots; ++s) {
      if (index[s] >= 0) f(i, shared ? index[s] * layout.heads + h : index[s]);
    }
  }
}

template <typename T>
std::vector<const T*> pointers(at::TensorList tensors) {
  std::vector<const T*> list;
  for (const Tensor& x : tensors) list.push_back(x.const_data_ptr<T>());
  return list;
}

/// `o` dense, `lse` dense by row; fills o and lse by row.
template <typename T, typename Wide>
void merge(const Layout& layout, at::TensorList o, at::TensorList lse, const Tensor& out,
           const Tensor& total) {
  const auto from = pointers<T>(o);
  const auto logs = pointers<Wide>(lse);
  const int64_t dim = layout.dim;
  T* to = out.mutable_data_ptr<T>();
  Wide* to_log = total.mutable_data_ptr<Wide>();
  constexpr Wide kNone = -std::numeric_limits<Wide>::infinity();
  at::parallel_for(0, layout.tokens * layout.heads, kGrain, [&](int64_t first, int64_t last) {
    std::vector<const T*> rows;
    std::vector<Wide> weights;  // their logarithms first
    for (int64_t r = first; r < last; ++r) {
      rows.clear();
      weights.clear();
      Wide highest = kNone, weight = 0;
      for_rows(layout, r / layout.heads, r % layout.heads, [&](size_t i, int64_t p) {
        const Wide log = logs[i][p];
        if (log == kNone) return;
        highest = std::max(highest, log);
        rows.push_back(from[i] + p * dim);
        weights.push_back(log);
      });
      for (Wide& w : weights) {
        w = std::exp(w - highest);
        weight += w;
      }
      const Wide scale = weight > 0 ? 1 / weight : 0;
      sum_weighted_rows(weights.data(), rows.data(), std::ssize(rows), dim, scale, to + r * dim);
      to_log[r] = weight > 0 ? highest + std::log(weight) : kNone;
    }
  });
}

/// Gradients of part `part`. `rest` = d_lse - d_o·o and `total`: by row of the merged.
template <typename T, typename Wide>
void part_gradients(const Layout& layout, const Layout::Part& part, const Tensor& o,
                    const Tensor& lse, const Tensor& d_o, const Tensor& total, const Tensor& rest,
                    const Tensor& d_part, const Tensor& d_lse_part) {
  const int64_t dim = layout.dim, heads = part.heads;
  const bool shared = heads == layout.heads;
  const T* d_out = d_o.const_data_ptr<T>();
  const T* own = o.const_data_ptr<T>();
  const Wide* logs = lse.const_data_ptr<Wide>();
  const Wide* totals = total.const_data_ptr<Wide>();
  const Wide* rests = rest.const_data_ptr<Wide>();
  T* to = d_part.mutable_data_ptr<T>();
  Wide* to_log = d_lse_part.mutable_data_ptr<Wide>();
  const int64_t* begin = part.direct() ? nullptr : part.rows.begin.const_data_ptr<int64_t>();
  const int64_t* order = part.direct() ? nullptr : part.rows.order.const_data_ptr<int64_t>();
  constexpr Wide kNone = -std::numeric_limits<Wide>::infinity();
  at::parallel_for(0, part.count * heads, kGrain, [&](int64_t first, int64_t last) {
    std::vector<Wide> sum(static_cast<size_t>(dim)), weights;
    std::vector<const T*> rows;
    for (int64_t p = first; p < last; ++p) {
      Wide d_log = 0;
      rows.clear();
      weights.clear();
      const auto add = [&](int64_t r) {  // of the merged
        if (totals[r] == kNone) return;
        const Wide w = std::exp(logs[p] - totals[r]);
        d_log += w * rests[r];
        rows.push_back(d_out + r * dim);
        weights.push_back(w);
      };
      if (logs[p] != kNone && part.direct()) {
        add(p);
      } else if (logs[p] != kNone) {
        const int64_t row = shared ? p / heads : p, h = shared ? p % heads : 0;
        for (int64_t e = begin[row]; e < begin[row + 1]; ++e) {
          const int64_t of = order[e] / part.slots;
          add(shared ? of * layout.heads + h : of);
        }
      }
      sum_weighted_rows(weights.data(), rows.data(), std::ssize(rows), dim, Wide(1), sum.data());
      to_log[p] = d_log + dot<Wide>(sum.data(), own + p * dim, dim);
      std::copy(sum.begin(), sum.end(), to + p * dim);
    }
  });
}

/// d_lse - d_o·o
template <typename T, typename Wide>
void rest_of(const Layout& layout, const Tensor& o, const Tensor& d_o, const Tensor& d_lse,
             const Tensor& rest) {
  const int64_t dim = layout.dim;
  const T* x = o.const_data_ptr<T>();
  const T* y = d_o.const_data_ptr<T>();
  const Wide* d_log = d_lse.defined() ? d_lse.const_data_ptr<Wide>() : nullptr;
  Wide* to = rest.mutable_data_ptr<Wide>();
  at::parallel_for(0, layout.tokens * layout.heads, kGrain, [&](int64_t first, int64_t last) {
    for (int64_t r = first; r < last; ++r) {
      to[r] = (d_log ? d_log[r] : Wide(0)) - dot<Wide>(x + r * dim, y + r * dim, dim);
    }
  });
}

/// The layout as autograd keeps it: three numbers a part, and its map's tensors.
void save(AutogradContext* ctx, const Layout& layout, variable_list tensors) {
  std::vector<int64_t> numbers = {layout.tokens, layout.heads, layout.dim};
  for (const Layout::Part& part : layout.parts) {
    numbers.insert(numbers.end(), {part.slots, part.heads, part.count});
    tensors.insert(tensors.end(), {part.rows.index, part.rows.begin, part.rows.order});
  }
  ctx->save_for_backward(std::move(tensors));
  ctx->saved_data["layout"] = numbers;
}

Layout saved_layout(AutogradContext* ctx, const variable_list& saved) {
  const std::vector<int64_t> n = ctx->saved_data["layout"].toIntVector();
  Layout layout{{}, n[0], n[1], n[2]};
  const size_t parts = n.size() / 3 - 1;
  for (size_t i = 0; i < parts; ++i) {
    const size_t at = saved.size() - 3 * (parts - i);
    layout.parts.push_back(
        {{saved[at], saved[at + 1], saved[at + 2], {}}, n[3 * i + 3], n[3 * i + 4], n[3 * i + 5]});
  }
  return layout;
}

struct MergeFunction : torch::autograd::Function<MergeFunction> {
  /// tensors: every part's o, then every part's lse by row.
  static variable_list forward(AutogradContext* ctx, at::TensorList tensors, const Layout& layout) {
    at::AutoDispatchBelowADInplaceOrView below;
    const size_t parts = layout.parts.size();
    const Tensor& o = tensors[0];
    const Tensor out = at::empty({layout.tokens, layout.heads, layout.dim}, o.options());
    const Tensor total = at::empty({layout.tokens, layout.heads}, tensors[parts].options());
    AT_DISPATCH_FLOATING_TYPES_AND2(at::kBFloat16, at::kHalf, o.scalar_type(), "merge_rows", [&] {
      merge<scalar_t, at::opmath_type<scalar_t>>(layout, tensors.slice(0, parts),
                                                 tensors.slice(parts), out, total);
    });
    variable_list saved = tensors.vec();
    saved.insert(saved.end(), {out, total});
    save(ctx, layout, std::move(saved));
    ctx->set_materialize_grads(false);
    return {out, total};
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& d) {
    const auto saved = ctx->get_saved_variables();
    const Layout layout = saved_layout(ctx, saved);
    const size_t parts = layout.parts.size();
    const Tensor &out = saved[2 * parts], &total = saved[2 * parts + 1];
    variable_list gradients(2 * parts);
    {
      at::AutoDispatchBelowADInplaceOrView below;
      const Tensor d_o = d[0].defined() ? d[0].contiguous() : at::zeros_like(out);
      const Tensor d_lse = d[1].defined() ? d[1].contiguous() : Tensor();
      const Tensor rest = at::empty_like(total);
      AT_DISPATCH_FLOATING_TYPES_AND2(
          at::kBFloat16, at::kHalf, out.scalar_type(), "merge_rows", [&] {
            using Wide = at::opmath_type<scalar_t>;
            rest_of<scalar_t, Wide>(layout, out, d_o, d_lse, rest);
            for (size_t i = 0; i < parts; ++i) {
              gradients[i] = at::empty_like(saved[i]);
              gradients[parts + i] = at::empty_like(saved[parts + i]);
              part_gradients<scalar_t, Wide>(layout, layout.parts[i], saved[i], saved[parts + i],
                                             d_o, total, rest, gradients[i], gradients[parts + i]);
            }
          });
    }
    gradients = ops::mark_once("merge_rows", {d[0], d[1]}, gradients);
    gradients.emplace_back();  // of the layout
    return gradients;
  }
};

}  // namespace

std::tuple<Tensor, Tensor> merge_rows(const std::vector<PartialResult>& parts) {
  TORCH_CHECK(!parts.empty() && !parts[0].rows.index.defined(),
              "merge_rows: expected a first part with every token");
  variable_list tensors, logs;
  for (const PartialResult& part : parts) {
    tensors.push_back(part.o.contiguous());
    logs.push_back(part.lse.transpose(0, 1).contiguous());
  }
  tensors.insert(tensors.end(), logs.begin(), logs.end());
  const variable_list merged = MergeFunction::apply(at::TensorList(tensors), layout_of(parts));
  return {merged[0], merged[1].transpose(0, 1)};
}

}  // namespace fovea::nn
