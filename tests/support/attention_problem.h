#pragma once

#include <cmath>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "fovea/attention/attention.h"
#include "fovea/attention/attention_case.h"
#include "fovea/reference/attention_reference.h"

namespace fovea::testing {

/// A tensor with storage of its own. Element [b, h, s, d] lies at `offset` + strides; everything
/// that is not an element holds NaN, so that a read beyond the rows shows.
class Tensor {
 public:
  /// `pad` extra elements after every row, `offset` elements before the first (misalignment).
  Tensor(DType dtype, int64_t b, int64_t h, int64_t s, int64_t d, bool bshd = false,
         int64_t pad = 0, int64_t offset = 0) {
    view_.dtype = dtype;
    const int64_t row = d + pad;
    const int64_t shape[4] = {b, h, s, d};
    const int64_t bhsd[4] = {h * s * row, s * row, row, 1};
    const int64_t bshd_strides[4] = {s * h * row, row, h * row, 1};
    for (int i = 0; i < 4; ++i) {
      view_.shape[i] = shape[i];
      view_.strides[i] = bshd ? bshd_strides[i] : bhsd[i];
    }
    const size_t elements = static_cast<size_t>(offset + b * h * s * row + 16);
    bytes_.resize(elements * static_cast<size_t>(size_of(dtype)));
    view_.data = bytes_.data();
    TensorView all = contiguous_view(bytes_.data(), dtype, 1, 1, 1, static_cast<int64_t>(elements));
    for (size_t i = 0; i < elements; ++i) {
      set(all, static_cast<int64_t>(i), std::numeric_limits<double>::quiet_NaN());
    }
    view_.data = bytes_.data() + offset * size_of(dtype);
  }

  const TensorView& view() const { return view_; }
  double get(int64_t b, int64_t h, int64_t s, int64_t d) const {
    return get(view_, at(b, h, s, d));
  }
  void put(int64_t b, int64_t h, int64_t s, int64_t d, double x) { set(view_, at(b, h, s, d), x); }

  /// Normally distributed, rounded to the storage type.
  void fill(uint32_t seed, double size = 1) {
    std::mt19937 random(seed);
    std::normal_distribution<double> normal(0, size);
    each([&](int64_t b, int64_t h, int64_t s, int64_t d) { put(b, h, s, d, normal(random)); });
  }
  void fill_row(int64_t b, int64_t h, int64_t s, double x) {
    for (int64_t d = 0; d < view_.shape[3]; ++d) put(b, h, s, d, x);
  }

  /// All elements as doubles, contiguous.
  std::vector<double> values() const {
    std::vector<double> out;
    each([&](int64_t b, int64_t h, int64_t s, int64_t d) { out.push_back(get(b, h, s, d)); });
    return out;
  }
  const std::vector<char>& bytes() const { return bytes_; }

 private:
  template <typename F>
  void each(const F& f) const {
    for (int64_t b = 0; b < view_.shape[0]; ++b) {
      for (int64_t h = 0; h < view_.shape[1]; ++h) {
        for (int64_t s = 0; s < view_.shape[2]; ++s) {
          for (int64_t d = 0; d < view_.shape[3]; ++d) f(b, h, s, d);
        }
      }
    }
  }
  int64_t at(int64_t b, int64_t h, int64_t s, int64_t d) const {
    const int64_t* t = view_.strides;
    return b * t[0] + h * t[1] + s * t[2] + d * t[3];
  }
  static double get(const TensorView& v, int64_t i) {
    if (v.dtype == DType::kF64) return static_cast<const double*>(v.data)[i];
    if (v.dtype == DType::kF32) return static_cast<const float*>(v.data)[i];
    if (v.dtype == DType::kF16) return static_cast<float>(static_cast<const Float16*>(v.data)[i]);
    return static_cast<float>(static_cast<const BFloat16*>(v.data)[i]);
  }
  static void set(const TensorView& v, int64_t i, double x) {
    if (v.dtype == DType::kF64) {
      static_cast<double*>(v.data)[i] = x;
    } else if (v.dtype == DType::kF32) {
      static_cast<float*>(v.data)[i] = static_cast<float>(x);
    } else if (v.dtype == DType::kF16) {
      static_cast<Float16*>(v.data)[i] = Float16(static_cast<float>(x));
    } else {
      static_cast<BFloat16*>(v.data)[i] = BFloat16(static_cast<float>(x));
    }
  }

  TensorView view_;
  std::vector<char> bytes_;
};

/// Everything that one case needs: inputs, outputs, gradients, plans, and the oracle's problem.
struct CaseTensors {
  explicit CaseTensors(const AttentionCase& the_case, uint32_t seed = 1, int64_t pad = 0,
                       int64_t offset = 0)
      : c(the_case),
        inputs(c),
        plans(inputs.plans(c)),
        q(c.dtype, c.batch, c.heads, c.q_len, c.head_dim, c.bshd, pad, offset),
        k(c.dtype, c.batch, c.kv_heads, c.kv_len, c.head_dim, c.bshd, pad, offset),
        v(c.dtype, c.batch, c.kv_heads, c.kv_len, c.value_dim, c.bshd, pad, offset),
        o(c.dtype, c.batch, c.heads, c.q_len, c.value_dim, c.bshd, pad, offset),
        lse(lse_type(), c.batch, c.heads, c.q_len, 1),
        row_entropy(lse_type(), c.batch, c.heads, c.q_len, 1),
        column_mass(lse_type(), c.batch, c.heads, c.kv_len, 1),
        d_o(c.dtype, c.batch, c.heads, c.q_len, c.value_dim, c.bshd, pad, offset),
        d_lse(lse_type(), c.batch, c.heads, c.q_len, 1),
        d_q(c.dtype, c.batch, c.heads, c.q_len, c.head_dim, c.bshd, pad, offset),
        d_k(c.dtype, c.batch, c.kv_heads, c.kv_len, c.head_dim, c.bshd, pad, offset),
        d_v(c.dtype, c.batch, c.kv_heads, c.kv_len, c.value_dim, c.bshd, pad, offset),
        mod(c, c.dtype),
        oracle_mod(c, DType::kF64),
        d_bias(gradient_of(mod.mod().bias)),
        d_distance_bias(gradient_of(mod.mod().distance_bias)),
        d_additive(gradient_of(mod.mod().additive)),
        d_sinks(c.sinks ? static_cast<size_t>(c.heads) : 0),
        d_scales(c.scales ? static_cast<size_t>(c.heads) : 0) {
    uint32_t i = seed * 100;
    for (Tensor* t : {&q, &k, &v, &d_o, &d_lse}) t->fill(i++);
  }
  CaseTensors(const CaseTensors&) = delete;

  Tensor gradient_of(const TensorView& bias) const {
    return {lse_type(), bias.shape[0], bias.shape[1], bias.shape[2], bias.shape[3]};
  }
  DType lse_type() const { return c.dtype == DType::kF64 ? DType::kF64 : DType::kF32; }

  AttentionProblem problem() const {
    AttentionProblem p;
    p.q = q.view();
    p.k = k.view();
    p.v = v.view();
    p.plans = &plans;
    p.score_mod = mod.mod();
    p.score_mod.scale = scale;
    p.precision = c.precision;
    p.dropout_p = c.dropout_percent / 100.0;
    p.dropout_seed = 0x123456789ABCDEF0u;
    return p;
  }
  AttentionOutputs outputs() const { return {o.view(), lse.view()}; }
  AttentionGradients gradients() const {
    AttentionGradients g = {d_o.view(), with_d_lse ? d_lse.view() : TensorView{}, d_q.view(),
                            d_k.view(), d_v.view()};
    if (c.bias) g.d_bias = d_bias.view();
    if (c.distance >= 0) g.d_distance_bias = d_distance_bias.view();
    if (c.additive) g.d_additive = d_additive.view();
    if (c.sinks) g.d_sinks = const_cast<double*>(d_sinks.data());
    if (c.scales) g.d_scales = const_cast<double*>(d_scales.data());
    return g;
  }

  reference::Problem oracle() const {
    reference::Problem p;
    p.batch = c.batch;
    p.heads = c.heads;
    p.kv_heads = c.kv_heads;
    p.q_len = c.q_len;
    p.kv_len = c.kv_len;
    p.head_dim = c.head_dim;
    p.value_dim = c.value_dim;
    p.q = q.values();
    p.k = k.values();
    p.v = v.values();
    p.pattern = Pattern::parse(c.pattern);
    p.alignment = c.alignment;
    p.inputs = inputs.view();
    p.score_mod = oracle_mod.mod();
    p.score_mod.scale = scale;
    p.dropout_p = c.dropout_percent / 100.0;
    p.dropout_seed = problem().dropout_seed;
    return p;
  }

  AttentionCase c;
  CaseInputs inputs;
  PlanSet plans;
  float scale = 0;
  bool with_d_lse = true;
  Tensor q, k, v, o, lse, row_entropy, column_mass, d_o, d_lse, d_q, d_k, d_v;
  CaseScoreMod mod, oracle_mod;
  Tensor d_bias, d_distance_bias, d_additive;
  std::vector<double> d_sinks, d_scales;
};

}  // namespace fovea::testing
