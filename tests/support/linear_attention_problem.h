#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <string>
#include <vector>

#include "tests/support/attention_problem.h"
#include "tests/support/tolerance.h"

#include "fovea/attention/linear_attention.h"
#include "fovea/kernels/attention/engine.h"
#include "fovea/reference/linear_attention_reference.h"

namespace fovea::testing {

enum class DecayKind { kNone, kHead, kStep, kChannel };

/// What a test of linear attention varies.
struct LinearCase {
  int64_t batch = 1, heads = 2, q_len = 70, kv_len = 70, head_dim = 16, value_dim = 16;
  DType dtype = DType::kF32;
  FeatureMap map = FeatureMap::kEluPlusOne;
  bool causal = true, normalise = true;
  DecayKind decay = DecayKind::kNone;
  bool delta = false;  ///< delta writes; keys of norm 1
  bool states = false;
  std::vector<int32_t> bounds;  ///< of packed documents, the same for q and k
  int64_t pad = 0, offset = 0;
  bool bshd = false;

  std::string to_string() const {
    return "b" + std::to_string(batch) + "_h" + std::to_string(heads) + "_q" +
           std::to_string(q_len) + "_k" + std::to_string(kv_len) + "_d" + std::to_string(head_dim) +
           "_v" + std::to_string(value_dim) + "_" + name_of(dtype) + "_" + name_of(map) +
           (causal ? "_causal" : "") + (normalise ? "_normalised" : "") +
           (decay == DecayKind::kHead      ? "_headdecay"
            : decay == DecayKind::kStep    ? "_stepdecay"
            : decay == DecayKind::kChannel ? "_channeldecay"
                                           : "") +
           (delta ? "_delta" : "") + (states ? "_states" : "");
  }
};

/// Tensors of a case, and the oracle's problem.
struct LinearTensors {
  explicit LinearTensors(const LinearCase& the_case, uint32_t seed = 1)
      : c(the_case),
        q(c.dtype, c.batch, c.heads, c.q_len, c.head_dim, c.bshd, c.pad, c.offset),
        k(c.dtype, c.batch, c.heads, c.kv_len, c.head_dim, c.bshd, c.pad, c.offset),
        v(c.dtype, c.batch, c.heads, c.kv_len, c.value_dim, c.bshd, c.pad, c.offset),
        decay(type(), c.decay == DecayKind::kHead ? 1 : c.batch, c.heads,
              c.decay == DecayKind::kHead ? 1 : c.kv_len, channels(), false,
              c.decay == DecayKind::kChannel ? c.pad : 0),
        beta(type(), c.batch, c.heads, c.kv_len, 1),
        initial(type(), sequences(), c.heads, c.head_dim, columns()),
        o(c.dtype, c.batch, c.heads, c.q_len, c.value_dim, c.bshd, c.pad, c.offset),
        denominator(type(), c.batch, c.heads, c.q_len, 1),
        final(type(), sequences(), c.heads, c.head_dim, columns()),
        d_o(c.dtype, c.batch, c.heads, c.q_len, c.value_dim, c.bshd, c.pad, c.offset),
        d_final(type(), sequences(), c.heads, c.head_dim, columns()),
        d_q(c.dtype, c.batch, c.heads, c.q_len, c.head_dim, c.bshd, c.pad, c.offset),
        d_k(c.dtype, c.batch, c.heads, c.kv_len, c.head_dim, c.bshd, c.pad, c.offset),
        d_v(c.dtype, c.batch, c.heads, c.kv_len, c.value_dim, c.bshd, c.pad, c.offset),
        d_decay(type(), c.batch, c.heads, c.kv_len, channels()),
        d_beta(type(), c.batch, c.heads, c.kv_len, 1),
        d_initial(type(), sequences(), c.heads, c.head_dim, columns()) {
    uint32_t i = seed * 100;
    for (Tensor* t : {&q, &k, &v, &decay, &initial, &d_o, &d_final, &beta}) t->fill(i++);
    // Denominators that pass through 0 have no meaning: positive where the map is not.
    if (c.normalise && c.map == FeatureMap::kIdentity) {
      for (Tensor* t : {&q, &k}) map(*t, [](double x) { return std::fabs(x); });
    }
    map(initial, [](double x) { return std::fabs(x); });
    map(decay, [](double x) { return -std::fabs(x) / 4; });
    map(beta, [](double x) { return 1 / (1 + std::exp(-x)); });
    if (c.delta) normalise_keys();
  }
  LinearTensors(const LinearTensors&) = delete;

  DType type() const { return c.dtype == DType::kF64 ? DType::kF64 : DType::kF32; }
  int64_t sequences() const {
    return c.bounds.empty() ? c.batch : static_cast<int64_t>(c.bounds.size()) - 1;
  }
  int64_t channels() const { return c.decay == DecayKind::kChannel ? c.head_dim : 1; }
  int64_t columns() const { return c.value_dim + (c.normalise ? 1 : 0); }

  LinearAttentionProblem problem() const {
    LinearAttentionProblem p;
    p.q = q.view();
    p.k = k.view();
    p.v = v.view();
    if (c.decay != DecayKind::kNone) p.decay = decay_view();
    if (c.delta) p.beta = beta.view();
    if (c.states) p.initial_state = initial.view();
    p.cu_seqlens_q = p.cu_seqlens_k = c.bounds;
    p.map = c.map;
    p.causal = c.causal;
    p.normalise = c.normalise;
    p.scale = c.normalise ? 1 : 0.75;
    p.eps = 0.125;
    return p;
  }
  LinearAttentionOutputs outputs() const { return {o.view(), denominator.view(), final.view()}; }
  LinearAttentionGradients gradients() const {
    LinearAttentionGradients g;
    g.d_o = d_o.view();
    g.d_q = d_q.view();
    g.d_k = d_k.view();
    g.d_v = d_v.view();
    if (c.decay != DecayKind::kNone) g.d_decay = d_decay.view();
    if (c.delta) g.d_beta = d_beta.view();
    if (c.states) {
      g.d_final_state = d_final.view();
      g.d_initial_state = d_initial.view();
    }
    return g;
  }

  reference::LinearProblem oracle() const {
    const LinearAttentionProblem p = problem();
    reference::LinearProblem r;
    r.batch = c.batch;
    r.heads = c.heads;
    r.q_len = c.q_len;
    r.kv_len = c.kv_len;
    r.head_dim = c.head_dim;
    r.value_dim = c.value_dim;
    r.q = q.values();
    r.k = k.values();
    r.v = v.values();
    if (c.decay != DecayKind::kNone) {
      for (int64_t b = 0; b < c.batch; ++b) {
        for (int64_t h = 0; h < c.heads; ++h) {
          for (int64_t s = 0; s < c.kv_len; ++s) {
            const bool head = c.decay == DecayKind::kHead;
            for (int64_t d = 0; d < channels(); ++d) {
              r.decay.push_back(decay.get(head ? 0 : b, h, head ? 0 : s, d));
            }
          }
        }
      }
    }
    if (c.delta) r.beta = beta.values();
    if (c.states) r.initial_state = initial.values();
    r.cu_seqlens_q.assign(c.bounds.begin(), c.bounds.end());
    r.cu_seqlens_k = r.cu_seqlens_q;
    r.map = c.map;
    r.causal = c.causal;
    r.normalise = c.normalise;
    r.scale = p.scale;
    r.eps = p.eps;
    return r;
  }

  template <typename F>
  static void map(Tensor& t, const F& f) {
    const TensorView& x = t.view();
    for (int64_t b = 0; b < x.shape[0]; ++b) {
      for (int64_t h = 0; h < x.shape[1]; ++h) {
        for (int64_t s = 0; s < x.shape[2]; ++s) {
          for (int64_t d = 0; d < x.shape[3]; ++d) t.put(b, h, s, d, f(t.get(b, h, s, d)));
        }
      }
    }
  }

  LinearCase c;
  Tensor q, k, v, decay, beta, initial, o, denominator, final;
  Tensor d_o, d_final, d_q, d_k, d_v, d_decay, d_beta, d_initial;

 private:
  void normalise_keys() {
    for (int64_t b = 0; b < c.batch; ++b) {
      for (int64_t h = 0; h < c.heads; ++h) {
        for (int64_t s = 0; s < c.kv_len; ++s) {
          double square = 0;
          for (int64_t d = 0; d < c.head_dim; ++d) square += k.get(b, h, s, d) * k.get(b, h, s, d);
          for (int64_t d = 0; d < c.head_dim; ++d) {
            k.put(b, h, s, d, k.get(b, h, s, d) / std::sqrt(square));
          }
        }
      }
    }
  }
  TensorView decay_view() const {
    TensorView view = decay.view();
    if (c.decay == DecayKind::kHead) {
      view.shape[0] = c.batch;
      view.shape[2] = c.kv_len;
      view.strides[0] = view.strides[2] = 0;
    }
    return view;
  }
};

/// Whether linear attention multiplies operands that it rounded to bf16, on the present engine.
inline bool rounds_operands(DType dtype, bool delta) {
  return dtype == DType::kBF16 && !delta && kernels::engine_for(dtype).linear_bf16;
}

/// What the oracle says, and how far each number may be off.
///
/// Every result is a sum of products. Its bound is u·(8 + √L) times the same sum over absolute
/// values (which the oracle computes, given absolute features, values and gradients), u the spacing
/// of the arithmetic: rounding errors of L = D + Dv + n terms add like a random walk, and 8 stands
/// for the map, the decay's exponential and the division. On top comes half a spacing s of the
/// storage type for what is stored in it; the backward reads the stored o, which adds s/2 to its
/// own factor under the normaliser.
///
/// Operands that are rounded to bf16 (`rounded`) each bring half a spacing of it: features, states,
/// weights and scaled gradients, of which a product of the forward has at most 3 and one of the
/// backward 4. The normaliser's own weights have 2; a gradient through it has those of o as well.
///
/// Under delta writes errors go through steps that shrink a column of the state in its norm, not
/// element by element: absolute values are those of norms there. A key's elements become |k| / √D,
/// what is written β (|v| + |S'| |k|) with the column's norm, and additively so; a result that has
/// an element for each feature is bounded by the norm over them.
class LinearExpectation {
 public:
  explicit LinearExpectation(const LinearTensors& t)
      : t_(t), p_(t.oracle()), forward(reference::linear_attention_forward(p_)) {
    const std::vector<double> d_o = t.d_o.values();
    backward = reference::linear_attention_backward(
        p_, d_o, t.c.states ? t.d_final.values() : std::vector<double>{});
    const auto terms = static_cast<double>(p_.head_dim + p_.value_dim + p_.kv_len);
    factor_ = eps(t.type()) * (8 + std::sqrt(terms));
    storage_ = t.type() == t.c.dtype ? 0 : eps(t.c.dtype) / 2;
    bound_by_absolute_values(d_o);
  }

  struct Bounded {
    std::vector<double> value, bound;
    std::vector<double> rounded;  ///< in addition, where operands are rounded
  };
  Bounded o, denominator, final, d_q, d_k, d_v, d_decay, d_beta, d_initial;

 private:
  static double feature(FeatureMap map, double x) {
    if (map == FeatureMap::kEluPlusOne) return x > 0 ? x + 1 : std::exp(x);
    return map == FeatureMap::kRelu ? std::max(x, 0.0) : x;
  }
  static double slope(FeatureMap map, double x) {
    if (map == FeatureMap::kEluPlusOne) return x > 0 ? 1 : std::exp(x);
    return map == FeatureMap::kRelu && x <= 0 ? 0 : 1;
  }

  static std::vector<double> absolute(std::vector<double> x) {
    for (double& value : x) value = std::fabs(value);
    return x;
  }

  /// Rows of x with one more column.
  static std::vector<double> extended(const std::vector<double>& x, int64_t dim,
                                      const std::vector<double>& last) {
    std::vector<double> out;
    for (size_t r = 0; r < last.size(); ++r) {
      out.insert(out.end(), x.begin() + static_cast<int64_t>(r) * dim,
                 x.begin() + static_cast<int64_t>(r + 1) * dim);
      out.push_back(last[r]);
    }
    return out;
  }
  static std::vector<double> without_last(const std::vector<double>& x, int64_t dim) {
    std::vector<double> out;
    for (size_t i = 0; i < x.size(); ++i) {
      if (static_cast<int64_t>(i) % (dim + 1) != dim) out.push_back(x[i]);
    }
    return out;
  }

  void bound_by_absolute_values(const std::vector<double>& d_o) {
    const int64_t dv = p_.value_dim;
    reference::LinearProblem a = p_;  // the normaliser becomes one more value, 1
    a.map = FeatureMap::kIdentity;
    a.normalise = false;
    a.scale = 1;
    for (double& x : a.q) x = std::fabs(feature(p_.map, x));
    for (double& x : a.k) x = std::fabs(feature(p_.map, x));
    a.v = extended(absolute(p_.v), dv, std::vector<double>(rows(p_.kv_len), 1.0));
    a.value_dim = dv + 1;
    a.initial_state = absolute(a.initial_state);
    if (t_.c.delta) write_norms(&a);
    std::vector<double> d_final = t_.c.states ? absolute(t_.d_final.values()) : a.initial_state;
    if (t_.c.states && !p_.normalise) {
      const std::vector<double> none(a.initial_state.size() / static_cast<size_t>(dv), 0.0);
      a.initial_state = extended(a.initial_state, dv, none);
      if (t_.c.delta) level(&d_final, static_cast<size_t>(p_.head_dim), static_cast<size_t>(dv));
      d_final = extended(d_final, dv, none);
    }
    // Gradients of the sums: r d_o, and c = r d_o·o.
    std::vector<double> d_num(d_o), d_den(rows(p_.q_len), 0.0), r(rows(p_.q_len), p_.scale);
    for (size_t i = 0; i < d_num.size(); ++i) {
      const size_t row = i / static_cast<size_t>(dv);
      if (p_.normalise) r[row] = 1 / forward.denominator[row];
      d_num[i] = std::fabs(r[row] * d_o[i]);
      if (p_.normalise) d_den[row] += std::fabs(d_num[i] * forward.o[i]);
    }
    auto sums = reference::linear_attention_forward(a);
    auto g = reference::linear_attention_backward(a, extended(d_num, dv, d_den), d_final);
    if (t_.c.delta) {
      const double norm = std::sqrt(static_cast<double>(p_.head_dim));
      for (auto* x : {&sums.final_state, &g.d_q, &g.d_k, &g.d_initial_state}) {
        for (double& value : *x) value *= norm;
      }
    }
    fill_forward(sums, r);
    fill_backward(a, g);
  }

  /// Makes the elements of a column [rows] of every matrix equal, with the column's norm.
  static void level(std::vector<double>* x, size_t rows, size_t columns) {
    for (size_t i = 0; i < x->size(); i += rows * columns) {
      for (size_t c = i; c < i + columns; ++c) {
        double square = 0;
        for (size_t r = 0; r < rows; ++r) square += (*x)[c + r * columns] * (*x)[c + r * columns];
        for (size_t r = 0; r < rows; ++r) {
          (*x)[c + r * columns] = std::sqrt(square / static_cast<double>(rows));
        }
      }
    }
  }

  /// Turns `a` into the additive problem of norms.
  void write_norms(reference::LinearProblem* a) {
    const auto dim = static_cast<size_t>(p_.head_dim), dv = static_cast<size_t>(p_.value_dim);
    const auto len = static_cast<size_t>(p_.kv_len), heads = static_cast<size_t>(p_.heads);
    level(&a->q, dim, 1);
    level(&a->k, dim, 1);
    level(&a->initial_state, dim, dv);
    a->beta.clear();
    if (t_.c.decay == DecayKind::kChannel) {  // the slowest channel's for all
      for (size_t i = 0; i < a->decay.size(); i += dim) {
        const auto row = a->decay.begin() + static_cast<ptrdiff_t>(i);
        std::fill_n(row, dim, *std::max_element(row, row + static_cast<ptrdiff_t>(dim)));
      }
    }
    written_.assign(a->v.size(), 0.0);
    for (size_t n = 0; n < static_cast<size_t>(t_.sequences()); ++n) {
      const bool packed = !t_.c.bounds.empty();
      const size_t begin = packed ? static_cast<size_t>(t_.c.bounds[n]) : n * heads * len;
      const size_t steps = packed ? static_cast<size_t>(t_.c.bounds[n + 1]) - begin : len;
      for (size_t h = 0; h < heads; ++h) {
        std::vector<double> state(dim * dv, 0.0);
        const auto from = static_cast<ptrdiff_t>((n * heads + h) * dim * dv);
        if (t_.c.states) std::copy_n(p_.initial_state.begin() + from, dim * dv, state.begin());
        for (size_t s = 0; s < steps; ++s) step(begin + h * len + s, &state);
      }
    }
    for (size_t i = 0; i < written_.size(); ++i) a->v[i] = p_.beta[i / (dv + 1)] * written_[i];
  }

  /// |v| + |S'| |k| of a step into written_, and the step of the state.
  void step(size_t row, std::vector<double>* state) {
    const auto dim = static_cast<size_t>(p_.head_dim), dv = static_cast<size_t>(p_.value_dim);
    const bool by_channel = !p_.decay.empty() && p_.decay.size() == p_.k.size();
    double square = 0;
    for (size_t d = 0; d < dim; ++d) {
      const double k = feature(p_.map, p_.k[row * dim + d]);
      square += k * k;
      const double decay =
          p_.decay.empty() ? 1 : std::exp(p_.decay[by_channel ? row * dim + d : row]);
      for (size_t c = 0; c < dv; ++c) (*state)[d * dv + c] *= decay;
    }
    for (size_t c = 0; c < dv; ++c) {
      double norm = 0, u = p_.v[row * dv + c];
      for (size_t d = 0; d < dim; ++d) {
        const double x = (*state)[d * dv + c];
        norm += x * x;
        u -= x * feature(p_.map, p_.k[row * dim + d]);
      }
      written_[row * (dv + 1) + c] = std::fabs(p_.v[row * dv + c]) + std::sqrt(norm * square);
      for (size_t d = 0; d < dim; ++d) {
        (*state)[d * dv + c] += p_.beta[row] * u * feature(p_.map, p_.k[row * dim + d]);
      }
    }
  }

  void fill_forward(const reference::LinearForward& sums, const std::vector<double>& r) {
    const int64_t dv = p_.value_dim;
    const std::vector<double> numerators = without_last(sums.o, dv);
    for (size_t i = 0; i < forward.o.size(); ++i) {
      const size_t row = i / static_cast<size_t>(dv);
      double size = std::fabs(r[row]) * numerators[i];
      if (p_.normalise) {  // and the denominator's own error
        size += std::fabs(forward.o[i] * r[row]) *
                sums.o[row * static_cast<size_t>(dv + 1) + static_cast<size_t>(dv)];
      }
      push(o, forward.o[i], size, 0, storage_, 3);
    }
    for (size_t row = 0; row < forward.denominator.size(); ++row) {
      push(denominator, forward.denominator[row],
           sums.o[row * static_cast<size_t>(dv + 1) + static_cast<size_t>(dv)] + p_.eps, 0, 0, 2);
    }
    const std::vector<double> states =
        p_.normalise ? sums.final_state : without_last(sums.final_state, dv);
    for (size_t i = 0; i < states.size(); ++i)
      push(final, forward.final_state[i], states[i], 0, 0, 1);
  }

  void fill_backward(const reference::LinearProblem& a, const reference::LinearBackward& g) {
    const int64_t dim = p_.head_dim, dv = p_.value_dim;
    const double read = p_.normalise ? storage_ : 0;
    const int chain = p_.normalise ? 4 + 2 + 3 : 4;
    for (size_t i = 0; i < p_.q.size(); ++i) {
      push(d_q, backward.d_q[i], g.d_q[i] * slope(p_.map, p_.q[i]), read, storage_, chain);
    }
    for (size_t i = 0; i < p_.k.size(); ++i) {
      push(d_k, backward.d_k[i], g.d_k[i] * slope(p_.map, p_.k[i]), read, storage_, chain);
    }
    const std::vector<double> values = without_last(g.d_v, dv);
    for (size_t i = 0; i < values.size(); ++i) {
      const double beta = t_.c.delta ? p_.beta[i / static_cast<size_t>(dv)] : 1;
      push(d_v, backward.d_v[i], beta * values[i], 0, storage_, chain);
    }
    for (size_t row = 0; row < backward.d_beta.size(); ++row) {
      double size = 0;
      for (size_t c = row * static_cast<size_t>(dv + 1), n = 0; n < static_cast<size_t>(dv); ++n) {
        size += g.d_v[c + n] * written_[c + n];
      }
      push(d_beta, backward.d_beta[row], size, 0, 0, 0);
    }
    if (t_.c.states) {
      const std::vector<double> states =
          p_.normalise ? g.d_initial_state : without_last(g.d_initial_state, dv);
      for (size_t i = 0; i < states.size(); ++i) {
        push(d_initial, backward.d_initial_state[i], states[i], read, 0, chain);
      }
    }
    // A decay's gradient is a difference of sums over all later steps of the sequence.
    const int64_t channels = t_.channels();
    d_decay.value = backward.d_decay;
    d_decay.bound.assign(backward.d_decay.size(), 0.0);
    d_decay.rounded = d_decay.bound;
    std::vector<double> later(static_cast<size_t>(channels), 0.0);
    for (size_t row = rows(p_.kv_len); !p_.decay.empty() && row-- > 0;) {
      const auto in_head = static_cast<int32_t>(row % static_cast<size_t>(p_.kv_len));
      const bool last =
          in_head + 1 == p_.kv_len ||
          std::find(t_.c.bounds.begin(), t_.c.bounds.end(), in_head + 1) != t_.c.bounds.end();
      if (last) std::fill(later.begin(), later.end(), 0.0);
      for (int64_t d = 0; d < dim; ++d) {
        const size_t i = row * static_cast<size_t>(dim) + static_cast<size_t>(d);
        later[static_cast<size_t>(channels == 1 ? 0 : d)] += a.q[i] * g.d_q[i] + a.k[i] * g.d_k[i];
      }
      for (size_t c = 0; c < later.size(); ++c) {
        const size_t i = row * later.size() + c;
        d_decay.bound[i] = (factor_ + read) * (later[c] + g.d_decay[i]);
        d_decay.rounded[i] = chain * eps(DType::kBF16) / 2 * (later[c] + g.d_decay[i]);
      }
    }
  }

  size_t rows(int64_t len) const { return static_cast<size_t>(p_.batch * p_.heads * len); }

  /// `operands`: those in a row that may be rounded.
  void push(Bounded& to, double value, double size, double more, double storage,
            int operands) const {
    to.value.push_back(value);
    to.rounded.push_back(operands * eps(DType::kBF16) / 2 * size);
    to.bound.push_back((factor_ + more) * size + (storage > 0 ? rounding(t_.c.dtype, value) : 0));
  }

  const LinearTensors& t_;
  const reference::LinearProblem p_;
  double factor_ = 0, storage_ = 0;
  std::vector<double> written_;  ///< [B, H, S, Dv + 1]: |v| + |S'| |k| of delta writes

 public:
  reference::LinearForward forward;
  reference::LinearBackward backward;
};

}  // namespace fovea::testing
