#pragma once

// Forward of linear attention for one head, a chunk of steps at a time. With Q, K the features of
// a chunk's rows, S and z the state before it, and w, e, r the decay's weights (chunk-inl.h):
//
//     A = w ∘ (Q Kᵀ)                               within the chunk, lower triangle
//     num = e ∘ (Q S) + A V,   den = e ∘ (Q z) + A 1
//     o = scale · num   or   num / (den + eps)
//     S = total · S + (r ∘ K)ᵀ V,   z = total · z + Kᵀ r
//
// Not causal: the state of all keys first, then o = Q S for all queries. Source: Katharopoulos et
// al. 2020, §3; the chunk form is that of Hua et al. 2022 (FLASH), §3.3, with the decay of Yang et
// al. 2024 (GLA) and Dao and Gu 2024 (Mamba-2). Under delta writes U (delta-inl.h) stands for V.

#include "fovea/kernels/linear/delta-inl.h"

HWY_BEFORE_NAMESPACE();
namespace fovea::kernels {
namespace FOVEA_ISA_NAMESPACE {
namespace {

template <typename T>
class LinearForward {
 public:
  explicit LinearForward(const LinearHead<T>& head) : h_(head) {
    Panels<T> panels(head);
    d_ = panels.d;
    dv_ = panels.dv;
    state_ = panels.take(d_, dv_);
    z_ = panels.take(1, d_);
    q_ = panels.take(kC, d_);
    k_ = panels.take(kC, d_);
    v_panel_ = panels.take(kC, dv_);
    o_ = panels.take(kC, dv_);
    q_t_ = panels.take(d_, kC);
    scores_ = panels.take(kC, kC);
    decay_.w = panels.take(kC, kC);
    decay_.e = panels.take(1, kC);
    decay_.r = panels.take(1, kC);
    factor_ = panels.take(1, kC);
    beta_ = panels.take(1, kC);
    delta_ = take_delta_chunk(&panels);
    clear(state_, static_cast<ptrdiff_t>(d_) * dv_);
    clear(z_, d_);
    clear(scores_, kC * kC);
    if (head.initial_state) load_state(head, head.initial_state, dv_, state_, z_);
    no_decay(&decay_);
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
      for (int64_t first = 0; first < h_.q_len; first += kC) {
        const int rows = rows_of_chunk(h_.q_len, first);
        Ahead<T> ahead(h_, rows);
        ahead_of_queries(first, &ahead);
        load_queries(first, rows);
        read(rows, &ahead);
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
    if (h_.decay.data) chunk_decay(h_, first, rows, &decay_);
    chunk_scores<T>(k_, d_, q_t_, h_.head_dim, rows, nullptr, decay_.w, scores_);
    if (h_.beta.data) {
      load_beta(h_, first, rows, beta_);
      delta_writes(h_, rows, k_, d_, v_, beta_, decay_, state_, dv_, q_t_, o_, delta_);
      v_ = {delta_.u, dv_};
    }
    read(rows, &ahead);
    add_from_keys(scores_, v_.data, v_.stride, rows, h_.value_dim, o_, dv_);
    if (h_.normalise) add_score_sums(rows);
    finish(first, rows);
    write(rows, &ahead);
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
    load_features(h_, h_.k, first, rows, k_, d_);
    v_ = chunk_rows(h_, h_.v, first, rows, h_.value_dim, v_panel_, dv_);
  }

  void load_queries(int64_t first, int rows) {
    load_features(h_, h_.q, first, rows, q_, d_);
    if (h_.causal || h_.normalise) transpose(q_, d_, kC, h_.head_dim, T{1}, q_t_, kC);
  }

  /// o = e ∘ (Q S), factor = e ∘ (Q z)
  void read(int rows, Ahead<T>* ahead) {
    const Tag<T> d;
    multiply_ahead<Walk::kRows, Into::kStore>(rows, h_.value_dim, h_.head_dim, q_, d_, state_, dv_,
                                              o_, dv_, ahead);
    if (h_.decay.data) scale_rows(decay_.e, rows, dv_, o_);
    if (!h_.normalise) return;
    for (int i = 0; i < kC; i += kLanesOf<T>) {
      auto sum = hn::Zero(d);
      for (int c = 0; c < h_.head_dim; ++c) {
        sum = hn::MulAdd(hn::Set(d, z_[c]), hn::Load(d, q_t_ + c * kC + i), sum);
      }
      if (h_.decay.data) sum = hn::Mul(sum, hn::Load(d, decay_.e + i));
      hn::Store(sum, d, factor_ + i);
    }
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
    for (int i = 0; i < rows; ++i) {
      if (h_.normalise) {
        const T denominator = factor_[i] + h_.eps;
        h_.denominator.data[(first + i) * h_.denominator.stride] = denominator;
        factor_[i] = inverse(denominator);
      } else {
        factor_[i] = h_.scale;
      }
    }
    store_scaled_chunk(h_, o_, dv_, factor_, first, rows, h_.value_dim, h_.o);
  }

  /// S = total · S + (r ∘ K)ᵀ V
  void write(int rows, Ahead<T>* ahead) {
    if (h_.decay.data) {
      scale_rows(decay_.r, rows, d_, k_);
      scale_all(decay_.total, static_cast<ptrdiff_t>(d_) * dv_, state_);
      if (h_.normalise) scale_all(decay_.total, d_, z_);
    }
    multiply_ahead<Walk::kColumns, Into::kAdd>(h_.head_dim, h_.value_dim, rows, k_, d_, v_.data,
                                               v_.stride, state_, dv_, ahead);
    if (h_.normalise) add_rows<T>(nullptr, k_, rows, d_, z_);
  }

  const LinearHead<T>& h_;
  int d_, dv_;
  T *state_, *z_, *q_, *k_, *v_panel_, *o_, *q_t_, *scores_, *factor_, *beta_;
  DeltaChunk<T> delta_;
  ChunkRows<T> v_;
  Decay<T> decay_;
};

template <typename T>
void linear_forward(const LinearHead<T>& head) {
  LinearForward<T>(head).run();
}

}  // namespace
}  // namespace FOVEA_ISA_NAMESPACE
}  // namespace fovea::kernels
HWY_AFTER_NAMESPACE();
