#pragma once

// The weights that the decay gives to the pairs of a chunk. With g_t the logarithm of step t's
// decay and rows 0 … n-1 of a chunk that starts from state S:
//
//     w_ij   = exp(g_{j+1} + … + g_i)    (j <= i)       weight of key j for query i
//     e_i    = exp(g_0 + … + g_i)                       of S for query i
//     r_j    = exp(g_{j+1} + … + g_{n-1})               of key j in the state after the chunk
//     total  = exp(g_0 + … + g_{n-1})                   of S in the state after the chunk
//
// One number a step: logarithms are added up afresh for each key, never subtracted. Nothing
// overflows, decays near 1 keep their digits, what vanishes is smaller than the type's smallest
// number, and a step may forget everything (g = -inf).
//
// One number a step and channel (GLA): w_ij weighs every product q_id k_jd on its own. A chunk is
// halved again and again; a pair whose key is in the lower and whose query in the upper half of a
// block has its weight split at the border between them,
//
//     w_ij = exp(g_{j+1} + … + g_{border}) · exp(g_{border+1} + … + g_i)
//
// one factor a row, both at most 1: again nothing is subtracted (Yang et al. 2024, §4.3, whose
// secondary chunks end in pairs taken one by one). Every pair belongs to one level of halving.

#include <bit>

#include "fovea/kernels/linear/chunk-inl.h"

HWY_BEFORE_NAMESPACE();
namespace fovea::kernels {
namespace FOVEA_ISA_NAMESPACE {
namespace {

template <typename T>
class ChunkDecay {
 public:
  ChunkDecay(const LinearHead<T>& head, Panels<T>* panels) : h_(head), d_(panels->d) {
    w_ = panels->take(kC, kC);
    for (int j = 0; j < kC; ++j) {
      for (int i = 0; i < kC; ++i) w_[j * kC + i] = i < j ? T{0} : T{1};
    }
    if (by_channel()) {
      for (T** panel : {&e_, &r_, &scaled_}) *panel = panels->take(kC, d_);
      factors_ = panels->take(kLevels * kC, d_);
      totals_ = panels->take(1, d_);
    } else {
      e_ = panels->take(1, kC);
      r_ = panels->take(1, kC);
    }
  }

  bool none() const { return !h_.decay.data; }
  bool by_channel() const { return h_.decay_by_channel; }

  /// Weights of rows [first, first + rows).
  HWY_INLINE void load(int64_t first, int rows) {
    if (none()) return;
    by_channel() ? load_channels(first, rows) : load_steps(first, rows);
  }

  /// [key][query], 0 where query < key; ones where the weights are by channel.
  const T* w() const { return w_; }

  /// e ∘ x or r ∘ x of rows of features [rows, d], in `out`, which may be x. Without a decay x
  /// itself, and `out` untouched.
  HWY_INLINE const T* from_start(const T* x, int rows, T* out) const {
    return scaled(e_, x, rows, out);
  }
  HWY_INLINE const T* to_end(const T* x, int rows, T* out) const {
    return scaled(r_, x, rows, out);
  }

  /// total ∘ S for S [D, ld]
  HWY_INLINE void scale_state(int ld, T* s) const {
    if (none()) return;
    if (!by_channel()) return scale_all(total_, static_cast<ptrdiff_t>(h_.head_dim) * ld, s);
    scale_rows(totals_, h_.head_dim, ld, s);
  }
  /// The same for `rows` rows of Sᵀ [rows, d].
  HWY_INLINE void scale_transposed(int rows, T* s) const {
    const Tag<T> d;
    if (none()) return;
    if (!by_channel()) return scale_all(total_, static_cast<ptrdiff_t>(rows) * d_, s);
    for (int r = 0; r < rows; ++r) {
      for (int c = 0; c < d_; c += kLanesOf<T>) {
        T* at = s + static_cast<ptrdiff_t>(r) * d_ + c;
        hn::Store(hn::Mul(hn::Load(d, totals_ + c), hn::Load(d, at)), d, at);
      }
    }
  }

  /// Scores [key][query], w ∘ (K Qᵀ), of features and their operands by rows. Overwrites q_t
  /// [D, kC].
  template <typename Op>
  HWY_INLINE void scores(const T* k, Operand<Op> k_rows, const T* q, Operand<Op> q_rows, int rows,
                         Op* q_t, T* scores) const {
    if (by_channel()) return channel_scores(k, q, rows, scores);
    const Operand<Op> lanes = as_lanes(q, q_rows, d_, kC, h_.head_dim, q_t);
    chunk_scores<Op, T>(k_rows, lanes, h_.head_dim, rows, nullptr, w_, scores);
  }
  HWY_INLINE void scores(const T* k, const T* q, int rows, T* q_t, T* scores_out) const {
    scores<T>(k, {k, d_}, q, {q, d_}, rows, q_t, scores_out);
  }

  /// y[query] += Σ_key a[key][query] · k[key], and y[key] += Σ_query a[key][query] · q[query], with
  /// weights by channel; others are in `a` already, and the operands are used: pairs, but a's
  /// second rows.
  template <typename Op>
  HWY_INLINE void add_keys(const T* a, Operand<Op> a_pairs, const T* k, Operand<Op> k_pairs,
                           int rows, T* y) const {
    by_channel() ? add_levels<true>(a, k, rows, y)
                 : add_from_keys(a_pairs, k_pairs, rows, h_.head_dim, y, d_);
  }
  HWY_INLINE void add_keys(const T* a, const T* k, int rows, T* y) const {
    add_keys<T>(a, {a, kC}, k, {k, d_}, rows, y);
  }
  template <typename Op>
  HWY_INLINE void add_queries(const T* a, Operand<Op> a_rows, const T* q, Operand<Op> q_pairs,
                              int rows, T* y) const {
    by_channel() ? add_levels<false>(a, q, rows, y)
                 : add_from_queries(a_rows, q_pairs, rows, h_.head_dim, y, d_);
  }
  HWY_INLINE void add_queries(const T* a, const T* q, int rows, T* y) const {
    add_queries<T>(a, {a, kC}, q, {q, d_}, rows, y);
  }

 private:
  static constexpr int kLevels = std::countr_zero(unsigned{kC});
  static_assert(1 << kLevels == kC);

  HWY_INLINE const T* scaled(const T* by, const T* x, int rows, T* out) const {
    if (none()) return x;
    const Tag<T> d;
    for (int r = 0; r < rows; ++r) {
      const ptrdiff_t row = static_cast<ptrdiff_t>(r) * d_;
      for (int c = 0; c < d_; c += kLanesOf<T>) {
        const auto f = by_channel() ? hn::Load(d, by + row + c) : hn::Set(d, by[r]);
        hn::Store(hn::Mul(f, hn::Load(d, x + row + c)), d, out + row + c);
      }
    }
    return out;
  }

  void load_steps(int64_t first, int rows) {
    const Tag<T> d;
    const T log2e = static_cast<T>(1.4426950408889634074);
    const T* g = h_.decay.data + first * h_.decay.stride;
    T* w = w_;
    // Row j from row j + 1, as base-2 logarithms; minus infinity below the diagonal.
    for (int i = 0; i < kC; ++i) w[(kC - 1) * kC + i] = -std::numeric_limits<T>::infinity();
    w[kC * kC - 1] = 0;
    const auto log2_of = [&](int i) { return i < rows ? log2e * g[i * h_.decay.stride] : T{0}; };
    for (int j = kC - 2; j >= 0; --j) {
      T* row = w + j * kC;
      const auto step = hn::Set(d, log2_of(j + 1));
      for (int i = 0; i < kC; i += kLanesOf<T>) {
        hn::Store(hn::Add(step, hn::Load(d, row + kC + i)), d, row + i);
      }
      row[j] = 0;
    }
    const auto before = hn::Set(d, log2_of(0));
    for (int i = 0; i < kC; i += kLanesOf<T>) {
      hn::Store(exp2(hn::Add(before, hn::Load(d, w + i))), d, e_ + i);
    }
    for (int i = 0; i < kC * kC; i += kLanesOf<T>) hn::Store(exp2(hn::Load(d, w + i)), d, w + i);
    for (int j = 0; j < kC; ++j) r_[j] = w[j * kC + rows - 1];
    total_ = e_[rows - 1];
  }

  /// e and r grow from blocks of one row to the chunk; each level keeps them as they are then.
  void load_channels(int64_t first, int rows) {
    const Tag<T> d;
    const T* g = h_.decay.data + first * h_.decay.stride;
    clear(totals_, d_);
    for (int i = 0; i < kC; ++i) {
      T* e = e_ + static_cast<ptrdiff_t>(i) * d_;
      for (int c = 0; c < d_; ++c) {
        e[c] = i < rows && c < h_.head_dim ? g[i * h_.decay.stride + c] : T{0};
      }
      for (int c = 0; c < d_; c += kLanesOf<T>) {
        const auto step = hn::Load(d, e + c);
        hn::Store(hn::Add(hn::Load(d, totals_ + c), step), d, totals_ + c);
        hn::Store(exp_of(step), d, e + c);
        hn::Store(hn::Set(d, T{1}), d, r_ + static_cast<ptrdiff_t>(i) * d_ + c);
      }
    }
    // Not the last row's e: a product would add an error for each step to every chunk's.
    for (int c = 0; c < d_; c += kLanesOf<T>) {
      hn::Store(exp_of(hn::Load(d, totals_ + c)), d, totals_ + c);
    }
    const auto row_of = [&](T* panel, int r) { return panel + static_cast<ptrdiff_t>(r) * d_; };
    for (int level = 0; level < kLevels; ++level) {
      const int half = 1 << level;
      for (int b = 0; b < kC; b += 2 * half) {
        const size_t bytes = sizeof(T) * static_cast<size_t>(half) * static_cast<size_t>(d_);
        std::memcpy(factors(level, b), row_of(r_, b), bytes);
        std::memcpy(factors(level, b + half), row_of(e_, b + half), bytes);
        for (int r = b; r < b + half; ++r) times(row_of(e_, b + 2 * half - 1), row_of(r_, r));
        for (int r = b + half; r < b + 2 * half; ++r) {
          times(row_of(e_, b + half - 1), row_of(e_, r));
        }
      }
    }
  }

  HWY_INLINE T* factors(int level, int row) const {
    return factors_ + static_cast<ptrdiff_t>(level * kC + row) * d_;
  }
  static HWY_INLINE Vec<T> exp_of(Vec<T> x) {
    return exp2(hn::Mul(hn::Set(Tag<T>(), static_cast<T>(1.4426950408889634074)), x));
  }
  HWY_INLINE void times(const T* x, T* y) const {
    const Tag<T> d;
    for (int c = 0; c < d_; c += kLanesOf<T>) {
      hn::Store(hn::Mul(hn::Load(d, x + c), hn::Load(d, y + c)), d, y + c);
    }
  }

  /// scaled_[row] = factor ∘ x[row] of a level, for rows [begin, end).
  HWY_INLINE void scale_level(int level, const T* x, int begin, int end) const {
    const Tag<T> d;
    const ptrdiff_t from = static_cast<ptrdiff_t>(begin) * d_,
                    to = static_cast<ptrdiff_t>(end) * d_;
    const T* f = factors(level, 0);
    for (ptrdiff_t i = from; i < to; i += kLanesOf<T>) {
      hn::Store(hn::Mul(hn::Load(d, f + i), hn::Load(d, x + i)), d, scaled_ + i);
    }
  }

  void channel_scores(const T* k, const T* q, int rows, T* scores) const {
    clear(scores, kC * kC);
    for (int j = 0; j < rows; ++j) {
      const ptrdiff_t row = static_cast<ptrdiff_t>(j) * d_;
      row_dots(k + row, d_, q + row, d_, 1, d_, scores + j * kC + j);
    }
    for (int level = 0; level < kLevels; ++level) {
      const int half = 1 << level;
      for (int b = 0; b + half < rows; b += 2 * half) {
        const int border = b + half, end = HWY_MIN(border + half, rows);
        scale_level(level, k, b, border);
        scale_level(level, q, border, end);
        for (int j = b; j < border; ++j) {  // the key is the same for a row of dots
          row_dots(scaled_ + static_cast<ptrdiff_t>(border) * d_, d_,
                   scaled_ + static_cast<ptrdiff_t>(j) * d_, 0, end - border, d_,
                   scores + j * kC + border);
        }
      }
    }
  }

  template <bool kFromKeys>
  void add_levels(const T* a, const T* x, int rows, T* y) const {
    const Tag<T> d;
    for (int r = 0; r < rows; ++r) {
      const ptrdiff_t row = static_cast<ptrdiff_t>(r) * d_;
      add_to_rows(a + r * kC + r, x + row, 1, d_, y + row);
    }
    for (int level = 0; level < kLevels; ++level) {
      const int half = 1 << level;
      for (int b = 0; b + half < rows; b += 2 * half) {
        const int border = b + half, end = HWY_MIN(border + half, rows);
        const int from = kFromKeys ? b : border, from_end = kFromKeys ? border : end;
        const int to = kFromKeys ? border : b, to_end = kFromKeys ? end : border;
        scale_level(level, x, from, from_end);
        for (int t = to; t < to_end; ++t) {
          const ptrdiff_t row = static_cast<ptrdiff_t>(t) * d_;
          for (int c = 0; c < d_; c += kLanesOf<T>) {
            auto sum = hn::Zero(d);
            for (int s = from; s < from_end; ++s) {
              const T weight = kFromKeys ? a[s * kC + t] : a[t * kC + s];
              sum = hn::MulAdd(hn::Set(d, weight),
                               hn::Load(d, scaled_ + static_cast<ptrdiff_t>(s) * d_ + c), sum);
            }
            const auto f = hn::Load(d, factors(level, t) + c);
            hn::Store(hn::MulAdd(f, sum, hn::Load(d, y + row + c)), d, y + row + c);
          }
        }
      }
    }
  }

  const LinearHead<T>& h_;
  int d_;
  T* w_;
  T *e_, *r_;  ///< [kC], by channel [kC, d]
  T total_ = 1;
  T* totals_ = nullptr;   ///< [d] by channel
  T* factors_ = nullptr;  ///< [level][kC, d]: of keys in lower halves, of queries in upper ones
  T* scaled_ = nullptr;
};

/// Gradient of the decay: dg_t = Σ_{i >= t} (what queries read - what keys wrote) + dS_N · S_N,
/// each the product of a row of features and its gradient, summed over the channels or not.
template <typename T>
class DecayGradient {
 public:
  DecayGradient(const LinearHead<T>& head, const LinearHeadGradients<T>& gradients,
                Panels<T>* panels)
      : g_(gradients.d_decay),
        dim_(head.head_dim),
        d_(panels->d),
        by_channel_(head.decay_by_channel) {
    later_ = reinterpret_cast<double*>(panels->take(2, d_));
    clear(later_, d_);
    width_ = by_channel_ ? head.head_dim : 1;
  }
  bool wanted() const { return g_.data; }

  /// What the gradient of the last state adds to a channel.
  HWY_INLINE void add_final(int channel, double product) {
    later_[by_channel_ ? channel : 0] += product;
  }
  HWY_INLINE void set_read(const T* x, const T* d_x, int64_t first, int rows) {
    if (!wanted()) return;
    for (int r = 0; r < rows; ++r) std::memset(row(first + r), 0, sizeof(T) * width_);
    add(x, d_x, T{1}, first, rows);
  }
  HWY_INLINE void add_read(const T* x, const T* d_x, int64_t first, int rows) {
    if (wanted()) add(x, d_x, T{1}, first, rows);
  }
  HWY_INLINE void add_written(const T* x, const T* d_x, int64_t first, int rows) {
    if (wanted()) add(x, d_x, T{-1}, first, rows);
  }
  /// To sums over later steps; chunks from the last to the first.
  HWY_INLINE void sum_up(int64_t first, int rows) {
    if (!wanted()) return;
    for (int r = rows - 1; r >= 0; --r) {
      T* g = row(first + r);
      for (size_t c = 0; c < width_; ++c) {
        later_[c] += static_cast<double>(g[c]);
        g[c] = static_cast<T>(later_[c]);
      }
    }
  }

 private:
  T* row(int64_t step) const { return g_.data + step * g_.stride; }
  void add(const T* x, const T* d_x, T sign, int64_t first, int rows) {
    for (int r = 0; r < rows; ++r) {
      const T* a = x + static_cast<ptrdiff_t>(r) * d_;
      const T* b = d_x + static_cast<ptrdiff_t>(r) * d_;
      T* g = row(first + r);
      if (by_channel_) {
        for (size_t c = 0; c < width_; ++c) g[c] += sign * a[c] * b[c];
      } else {
        T dot;
        row_dots(a, d_, b, d_, 1, dim_, &dot);
        *g += sign * dot;
      }
    }
  }

  LinearValues<T> g_;
  int dim_, d_;
  bool by_channel_;
  size_t width_;
  double* later_;
};

}  // namespace
}  // namespace FOVEA_ISA_NAMESPACE
}  // namespace fovea::kernels
HWY_AFTER_NAMESPACE();
