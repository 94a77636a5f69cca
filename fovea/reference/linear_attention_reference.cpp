#include "fovea/reference/linear_attention_reference.h"

#include <algorithm>
#include <cmath>
#include <string>

#include "fovea/core/status.h"

namespace fovea::reference {
namespace {

using Vector = std::vector<double>;

double feature(FeatureMap map, double x) {
  if (map == FeatureMap::kEluPlusOne) return x > 0 ? x + 1 : std::exp(x);
  if (map == FeatureMap::kRelu) return x > 0 ? x : 0;
  return x;
}

double slope(FeatureMap map, double x) {
  if (map == FeatureMap::kEluPlusOne) return x > 0 ? 1 : std::exp(x);
  if (map == FeatureMap::kRelu) return x > 0 ? 1 : 0;
  return 1;
}

// One head of one sequence: rows [q_begin, q_begin + q_len) of q and so on. A state has
// columns = Dv + normalise; the extra value of every key is 1, so the last column is z.
class Head {
 public:
  Head(const LinearProblem& p, int64_t sequence, int64_t h)
      : columns(p.value_dim + (p.normalise ? 1 : 0)), p_(p) {
    const bool packed = !p.cu_seqlens_q.empty();
    const int64_t b = packed ? 0 : sequence;
    const auto range = [&](const std::vector<int64_t>& cu, int64_t len, int64_t* begin,
                           int64_t* rows) {
      *begin = (b * p.heads + h) * len + (packed ? cu[sequence] : 0);
      *rows = packed ? cu[sequence + 1] - cu[sequence] : len;
    };
    range(p.cu_seqlens_q, p.q_len, &q_begin, &q_len);
    range(p.cu_seqlens_k, p.kv_len, &k_begin, &kv_len);
    state_begin = (sequence * p.heads + h) * p.head_dim * columns;
  }

  double q(int64_t t, int64_t d) const {
    return feature(p_.map, p_.q[(q_begin + t) * p_.head_dim + d]);
  }
  double k(int64_t t, int64_t d) const {
    return feature(p_.map, p_.k[(k_begin + t) * p_.head_dim + d]);
  }
  double v(int64_t t, int64_t c) const {
    return c == p_.value_dim ? 1 : p_.v[(k_begin + t) * p_.value_dim + c];
  }
  double alpha(int64_t t, int64_t d) const {
    if (p_.decay.empty()) return 1;
    const bool by_channel = p_.decay.size() == p_.k.size();
    return std::exp(p_.decay[by_channel ? (k_begin + t) * p_.head_dim + d : k_begin + t]);
  }
  double beta(int64_t t) const { return p_.beta.empty() ? 1 : p_.beta[k_begin + t]; }

  /// What step t writes along f(k_t): v, or under delta writes v - S'ᵀ f(k).
  Vector written(const Vector& decayed, int64_t t) const {
    Vector u(columns);
    for (int64_t c = 0; c < columns; ++c) {
      u[c] = v(t, c);
      if (p_.beta.empty()) continue;
      for (int64_t d = 0; d < p_.head_dim; ++d) u[c] -= decayed[d * columns + c] * k(t, d);
    }
    return u;
  }
  Vector decayed(const Vector& state, int64_t t) const {
    Vector result = state;
    for (size_t i = 0; i < result.size(); ++i) result[i] *= alpha(t, i / columns);
    return result;
  }

  /// States before the first step and after each: [kv_len + 1].
  std::vector<Vector> states() const {
    std::vector<Vector> all(1, Vector(p_.head_dim * columns, 0.0));
    for (size_t i = 0; i < all[0].size() && !p_.initial_state.empty(); ++i) {
      all[0][i] = p_.initial_state[state_begin + i];
    }
    for (int64_t t = 0; t < kv_len; ++t) {
      Vector state = decayed(all.back(), t);
      const Vector u = written(state, t);
      for (size_t i = 0; i < state.size(); ++i) {
        state[i] += beta(t) * k(t, i / columns) * u[i % columns];
      }
      all.push_back(std::move(state));
    }
    return all;
  }

  /// Step whose state query t reads.
  int64_t read_at(int64_t t) const { return p_.causal ? t + 1 : kv_len; }

  /// Sᵀ f(q_t), with z·f(q_t) last when normalised.
  Vector read(const Vector& state, int64_t t) const {
    Vector sums(columns, 0.0);
    for (size_t i = 0; i < state.size(); ++i) sums[i % columns] += state[i] * q(t, i / columns);
    return sums;
  }

  int64_t columns;
  int64_t q_begin, q_len, k_begin, kv_len, state_begin;

 private:
  const LinearProblem& p_;
};

int64_t sequences(const LinearProblem& p) {
  return p.cu_seqlens_q.empty() ? p.batch : std::ssize(p.cu_seqlens_q) - 1;
}

int64_t state_size(const LinearProblem& p) {
  return sequences(p) * p.heads * p.head_dim * (p.value_dim + (p.normalise ? 1 : 0));
}

void expect(bool met, const std::string& expected, int64_t got) {
  if (met) return;
  throw InputError("reference linear attention: expected " + expected + ", got " +
                   std::to_string(got));
}

void expect_size(const char* name, const Vector& x, int64_t size) {
  expect(std::ssize(x) == size, std::to_string(size) + " numbers in " + name, std::ssize(x));
}

void check(const LinearProblem& p) {
  const int64_t rows = p.batch * p.heads * p.kv_len;
  expect_size("q", p.q, p.batch * p.heads * p.q_len * p.head_dim);
  expect_size("k", p.k, rows * p.head_dim);
  expect_size("v", p.v, rows * p.value_dim);
  if (!p.decay.empty() && p.decay.size() != p.k.size()) expect_size("decay", p.decay, rows);
  if (!p.beta.empty()) expect_size("beta", p.beta, rows);
  if (!p.initial_state.empty()) expect_size("initial_state", p.initial_state, state_size(p));
  expect(p.cu_seqlens_q.size() == p.cu_seqlens_k.size(), "as many documents of q as of k",
         std::ssize(p.cu_seqlens_k));
  if (p.causal) {
    expect(p.q_len == p.kv_len && p.cu_seqlens_q == p.cu_seqlens_k, "q as long as k when causal",
           p.kv_len);
  } else {
    expect(p.decay.empty() && p.beta.empty(), "no decay and no delta writes unless causal", 0);
  }
  expect(p.beta.empty() || !p.normalise, "no normaliser with delta writes", 1);
}

}  // namespace

LinearForward linear_attention_forward(const LinearProblem& p) {
  check(p);
  LinearForward out;
  out.o.resize(p.batch * p.heads * p.q_len * p.value_dim);
  if (p.normalise) out.denominator.resize(p.batch * p.heads * p.q_len);
  for (int64_t n = 0; n < sequences(p); ++n) {
    for (int64_t h = 0; h < p.heads; ++h) {
      const Head head(p, n, h);
      const std::vector<Vector> states = head.states();
      for (int64_t t = 0; t < head.q_len; ++t) {
        const Vector sums = head.read(states[head.read_at(t)], t);
        const double factor = p.normalise ? 1 / (sums[p.value_dim] + p.eps) : p.scale;
        const int64_t row = head.q_begin + t;
        if (p.normalise) out.denominator[row] = sums[p.value_dim] + p.eps;
        for (int64_t c = 0; c < p.value_dim; ++c) out.o[row * p.value_dim + c] = factor * sums[c];
      }
      out.final_state.insert(out.final_state.end(), states.back().begin(), states.back().end());
    }
  }
  return out;
}

namespace {

// With r the factor of a row (scale or 1/denominator) and a the sums Sᵀ f(q):
//     da = r d_o;   under the normaliser its own component is -r² (d_o · a)
//     dS_t += f(q) daᵀ,  df(q) = S_t da
//     write:  du = β dS_tᵀ f(k),  dβ = f(k)ᵀ dS_t u,  df(k) = β dS_t u,  dS' = dS_t,  dv = du
//     under delta writes also  dS' -= f(k) duᵀ,  df(k) -= S' du
//     decay:  dS_{t-1} = α dS',  dg = Σ dS' ∘ S'
class HeadBackward {
 public:
  HeadBackward(const LinearProblem& p, const Head& head, const Vector& d_o, const Vector& d_final,
               LinearBackward* out)
      : p_(p), head_(head), d_o_(d_o), out_(*out), states_(head.states()) {
    d_state_.assign(p.head_dim * head.columns, 0.0);
    for (size_t i = 0; i < d_state_.size() && !d_final.empty(); ++i) {
      d_state_[i] = d_final[head.state_begin + i];
    }
  }

  void run() {
    for (int64_t t = 0; t < head_.q_len && !p_.causal; ++t) read(t);
    for (int64_t t = head_.kv_len - 1; t >= 0; --t) {
      if (p_.causal) read(t);
      write(t);
    }
    std::copy(d_state_.begin(), d_state_.end(), out_.d_initial_state.begin() + head_.state_begin);
  }

 private:
  void read(int64_t t) {
    const Vector& state = states_[head_.read_at(t)];
    const Vector sums = head_.read(state, t);
    const double* g = d_o_.data() + (head_.q_begin + t) * p_.value_dim;
    const double factor = p_.normalise ? 1 / (sums[p_.value_dim] + p_.eps) : p_.scale;
    Vector d_sums(head_.columns, 0.0);
    for (int64_t c = 0; c < p_.value_dim; ++c) {
      d_sums[c] = factor * g[c];
      if (p_.normalise) d_sums[p_.value_dim] -= factor * factor * g[c] * sums[c];
    }
    for (int64_t d = 0; d < p_.head_dim; ++d) {
      double d_feature = 0;
      for (int64_t c = 0; c < head_.columns; ++c) {
        d_feature += state[d * head_.columns + c] * d_sums[c];
        d_state_[d * head_.columns + c] += head_.q(t, d) * d_sums[c];
      }
      const int64_t at = (head_.q_begin + t) * p_.head_dim + d;
      out_.d_q[at] = d_feature * slope(p_.map, p_.q[at]);
    }
  }

  void write(int64_t t) {
    const int64_t row = head_.k_begin + t, columns = head_.columns;
    const Vector decayed = head_.decayed(states_[t], t);
    const Vector u = head_.written(decayed, t);
    Vector d_u(columns, 0.0), d_key(p_.head_dim, 0.0);
    for (size_t i = 0; i < d_state_.size(); ++i) {
      const int64_t d = i / columns, c = i % columns;
      d_u[c] += head_.beta(t) * d_state_[i] * head_.k(t, d);
      d_key[d] += head_.beta(t) * d_state_[i] * u[c];
      if (!p_.beta.empty()) out_.d_beta[row] += head_.k(t, d) * d_state_[i] * u[c];
    }
    const bool by_channel = p_.decay.size() == p_.k.size();
    for (size_t i = 0; i < d_state_.size(); ++i) {
      const int64_t d = i / columns, c = i % columns;
      if (!p_.beta.empty()) {
        d_key[d] -= decayed[i] * d_u[c];
        d_state_[i] -= head_.k(t, d) * d_u[c];
      }
      if (!p_.decay.empty()) {
        out_.d_decay[by_channel ? row * p_.head_dim + d : row] += d_state_[i] * decayed[i];
      }
      d_state_[i] *= head_.alpha(t, d);
    }
    for (int64_t c = 0; c < p_.value_dim; ++c) out_.d_v[row * p_.value_dim + c] = d_u[c];
    for (int64_t d = 0; d < p_.head_dim; ++d) {
      const int64_t at = row * p_.head_dim + d;
      out_.d_k[at] = d_key[d] * slope(p_.map, p_.k[at]);
    }
  }

  const LinearProblem& p_;
  const Head& head_;
  const Vector& d_o_;
  LinearBackward& out_;
  const std::vector<Vector> states_;
  Vector d_state_;
};

}  // namespace

LinearBackward linear_attention_backward(const LinearProblem& p, const Vector& d_o,
                                         const Vector& d_final_state) {
  check(p);
  expect_size("d_o", d_o, p.batch * p.heads * p.q_len * p.value_dim);
  if (!d_final_state.empty()) expect_size("d_final_state", d_final_state, state_size(p));
  LinearBackward out;
  out.d_q.assign(p.q.size(), 0.0);
  out.d_k.assign(p.k.size(), 0.0);
  out.d_v.assign(p.v.size(), 0.0);
  out.d_decay.assign(p.decay.size(), 0.0);
  out.d_beta.assign(p.beta.size(), 0.0);
  out.d_initial_state.assign(state_size(p), 0.0);
  for (int64_t n = 0; n < sequences(p); ++n) {
    for (int64_t h = 0; h < p.heads; ++h) {
      HeadBackward(p, Head(p, n, h), d_o, d_final_state, &out).run();
    }
  }
  return out;
}

}  // namespace fovea::reference
