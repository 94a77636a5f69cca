#pragma once

// Backward of linear attention with delta writes for one head. Beyond the additive form's
// (backward-inl.h, with U in the place of V) a chunk has, from dU = r ∘ (K dS) + Aᵀ G,
//
//     dR = Tᵀ dU,  dV = P = β ∘ dR                 dβ_i = dR_i · X_i - Σ_j M_ij (dR_i · U_j)
//     N = -w ∘ (P Uᵀ), j < i                       gradient of k_i · k_j through M
//     dK += Nᵀ K                                   as writers
//     dK += N K - e ∘ (P Sᵀ)                       as readers
//     dS -= (e ∘ K)ᵀ P
//     dg_t = Σ_{i >= t} (what queries and keys read - what keys wrote) + dS_N · S_N
//
// the last of rows times gradients, as with additive writes. A chunk needs the state before it,
// going backwards: a first sweep keeps one state every kSegment chunks, and each segment's are made
// again from it.

#include "fovea/kernels/linear/delta-inl.h"

HWY_BEFORE_NAMESPACE();
namespace fovea::kernels {
namespace FOVEA_ISA_NAMESPACE {
namespace {

template <typename T>
class DeltaBackward {
 public:
  DeltaBackward(const LinearHead<T>& head, const LinearHeadGradients<T>& gradients)
      : h_(head),
        g_(gradients),
        panels_(head),
        decay_(head, &panels_),
        d_decay_(head, gradients, &panels_),
        d_(panels_.d),
        dv_(panels_.dv) {
    state_ = panels_.take(d_, dv_);
    state_t_ = panels_.take(dv_, d_);
    d_state_ = panels_.take(d_, dv_);
    d_state_t_ = panels_.take(dv_, d_);
    for (T** panel : {&q_, &k_, &d_k_, &d_x_, &scaled_}) *panel = panels_.take(kC, d_);
    for (T** panel : {&v_panel_, &d_num_, &d_u_, &d_r_, &p_}) *panel = panels_.take(kC, dv_);
    t_ = panels_.take(HWY_MAX(d_, dv_), kC);
    for (T** panel : {&scores_, &d_scores_, &n_}) *panel = panels_.take(kC, kC);
    for (T** row : {&beta_, &dots_}) *row = panels_.take(1, kC);
    for (int i = 0; i < kLinearSegment; ++i) {
      before_[i] = panels_.take(d_, dv_);
      chunks_[i] = take_delta_chunk(&panels_);
    }
    kept_ = panels_.take(0, 0);
    for (T* x : {scores_, d_scores_, n_}) clear(x, kC * kC);
  }

  void run() {
    constexpr int64_t kSteps = int64_t{kLinearSegment} * kC;
    const int64_t segments = (h_.kv_len + kSteps - 1) / kSteps;
    load_first_state();
    for (int64_t s = 0; s + 1 < segments; ++s) {
      std::memcpy(kept(s), state_, state_bytes());
      for (int i = 0; i < kLinearSegment; ++i) write_chunk(s * kSteps + i * kC, chunks_[0]);
    }
    if (segments > 0) std::memcpy(kept(segments - 1), state_, state_bytes());
    for (int64_t s = segments - 1; s >= 0; --s) {
      const int64_t begin = s * kSteps, end = HWY_MIN(begin + kSteps, h_.kv_len);
      const int count = static_cast<int>((end - begin + kC - 1) / kC);
      std::memcpy(state_, kept(s), state_bytes());
      for (int i = 0; i < count; ++i) {
        std::memcpy(before_[i], state_, state_bytes());
        write_chunk(begin + i * kC, chunks_[i]);
      }
      if (s + 1 == segments) load_last_gradient();
      for (int i = count - 1; i >= 0; --i) chunk_gradients(begin + i * kC, i);
    }
    if (segments == 0) load_last_gradient();
    if (g_.d_initial_state) {
      transpose(d_state_t_, d_, h_.value_dim, h_.head_dim, T{1}, d_state_, dv_);
      store_state<T>(h_, d_state_, dv_, nullptr, g_.d_initial_state);
    }
  }

 private:
  size_t state_bytes() const {
    return sizeof(T) * static_cast<size_t>(d_) * static_cast<size_t>(dv_);
  }
  T* kept(int64_t segment) const { return kept_ + segment * d_ * dv_; }

  void load_first_state() {
    clear(state_, static_cast<ptrdiff_t>(d_) * dv_);
    if (h_.initial_state) load_state<T>(h_, h_.initial_state, dv_, state_, nullptr);
  }

  /// dS of the last state, and what the decay gains through it.
  void load_last_gradient() {
    clear(d_state_t_, static_cast<ptrdiff_t>(d_) * dv_);
    if (!g_.d_final_state) return;
    load_state<T>(h_, g_.d_final_state, dv_, d_state_, nullptr);
    transpose(d_state_, dv_, h_.head_dim, h_.value_dim, T{1}, d_state_t_, d_);
    for (int i = 0; i < h_.head_dim; ++i) {
      const ptrdiff_t row = static_cast<ptrdiff_t>(i) * dv_;
      for (int c = 0; c < h_.value_dim; ++c) {
        d_decay_.add_final(
            i, static_cast<double>(d_state_[row + c]) * static_cast<double>(state_[row + c]));
      }
    }
  }

  void load_keys(int64_t first, int rows) {
    load_features<T>(h_, h_.k, first, rows, k_, d_);
    v_ = chunk_rows(h_, h_.v, first, rows, h_.value_dim, v_panel_, dv_);
    load_beta(h_, first, rows, beta_);
    decay_.load(first, rows);
  }

  /// U of a chunk, and the state after it.
  void write_chunk(int64_t first, const DeltaChunk<T>& chunk) {
    const int rows = rows_of_chunk(h_.kv_len, first);
    load_keys(first, rows);
    delta_writes(h_, rows, k_, d_, v_, beta_, decay_, state_, dv_, t_, scaled_, d_u_, chunk);
    decay_.scale_state(dv_, state_);
    multiply<Walk::kColumns, Into::kAdd>(h_.head_dim, h_.value_dim, rows,
                                         decay_.to_end(k_, rows, scaled_), d_, chunk.u, dv_, state_,
                                         dv_);
  }

  void chunk_gradients(int64_t first, int index) {
    const int rows = rows_of_chunk(h_.kv_len, first);
    const DeltaChunk<T>& chunk = chunks_[index];
    load_keys(first, rows);
    load_features<T>(h_, h_.q, first, rows, q_, d_);
    load_chunk(h_, g_.d_o, first, rows, h_.value_dim, d_num_, dv_);
    scale_all(h_.scale, static_cast<ptrdiff_t>(kC) * dv_, d_num_);
    transpose(before_[index], dv_, h_.head_dim, h_.value_dim, T{1}, state_t_, d_);
    transpose(d_state_t_, d_, h_.value_dim, h_.head_dim, T{1}, d_state_, dv_);
    decay_.scores(k_, q_, rows, t_, scores_);
    transpose(d_num_, dv_, kC, h_.value_dim, T{1}, t_, kC);
    chunk_scores<T, T>({chunk.u, dv_}, {t_, kC}, h_.value_dim, rows, nullptr, decay_.w(),
                       d_scores_);
    query_gradients(first, rows);
    value_gradients(first, rows, chunk);
    key_gradients(first, rows, chunk);
    state_gradients(rows);
  }

  void query_gradients(int64_t first, int rows) {
    multiply<Walk::kRows, Into::kStore>(rows, h_.head_dim, h_.value_dim, d_num_, dv_, state_t_, d_,
                                        d_x_, d_);
    decay_.from_start(d_x_, rows, d_x_);
    decay_.add_keys(d_scores_, k_, rows, d_x_);
    d_decay_.set_read(q_, d_x_, first, rows);
    times_slope(h_, q_, rows, d_, d_x_);
    store_chunk(h_, d_x_, d_, first, rows, h_.head_dim, g_.d_q);
  }

  /// dU, dR, dV = P
  void value_gradients(int64_t first, int rows, const DeltaChunk<T>& chunk) {
    multiply<Walk::kRows, Into::kStore>(rows, h_.value_dim, h_.head_dim,
                                        decay_.to_end(k_, rows, scaled_), d_, d_state_, dv_, d_u_,
                                        dv_);
    add_from_queries<T, T>({scores_, kC}, {d_num_, dv_}, rows, h_.value_dim, d_u_, dv_);
    multiply_lower_transposed(chunk.inverse, d_u_, rows, h_.value_dim, dv_, d_r_);
    clear(d_r_ + static_cast<ptrdiff_t>(rows) * dv_, static_cast<ptrdiff_t>(kC - rows) * dv_);
    std::memcpy(p_, d_r_, sizeof(T) * static_cast<size_t>(rows) * static_cast<size_t>(dv_));
    scale_rows(beta_, rows, dv_, p_);
    store_chunk(h_, p_, dv_, first, rows, h_.value_dim, g_.d_v);
  }

  void key_gradients(int64_t first, int rows, const DeltaChunk<T>& chunk) {
    key_products(first, rows, chunk);
    multiply<Walk::kRows, Into::kStore>(rows, h_.head_dim, h_.value_dim, chunk.u, dv_, d_state_t_,
                                        d_, d_k_, d_);
    decay_.to_end(d_k_, rows, d_k_);
    decay_.add_queries(d_scores_, q_, rows, d_k_);
    decay_.add_queries(n_, k_, rows, d_k_);
    d_decay_.add_written(k_, d_k_, first, rows);
    multiply<Walk::kRows, Into::kScale>(rows, h_.head_dim, h_.value_dim, p_, dv_, state_t_, d_,
                                        d_x_, d_, T{-1});
    decay_.from_start(d_x_, rows, d_x_);
    decay_.add_keys(n_, k_, rows, d_x_);
    d_decay_.add_read(k_, d_x_, first, rows);
    d_decay_.sum_up(first, rows);
    add(d_k_, d_x_, static_cast<int64_t>(rows) * d_);
    times_slope(h_, k_, rows, d_, d_k_);
    store_chunk(h_, d_k_, d_, first, rows, h_.head_dim, g_.d_k);
  }

  /// N, and dβ on the way: both are dR · U.
  void key_products(int64_t first, int rows, const DeltaChunk<T>& chunk) {
    const Tag<T> d;
    transpose(d_r_, dv_, kC, h_.value_dim, T{1}, t_, kC);
    multiply<Walk::kRows, Into::kStore>(rows, kC, h_.value_dim, chunk.u, dv_, t_, kC, n_, kC);
    row_dots(chunk.x, dv_, d_r_, dv_, rows, h_.value_dim, dots_);
    for (int i = rows; i < kC; ++i) dots_[i] = 0;
    for (int j = 0; j < rows; ++j) {
      for (int i = 0; i <= j; ++i) n_[j * kC + i] = 0;
      for (int i = 0; i < kC; i += kLanesOf<T>) {
        T* at = n_ + j * kC + i;
        const auto product = hn::Load(d, at);
        hn::Store(hn::NegMulAdd(hn::Load(d, chunk.m + j * kC + i), product, hn::Load(d, dots_ + i)),
                  d, dots_ + i);
        const auto weight = hn::Mul(hn::Load(d, beta_ + i), hn::Load(d, decay_.w() + j * kC + i));
        hn::Store(hn::Neg(hn::Mul(weight, product)), d, at);
      }
    }
    for (int i = 0; i < rows; ++i) g_.d_beta.data[(first + i) * g_.d_beta.stride] = dots_[i];
  }

  /// dSᵀ = total · dSᵀ + Gᵀ (e ∘ Q) - Pᵀ (e ∘ K)
  void state_gradients(int rows) {
    decay_.scale_transposed(h_.value_dim, d_state_t_);
    multiply<Walk::kColumns, Into::kAdd>(h_.value_dim, h_.head_dim, rows, d_num_, dv_,
                                         decay_.from_start(q_, rows, scaled_), d_, d_state_t_, d_);
    scale_all(T{-1}, static_cast<ptrdiff_t>(rows) * dv_, p_);
    multiply<Walk::kColumns, Into::kAdd>(h_.value_dim, h_.head_dim, rows, p_, dv_,
                                         decay_.from_start(k_, rows, scaled_), d_, d_state_t_, d_);
  }

  const LinearHead<T>& h_;
  const LinearHeadGradients<T>& g_;
  Panels<T> panels_;
  ChunkDecay<T> decay_;
  DecayGradient<T> d_decay_;
  int d_, dv_;
  T *state_, *state_t_;      ///< [D, Dv] S going forwards; [Dv, D] Sᵀ before a chunk
  T *d_state_, *d_state_t_;  ///< dS of the state after a chunk
  T *q_, *k_, *d_k_, *d_x_, *scaled_, *v_panel_, *d_num_, *d_u_, *d_r_, *p_;
  T *t_, *scores_, *d_scores_, *n_, *beta_, *dots_;
  Operand<T> v_;
  T* before_[kLinearSegment];  ///< states before the chunks of a segment
  DeltaChunk<T> chunks_[kLinearSegment];
  T* kept_;  ///< states before the segments
};

}  // namespace
}  // namespace FOVEA_ISA_NAMESPACE
}  // namespace fovea::kernels
HWY_AFTER_NAMESPACE();
