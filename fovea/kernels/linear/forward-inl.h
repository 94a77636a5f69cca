#pragma once

// Forward of linear attention for one head, a chunk of steps at a time. With Q, K the features of
// a chunk's rows, S and z the state before it, and w, e, r the decay's weights (decay-inl.h):
//
//     A = w ∘ (Q Kᵀ)                               within the chunk, lower triangle
//     num = (e ∘ Q) S + A V,   den = (e ∘ Q) z + A 1
//     o = scale · num   or   num / (den + eps)
//     S = total · S + (r ∘ K)ᵀ V,   z = total · z + Kᵀ r
//
// Joined to a result (o', l') over other keys, weights being e^g f(q)·f(k):
//
//     l = log(e^l' + e^g den),   o = e^(l' - l) o' + e^(g - l) num
//
// Not causal: the state of all keys first, then o = Q S for all queries. Source: Katharopoulos et
// al. 2020, §3; the chunk form is that of Hua et al. 2022 (FLASH), §3.3, with the decay of Yang et
// al. 2024 (GLA) and Dao and Gu 2024 (Mamba-2). Under delta writes U (delta-inl.h) stands for V.

#include "hwy/contrib/math/math-inl.h"

#include "fovea/kernels/linear/delta-inl.h"

HWY_BEFORE_NAMESPACE();
namespace fovea::kernels {
namespace FOVEA_ISA_NAMESPACE {
namespace {

/// Op: of the operands, T or what is rounded to it. Delta writes only as T.
template <typename T, typename Op = T>
class LinearForward {
 public:
  explicit LinearForward(const LinearHead<T>& head)
      : h_(head), panels_(head), decay_(head, &panels_), d_(panels_.d), dv_(panels_.dv) {
    state_ = panels_.take(d_, dv_);
    z_ = panels_.take(1, d_);
    q_ = panels_.take(kC, d_);
    k_ = panels_.take(kC, d_);
    o_ = panels_.take(kC, dv_);
    scores_ = panels_.take(kC, kC);
    scaled_ = panels_.take(kC, d_);
    factor_ = panels_.take(1, kC);
    beta_ = panels_.take(1, kC);
    if constexpr (!kPacked<Op>) {
      v_panel_ = panels_.take(kC, dv_);
      q_t_ = panels_.take(d_, kC);
      delta_ = take_delta_chunk(&panels_);
    } else {
      panels_.take_operand(kC, dv_, &v_panel_);
      panels_.take_operand(d_, kC, &q_t_);
      for (Op** x : {&q_rows_, &k_rows_, &scaled_rows_, &k_pairs_}) {
        panels_.take_operand(kC, d_, x);
      }
      panels_.take_operand(d_, dv_, &state_pairs_);
      panels_.take_operand(kC, kC, &score_pairs_);
    }
    joined_ = panels_.take(kC, dv_);
    lse_ = panels_.take(1, kC);
    gain_ = panels_.take(1, kC);
    keep_ = panels_.take(1, kC);
    clear(state_, static_cast<ptrdiff_t>(d_) * dv_);
    clear(z_, d_);
    clear(scores_, kC * kC);
    if (head.initial_state) load_state(head, head.initial_state, dv_, state_, z_);
  }

  void run() {
    if (h_.causal) {
      for (int64_t first = 0; first < h_.q_len; first += kC) causal_chunk(first);
    } else {
      for (int64_t first = 0; first < h_.kv_len; first += kC) {
        const int rows = rows_of_chunk(h_.kv_len, first);
        Ahead<T> ahead(h_, h_.head_dim);
        ahead_of_keys(first, &ahead);
        load_keys(first, rows);
        write(rows, &ahead);
      }
      const Operand<Op> state = as_pairs(state_, dv_, h_.head_dim, state_pairs_);
      for (int64_t first = 0; first < h_.q_len; first += kC) {
        const int rows = rows_of_chunk(h_.q_len, first);
        Ahead<T> ahead(h_, rows);
        ahead_of_queries(first, &ahead);
        load_queries(first, rows);
        read(rows, state, &ahead);
        finish(first, rows);
      }
    }
    if (h_.final_state) store_state(h_, state_, dv_, z_, h_.final_state);
  }

 private:
  void causal_chunk(int64_t first) {
    const int rows = rows_of_chunk(h_.q_len, first);
    Ahead<T> ahead(h_, rows + h_.head_dim);
    ahead_of_keys(first, &ahead);
    ahead_of_queries(first, &ahead);
    load_keys(first, rows);
    load_queries(first, rows);
    decay_.load(first, rows);
    decay_.scores(k_, as_rows(k_, d_, rows, k_rows_), q_, q_operand_, rows, q_t_, scores_);
    if constexpr (!kPacked<Op>) {
      if (h_.beta.data) write_delta(first, rows);
    }
    read(rows, as_pairs(state_, dv_, h_.head_dim, state_pairs_), &ahead);
    add_from_keys(as_pairs(scores_, kC, rows, score_pairs_), v_, rows, h_.value_dim, o_, dv_);
    if (h_.normalise) add_score_sums(rows);
    finish(first, rows);
    write(rows, &ahead);
  }

  void write_delta(int64_t first, int rows) {
    load_beta(h_, first, rows, beta_);
    delta_writes(h_, rows, k_, d_, v_, beta_, decay_, state_, dv_, q_t_, scaled_, o_, delta_);
    v_ = {delta_.u, dv_};
  }

  void ahead_of_keys(int64_t first, Ahead<T>* ahead) const {
    ahead->add(h_.k, first + kC, h_.kv_len, h_.head_dim);
    ahead->add(h_.v, first + kC, h_.kv_len, h_.value_dim);
  }
  void ahead_of_queries(int64_t first, Ahead<T>* ahead) const {
    ahead->add(h_.q, first + kC, h_.q_len, h_.head_dim);
    ahead->add(h_.o, first + kC, h_.q_len, h_.value_dim);
  }

  void load_keys(int64_t first, int rows) {
    load_features<Op>(h_, h_.k, first, rows, k_, d_);
    v_ = value_pairs(h_, first, rows, v_panel_, dv_);
  }

  void load_queries(int64_t first, int rows) {
    load_features<Op>(h_, h_.q, first, rows, q_, d_);
    q_operand_ = as_rows(q_, d_, kC, q_rows_);
  }

  /// o = (e ∘ Q) S, factor = (e ∘ Q) z
  void read(int rows, Operand<Op> state, Ahead<T>* ahead) {
    const T* q = decay_.from_start(q_, rows, scaled_);
    const Operand<Op> a = q == q_ ? q_operand_ : as_rows(q, d_, rows, scaled_rows_);
    multiply_ahead<Walk::kRows, Into::kStore>(rows, h_.value_dim, h_.head_dim, a, state, o_, dv_,
                                              ahead);
    if (!h_.normalise) return;
    clear(factor_, kC);
    row_dots(q, d_, z_, 0, rows, d_, factor_);
  }

  /// factor += A 1
  void add_score_sums(int rows) {
    const Tag<T> d;
    for (int i = 0; i < kC; i += kLanesOf<T>) {
      auto sum = hn::Load(d, factor_ + i);
      const int keys = HWY_MIN(rows, (i / kBlock + 1) * kBlock);
      for (int j = 0; j < keys; ++j) sum = hn::Add(sum, hn::Load(d, scores_ + j * kC + i));
      hn::Store(sum, d, factor_ + i);
    }
  }

  void finish(int64_t first, int rows) {
    if (h_.lse.data) return join(first, rows);
    for (int i = 0; i < rows; ++i) {
      if (h_.normalise) {
        const T denominator = factor_[i] + h_.eps;
        h_.denominator.data[(first + i) * h_.denominator.stride] = denominator;
        factor_[i] = inverse(denominator);
      } else {
        factor_[i] = h_.scale;
      }
    }
    const auto factor = [&](int r) { return factor_[r]; };
    store_scaled_chunk(h_, o_, dv_, factor, first, rows, h_.value_dim, h_.o);
  }

  /// Logarithms throughout, the larger of the two subtracted: nothing overflows. A memory without
  /// weight changes nothing.
  void join(int64_t first, int rows) {
    const Tag<T> d;
    clear(lse_, kC);
    clear(gain_, kC);
    for (int i = 0; i < rows; ++i) {
      lse_[i] = h_.lse.data[(first + i) * h_.lse.stride];
      gain_[i] = h_.gain.data[(first + i) * h_.gain.stride];
    }
    const auto tiny = hn::Set(d, std::numeric_limits<T>::min());
    const auto no_gain = hn::Set(d, -std::numeric_limits<T>::infinity());
    for (int i = 0; i < kC; i += kLanesOf<T>) {
      const auto den = hn::Load(d, factor_ + i), gain = hn::Load(d, gain_ + i);
      const auto before = hn::Load(d, lse_ + i);
      const auto none = hn::Or(hn::Lt(den, tiny), hn::Eq(gain, no_gain));  // false for NaN
      const auto own = hn::Add(hn::Log(d, hn::Max(den, tiny)), gain);
      const auto most = hn::Max(own, before);
      const auto sum = hn::Add(exp<T>(hn::Sub(own, most)), exp<T>(hn::Sub(before, most)));
      const auto lse = hn::Add(hn::Add(most, hn::Log(d, sum)), hn::Sub(den, den));  // keeps NaN
      hn::Store(hn::IfThenElse(none, hn::Set(d, T{1}), exp<T>(hn::Sub(before, lse))), d, keep_ + i);
      hn::Store(hn::IfThenZeroElse(none, exp<T>(hn::Sub(gain, lse))), d, factor_ + i);
      hn::Store(hn::IfThenElse(none, before, lse), d, lse_ + i);
    }
    load_chunk(h_, h_.o, first, rows, h_.value_dim, joined_, dv_);
    for (int r = 0; r < rows; ++r) {
      h_.lse.data[(first + r) * h_.lse.stride] = lse_[r];
      const auto keep = hn::Set(d, keep_[r]), factor = hn::Set(d, factor_[r]);
      for (int c = 0; c < dv_; c += kLanesOf<T>) {
        T* at = joined_ + static_cast<ptrdiff_t>(r) * dv_ + c;
        const auto num = hn::Load(d, o_ + static_cast<ptrdiff_t>(r) * dv_ + c);
        hn::Store(hn::MulAdd(keep, hn::Load(d, at), hn::Mul(factor, num)), d, at);
      }
    }
    store_chunk(h_, joined_, dv_, first, rows, h_.value_dim, h_.o);
  }

  /// S = total · S + (r ∘ K)ᵀ V
  void write(int rows, Ahead<T>* ahead) {
    const T* k = decay_.to_end(k_, rows, scaled_);
    decay_.scale_state(dv_, state_);
    multiply_ahead<Walk::kColumns, Into::kAdd>(
        h_.head_dim, h_.value_dim, rows, as_pairs(k, d_, rows, k_pairs_), v_, state_, dv_, ahead);
    if (!h_.normalise) return;
    decay_.scale_transposed(1, z_);
    add_rows<T>(nullptr, k, rows, d_, z_);
  }

  const LinearHead<T>& h_;
  Panels<T> panels_;
  ChunkDecay<T> decay_;
  int d_, dv_;
  T *state_, *z_, *q_, *k_, *o_, *scaled_, *scores_, *factor_, *beta_;
  T *joined_, *lse_, *gain_, *keep_;
  Op *v_panel_, *q_t_, *q_rows_ = nullptr, *k_rows_ = nullptr, *scaled_rows_ = nullptr,
                       *k_pairs_ = nullptr, *state_pairs_ = nullptr, *score_pairs_ = nullptr;
  DeltaChunk<T> delta_;
  Operand<Op> q_operand_, v_;
};

template <typename T, typename Op = T>
void linear_forward(const LinearHead<T>& head) {
  LinearForward<T, Op>(head).run();
}

}  // namespace
}  // namespace FOVEA_ISA_NAMESPACE
}  // namespace fovea::kernels
HWY_AFTER_NAMESPACE();
