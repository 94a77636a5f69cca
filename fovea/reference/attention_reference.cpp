#include "fovea/reference/attention_reference.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>

#include "fovea/core/philox.h"
#include "fovea/core/status.h"

namespace fovea::reference {
namespace {

// Rows of length `dim`, each divided by its length when `normalise`: what the dot product is of.
struct Operand {
  std::vector<double> unit, length;
  int64_t dim;

  Operand(const std::vector<double>& x, int64_t dim, bool normalise)
      : unit(x), length(x.size() / dim, 1.0), dim(dim) {
    if (!normalise) return;
    for (size_t row = 0; row < length.size(); ++row) {
      double squares = 0;
      for (int64_t d = 0; d < dim; ++d) squares += x[row * dim + d] * x[row * dim + d];
      length[row] = std::max(std::sqrt(squares), kCosineEps);
      for (int64_t d = 0; d < dim; ++d) unit[row * dim + d] /= length[row];
    }
  }

  // Gradient of x from the gradient of `unit`, in place: (g - u (u·g)) / |x|.
  void pull_back(std::vector<double>& g) const {
    for (size_t row = 0; row < length.size(); ++row) {
      double along = 0;
      for (int64_t d = 0; d < dim; ++d) along += unit[row * dim + d] * g[row * dim + d];
      if (length[row] == kCosineEps) along = 0;  // there the length is a constant
      for (int64_t d = 0; d < dim; ++d) {
        const size_t at = row * dim + d;
        g[at] = (g[at] - unit[at] * along) / length[row];
      }
    }
  }
};

// One query row: its allowed keys and what the softmax makes of them.
struct Row {
  std::vector<int64_t> keys;
  std::vector<double> dot, squashed, weight;  // q·k, tanh(scale q·k / softcap), softmax
  std::vector<double> kept;                   // 0 where dropped, else 1 / (1 - p)
  double lse = -std::numeric_limits<double>::infinity();
};

class Attention {
 public:
  explicit Attention(const Problem& problem)
      : p_(problem),
        mod_(problem.score_mod),
        q_(problem.q, problem.head_dim, mod_.cosine),
        k_(problem.k, problem.head_dim, mod_.cosine),
        scale_(!mod_.additive.empty() ? 1
               : mod_.scale != 0      ? mod_.scale
                                      : 1 / std::sqrt(static_cast<double>(problem.head_dim))) {}

  const Operand& q() const { return q_; }
  const Operand& k() const { return k_; }
  double scale(int64_t h) const { return mod_.scales ? mod_.scales[h] : scale_; }

  int64_t q_row(int64_t b, int64_t h, int64_t i) const { return (b * p_.heads + h) * p_.q_len + i; }
  int64_t k_row(int64_t b, int64_t h, int64_t j) const {
    return (b * p_.kv_heads + h / (p_.heads / p_.kv_heads)) * p_.kv_len + j;
  }

  // w_d of additive scores.
  double additive(int64_t h, int64_t d) const {
    return mod_.additive.row<double>(0, mod_.additive.shape[1] == 1 ? 0 : h, 0)[d];
  }
  // Feature d's part in what is scaled to a score, and its derivative by q_d (by k_d likewise).
  double part(int64_t h, double q, double k, int64_t d) const {
    return mod_.additive.empty() ? q * k : additive(h, d) * std::tanh(q + k);
  }
  double slope(int64_t h, double q, double k, int64_t d) const {
    const double t = std::tanh(q + k);
    return mod_.additive.empty() ? k : additive(h, d) * (1 - t * t);
  }

  Row row(int64_t b, int64_t h, int64_t i) const {
    const PatternScope scope{p_.q_len, p_.kv_len, p_.alignment, b, h, &p_.inputs};
    const int64_t aligned = p_.pattern.aligned_key(scope, i);
    Row row;
    std::vector<double> score;
    for (int64_t j = 0; j < p_.kv_len; ++j) {
      if (!p_.pattern.allows(scope, i, j)) continue;
      double dot = 0;
      for (int64_t d = 0; d < p_.head_dim; ++d) {
        dot += part(h, q_.unit[q_row(b, h, i) * p_.head_dim + d],
                    k_.unit[k_row(b, h, j) * p_.head_dim + d], d);
      }
      double s = scale(h) * dot, squashed = 0;
      if (s < 0) s *= mod_.negative_slope;
      if (mod_.softcap > 0) {
        squashed = std::tanh(s / mod_.softcap);
        s = mod_.softcap * squashed;
      }
      if (!mod_.bias.empty()) s += bias(b, h, i, j);
      if (!mod_.distance_bias.empty()) {
        s += mod_.distance_bias.row<double>(0, distance_head(h), 0)[distance_index(b, h, i, j)];
      }
      if (mod_.alibi_slopes) {
        s -= mod_.alibi_slopes[h] * static_cast<double>(std::abs(aligned - j));
      }
      const bool keeps =
          p_.dropout_p == 0 ||
          dropout_keeps(p_.dropout_seed, static_cast<uint32_t>(b), static_cast<uint32_t>(h),
                        static_cast<uint32_t>(i), static_cast<uint32_t>(j), p_.dropout_p);
      row.keys.push_back(j);
      row.dot.push_back(dot);
      row.squashed.push_back(squashed);
      row.kept.push_back(keeps ? 1 / (1 - p_.dropout_p) : 0);
      score.push_back(s);
    }
    softmax(score, h, row);
    return row;
  }

  int64_t distance_head(int64_t h) const { return mod_.distance_bias.shape[1] == 1 ? 0 : h; }
  int64_t distance_index(int64_t b, int64_t h, int64_t i, int64_t j) const {
    const PatternScope scope{p_.q_len, p_.kv_len, p_.alignment, b, h, &p_.inputs};
    const int64_t m = (mod_.distance_bias.shape[3] - 1) / 2;
    return m + std::clamp(j - p_.pattern.aligned_key(scope, i), -m, m);
  }

 private:
  double bias(int64_t b, int64_t h, int64_t i, int64_t j) const {
    const TensorView& t = mod_.bias;
    const auto at = [&](int axis, int64_t index) {
      return t.shape[axis] == 1 ? 0 : index * t.strides[axis];
    };
    return static_cast<const double*>(t.data)[at(0, b) + at(1, h) + at(2, i) + at(3, j)];
  }

  // A row without keys, or whose every score is -inf, keeps lse = -inf and weights of 0.
  void softmax(const std::vector<double>& score, int64_t h, Row& row) const {
    row.weight.assign(score.size(), 0.0);
    double max = -std::numeric_limits<double>::infinity();
    for (double s : score) max = s > max || std::isnan(s) ? s : max;
    if (max == -std::numeric_limits<double>::infinity()) return;
    if (mod_.sinks) max = std::max(max, mod_.sinks[h]);
    double sum = mod_.sinks ? std::exp(mod_.sinks[h] - max) : 0.0;
    for (double s : score) sum += std::exp(s - max);
    row.lse = max + std::log(sum);
    for (size_t n = 0; n < score.size(); ++n) row.weight[n] = std::exp(score[n] - row.lse);
  }

  const Problem& p_;
  const ScoreMod& mod_;
  Operand q_, k_;
  double scale_;
};

void expect_size(const char* name, const std::vector<double>& x, int64_t expected) {
  if (std::ssize(x) == expected) return;
  throw InputError(std::string("reference attention: expected ") + std::to_string(expected) +
                   " numbers in " + name + ", got " + std::to_string(x.size()));
}

void check(const Problem& p) {
  if (p.kv_heads < 1 || p.heads % p.kv_heads != 0) {
    throw InputError("reference attention: expected heads to be a multiple of kv_heads, got " +
                     std::to_string(p.heads) + " and " + std::to_string(p.kv_heads));
  }
  expect_size("q", p.q, p.batch * p.heads * p.q_len * p.head_dim);
  expect_size("k", p.k, p.batch * p.kv_heads * p.kv_len * p.head_dim);
  expect_size("v", p.v, p.batch * p.kv_heads * p.kv_len * p.value_dim);
  for (const TensorView* bias :
       {&p.score_mod.bias, &p.score_mod.distance_bias, &p.score_mod.additive}) {
    if (bias->empty() || bias->dtype == DType::kF64) continue;
    throw InputError(std::string("reference attention: expected an f64 bias, got ") +
                     name_of(bias->dtype));
  }
  const auto unmet =
      p.pattern.unmet({p.q_len, p.kv_len, p.alignment, 0, 0, &p.inputs}, p.batch, p.heads);
  if (!unmet.empty()) throw InputError("reference attention: pattern: " + unmet[0]);
}

}  // namespace

Forward attention_forward(const Problem& p) {
  check(p);
  const Attention attention(p);
  Forward out;
  out.o.assign(p.batch * p.heads * p.q_len * p.value_dim, 0.0);
  out.column_mass.assign(p.batch * p.heads * p.kv_len, 0.0);
  for (int64_t b = 0; b < p.batch; ++b) {
    for (int64_t h = 0; h < p.heads; ++h) {
      for (int64_t i = 0; i < p.q_len; ++i) {
        const Row row = attention.row(b, h, i);
        out.lse.push_back(row.lse);
        double entropy = 0;
        for (double w : row.weight) entropy -= w > 0 ? w * std::log(w) : w;
        out.row_entropy.push_back(entropy);
        double* o = out.o.data() + attention.q_row(b, h, i) * p.value_dim;
        for (size_t n = 0; n < row.keys.size(); ++n) {
          out.column_mass[(b * p.heads + h) * p.kv_len + row.keys[n]] += row.weight[n];
          const double* v = p.v.data() + attention.k_row(b, h, row.keys[n]) * p.value_dim;
          for (int64_t d = 0; d < p.value_dim; ++d) o[d] += row.kept[n] * row.weight[n] * v[d];
        }
      }
    }
  }
  return out;
}

// With w the softmax, e the dropout factors, o = sum_j w_j e_j v_j:
//   dw_j = e_j (d_o · v_j)                        delta = sum_j w_j dw_j
//   ds_j = w_j (dw_j - delta + d_lse)             the sink: dw = 0, w = exp(sink - lse)
//   d(scale q·k) = ds (1 - tanh²) under a softcap, ds negative_slope below 0
//   additive: dq_d = ds w_d (1 - tanh²(q_d + k_d)) = dk_d,  dw_d = ds tanh(q_d + k_d)
Backward attention_backward(const Problem& p, const std::vector<double>& d_o,
                            const std::vector<double>& d_lse) {
  check(p);
  expect_size("d_o", d_o, p.batch * p.heads * p.q_len * p.value_dim);
  if (!d_lse.empty()) expect_size("d_lse", d_lse, p.batch * p.heads * p.q_len);
  const ScoreMod& mod = p.score_mod;
  const Attention attention(p);
  const int64_t dim = p.head_dim;
  Backward out;
  out.d_q.assign(p.q.size(), 0.0);
  out.d_k.assign(p.k.size(), 0.0);
  out.d_v.assign(p.v.size(), 0.0);
  if (!mod.bias.empty()) out.d_bias.assign(p.batch * p.heads * p.q_len * p.kv_len, 0.0);
  const int64_t distances = mod.distance_bias.empty() ? 0 : mod.distance_bias.shape[3];
  out.d_distance_bias.assign(p.heads * distances, 0.0);
  if (!mod.additive.empty()) out.d_additive.assign(p.heads * dim, 0.0);
  if (mod.sinks) out.d_sinks.assign(p.heads, 0.0);
  out.d_scales.assign(p.heads, 0.0);
  for (int64_t b = 0; b < p.batch; ++b) {
    for (int64_t h = 0; h < p.heads; ++h) {
      for (int64_t i = 0; i < p.q_len; ++i) {
        const Row row = attention.row(b, h, i);
        if (row.lse == -std::numeric_limits<double>::infinity()) continue;
        const int64_t qr = attention.q_row(b, h, i);
        const double* g = d_o.data() + qr * p.value_dim;
        std::vector<double> d_weight;
        double delta = 0;
        for (size_t n = 0; n < row.keys.size(); ++n) {
          const int64_t kr = attention.k_row(b, h, row.keys[n]);
          double dot = 0;
          for (int64_t d = 0; d < p.value_dim; ++d) {
            dot += g[d] * p.v[kr * p.value_dim + d];
            out.d_v[kr * p.value_dim + d] += row.weight[n] * row.kept[n] * g[d];
          }
          d_weight.push_back(row.kept[n] * dot);
          delta += row.weight[n] * d_weight[n];
        }
        const double from_lse = d_lse.empty() ? 0.0 : d_lse[qr];
        if (mod.sinks) out.d_sinks[h] += std::exp(mod.sinks[h] - row.lse) * (from_lse - delta);
        for (size_t n = 0; n < row.keys.size(); ++n) {
          const int64_t kr = attention.k_row(b, h, row.keys[n]);
          double d_score = row.weight[n] * (d_weight[n] - delta + from_lse);
          if (!mod.bias.empty()) out.d_bias[qr * p.kv_len + row.keys[n]] = d_score;
          if (distances > 0) {
            out.d_distance_bias[h * distances + attention.distance_index(b, h, i, row.keys[n])] +=
                d_score;
          }
          if (mod.softcap > 0) d_score *= 1 - row.squashed[n] * row.squashed[n];
          if (attention.scale(h) * row.dot[n] < 0) d_score *= mod.negative_slope;
          if (mod.additive.empty()) out.d_scales[h] += d_score * row.dot[n];
          for (int64_t d = 0; d < dim; ++d) {
            const double x = attention.q().unit[qr * dim + d], y = attention.k().unit[kr * dim + d];
            out.d_q[qr * dim + d] += attention.scale(h) * d_score * attention.slope(h, x, y, d);
            out.d_k[kr * dim + d] += attention.scale(h) * d_score * attention.slope(h, y, x, d);
            if (!mod.additive.empty()) out.d_additive[h * dim + d] += d_score * std::tanh(x + y);
          }
        }
      }
    }
  }
  for (double d : out.d_scales) out.d_scale += d;
  if (mod.cosine) {
    attention.q().pull_back(out.d_q);
    attention.k().pull_back(out.d_k);
  }
  return out;
}

}  // namespace fovea::reference
