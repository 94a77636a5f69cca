// Counter-based dropout: every element's fate is a function of (seed, index), so any thread can
// decide any element, and the backward decides again instead of keeping a mask.
#include "fovea/ops/dropout.h"

#include <algorithm>
#include <array>
#include <optional>
#include <type_traits>

#include <ATen/Dispatch.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/ops/empty.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

#include "fovea/core/philox.h"
#include "fovea/ops/tensor_bridge.h"

namespace fovea::ops {
namespace {

using at::Tensor;
using MaybeTensor = std::optional<Tensor>;

constexpr int64_t kCalls = 64;          // Philox calls of a block, a lane each
constexpr int64_t kBlock = 4 * kCalls;  // elements of a block
constexpr int64_t kBlocksPerTask = 64;  // 16,384 elements

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#define FOVEA_CLONES __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define FOVEA_CLONES
#endif

/// keep[64 w + c] = 1 or 0 from word w of Philox call first_call + c. first_call is a multiple of
/// 64, so that the counter's low word never wraps inside a block. Written so that the loop over
/// calls becomes vectors with all ten rounds in registers: 0.9 ns an element and thread on Zen 4
/// (2026-11), 1.4 with the rounds outside.
FOVEA_CLONES void keep_block(uint64_t first_call, uint64_t seed, uint32_t threshold, float* keep) {
  const uint32_t low = static_cast<uint32_t>(first_call);
  const uint32_t high = static_cast<uint32_t>(first_call >> 32);
  const std::array<uint32_t, 2> key = {static_cast<uint32_t>(seed),
                                       static_cast<uint32_t>(seed >> 32)};
  for (uint32_t c = 0; c < kCalls; ++c) {
    uint32_t c0 = low + c, c1 = high, c2 = 0, c3 = 0, k0 = key[0], k1 = key[1];
#pragma GCC unroll 10
    for (int round = 0; round < 10; ++round) {  // philox4x32() of core/philox.h
      const uint64_t p0 = uint64_t{0xD2511F53u} * c0;
      const uint64_t p1 = uint64_t{0xCD9E8D57u} * c2;
      c0 = static_cast<uint32_t>(p1 >> 32) ^ c1 ^ k0;
      c2 = static_cast<uint32_t>(p0 >> 32) ^ c3 ^ k1;
      c1 = static_cast<uint32_t>(p1);
      c3 = static_cast<uint32_t>(p0);
      k0 += 0x9E3779B9u;
      k1 += 0xBB67AE85u;
    }
    keep[c] = c0 >= threshold ? 1.0f : 0.0f;
    keep[c + kCalls] = c1 >= threshold ? 1.0f : 0.0f;
    keep[c + 2 * kCalls] = c2 >= threshold ? 1.0f : 0.0f;
    keep[c + 3 * kCalls] = c3 >= threshold ? 1.0f : 0.0f;
  }
}

template <typename T>
void dropout_blocks(const T* x, const T* residual, T* y, int64_t begin, int64_t end, double p,
                    uint64_t seed) {
  using Compute = std::conditional_t<std::is_same_v<T, double>, double, float>;
  const Compute scale = static_cast<Compute>(1 / (1 - p));
  const uint32_t threshold = dropout_threshold(p);
  alignas(64) float keep[kBlock];
  for (int64_t i = begin; i < end; i += kBlock) {
    keep_block(static_cast<uint64_t>(i) / 4, seed, threshold, keep);
    const int64_t n = std::min(kBlock, end - i);
    if (residual) {
      for (int64_t j = 0; j < n; ++j) {
        y[i + j] = static_cast<T>(static_cast<Compute>(residual[i + j]) +
                                  static_cast<Compute>(x[i + j]) * (keep[j] * scale));
      }
    } else {
      for (int64_t j = 0; j < n; ++j) {
        y[i + j] = static_cast<T>(static_cast<Compute>(x[i + j]) * (keep[j] * scale));
      }
    }
  }
}

void check_arguments(const Tensor& x, double p, const MaybeTensor& residual) {
  TORCH_CHECK(p >= 0 && p < 1, "fovea::dropout: expected p in [0, 1), got ", p);
  TORCH_CHECK(at::isFloatingType(x.scalar_type()),
              "fovea::dropout: expected a floating-point tensor, got ", x.scalar_type());
  if (!residual) return;
  TORCH_CHECK(residual->scalar_type() == x.scalar_type(),
              "fovea::dropout: expected a residual of x's type, got ", residual->scalar_type(),
              " and ", x.scalar_type());
  TORCH_CHECK(residual->dim() == x.dim(), "fovea::dropout: expected a residual of x's shape, got ",
              residual->dim(), " and ", x.dim(), " dimensions");
}

Tensor dropout_cpu(const Tensor& x, double p, c10::SymInt seed, const MaybeTensor& residual) {
  check_arguments(x, p, residual);
  TORCH_CHECK(!residual || residual->sizes() == x.sizes(),
              "fovea::dropout: expected a residual of x's shape");
  const Tensor x_dense = x.contiguous();
  const Tensor residual_dense = residual ? residual->contiguous() : Tensor();
  const Tensor y = at::empty(x.sizes(), x.options());
  const auto seed_bits = static_cast<uint64_t>(seed.guard_int(__FILE__, __LINE__));
  const int64_t n = x.numel(), task_size = kBlock * kBlocksPerTask;
  AT_DISPATCH_FLOATING_TYPES_AND2(at::kBFloat16, at::kHalf, x.scalar_type(), "fovea::dropout", [&] {
    const scalar_t* from = x_dense.const_data_ptr<scalar_t>();
    const scalar_t* base = residual ? residual_dense.const_data_ptr<scalar_t>() : nullptr;
    scalar_t* to = y.mutable_data_ptr<scalar_t>();
    parallel_for((n + task_size - 1) / task_size, [&](int64_t task, int) {
      dropout_blocks(from, base, to, task * task_size, std::min(n, (task + 1) * task_size), p,
                     seed_bits);
    });
  });
  return y;
}

Tensor dropout_meta(const Tensor& x, double p, c10::SymInt, const MaybeTensor& residual) {
  check_arguments(x, p, residual);
  return at::empty_symint(x.sym_sizes(), x.options());
}

Tensor call_dropout(const Tensor& x, double p, const c10::SymInt& seed,
                    const MaybeTensor& residual) {
  static const auto op =
      c10::Dispatcher::singleton()
          .findSchemaOrThrow("fovea::dropout", "")
          .typed<Tensor(const Tensor&, double, c10::SymInt, const MaybeTensor&)>();
  return op.call(x, p, seed, residual);
}

// Linear in x and residual: its gradient is the same operator, so it is differentiable at will.
struct DropoutFunction : torch::autograd::Function<DropoutFunction> {
  static Tensor forward(torch::autograd::AutogradContext* ctx, const Tensor& x, double p,
                        const c10::SymInt& seed, const MaybeTensor& residual) {
    at::AutoDispatchBelowADInplaceOrView below;
    ctx->saved_data["p"] = p;
    ctx->saved_data["seed"] = seed;
    ctx->saved_data["has_residual"] = residual.has_value();
    return call_dropout(x, p, seed, residual);
  }
  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* ctx,
                                                 const torch::autograd::variable_list& d) {
    const Tensor d_x = ctx->needs_input_grad(0)
                           ? call_dropout(d[0], ctx->saved_data["p"].toDouble(),
                                          ctx->saved_data["seed"].toSymInt(), std::nullopt)
                           : Tensor();
    return {d_x, Tensor(), Tensor(), ctx->saved_data["has_residual"].toBool() ? d[0] : Tensor()};
  }
};

Tensor dropout_autograd(const Tensor& x, double p, c10::SymInt seed, const MaybeTensor& residual) {
  if (at::GradMode::is_enabled() &&
      (x.requires_grad() || (residual && residual->requires_grad()))) {
    return DropoutFunction::apply(x, p, seed, residual);
  }
  at::AutoDispatchBelowADInplaceOrView below;
  return call_dropout(x, p, seed, residual);
}

}  // namespace

Tensor dropout(const Tensor& x, double p, int64_t seed, const Tensor& residual) {
  return call_dropout(x, p, seed, residual.defined() ? MaybeTensor(residual) : std::nullopt);
}

TORCH_LIBRARY_IMPL(fovea, CPU, m) { m.impl("dropout", dropout_cpu); }
TORCH_LIBRARY_IMPL(fovea, Meta, m) { m.impl("dropout", dropout_meta); }
TORCH_LIBRARY_IMPL(fovea, Autograd, m) { m.impl("dropout", dropout_autograd); }

}  // namespace fovea::ops
