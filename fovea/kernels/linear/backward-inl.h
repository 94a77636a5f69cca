#pragma once

// Backward of linear attention with additive writes for one head. With G = r_i d_o (r_i = scale, or
// 1/den under the normaliser) and c_i = -r_i (d_o · o) the gradient of a denominator (0 without),
// the chunk form is
//
//     P = w ∘ (G Vᵀ + c 1ᵀ)                        gradient of A = w ∘ (Q Kᵀ)
//     dQ = e ∘ (G Sᵀ + c zᵀ) + P K                 forwards over the chunks, with their states
//     dK = r ∘ (V dSᵀ + 1 dzᵀ) + Pᵀ Q              backwards over the chunks
//     dV = r ∘ (K dS) + Aᵀ G
//     dS = total · dS + (e ∘ Q)ᵀ G,  dz = total · dz + Qᵀ (e ∘ c)
//     dg_t = Σ_{i >= t} (q_i · dq_i - k_i · dk_i) + dS_N · S_N      of the decay, Yang et al. 2024
//
// States are recomputed, not stored: memory does not grow with the length. Sᵀ and dSᵀ are kept, so
// that lanes are features in every product but dV's, for which dSᵀ is transposed once a chunk.

#include "fovea/kernels/linear/delta_backward-inl.h"

HWY_BEFORE_NAMESPACE();
namespace fovea::kernels {
namespace FOVEA_ISA_NAMESPACE {
namespace {

template <typename T>
class LinearBackward {
 public:
  LinearBackward(const LinearHead<T>& head, const LinearHeadGradients<T>& gradients)
      : h_(head), g_(gradients) {
    Panels<T> panels(head);
    d_ = panels.d;
    dv_ = panels.dv;
    state_t_ = panels.take(dv_, d_);
    state_ = panels.take(d_, dv_);
    z_ = panels.take(1, d_);
    q_ = panels.take(kC, d_);
    k_ = panels.take(kC, d_);
    v_panel_ = panels.take(kC, dv_);
    d_num_ = panels.take(kC, dv_);
    out_ = panels.take(kC, HWY_MAX(d_, dv_));
    q_t_ = panels.take(d_, kC);
    d_num_t_ = panels.take(dv_, kC);
    scores_ = panels.take(kC, kC);
    d_scores_ = panels.take(kC, kC);
    decay_.w = panels.take(kC, kC);
    decay_.e = panels.take(1, kC);
    decay_.r = panels.take(1, kC);
    d_den_ = panels.take(1, kC);
    dots_ = panels.take(1, kC);
    no_decay(&decay_);
    clear(scores_, kC * kC);
    clear(d_scores_, kC * kC);
  }

  void run() {
    forward_sweep();
    begin_backward_sweep();
    backward_sweep();
    if (g_.d_initial_state) {
      transpose_state();
      store_state(h_, state_, dv_, z_, g_.d_initial_state);
    }
  }

 private:
  // ---- forwards: states and dQ -----------------------------------------------------------------

  void forward_sweep() {
    load_state_transposed(h_.initial_state);
    for (int64_t first = 0; first < h_.kv_len; first += kC) {
      const int rows = rows_of_chunk(h_.kv_len, first);
      Ahead<T> ahead(h_, (h_.causal ? rows : 0) + h_.value_dim);
      ahead_of_keys(first + kC, &ahead);
      if (h_.causal) {
        ahead_of_queries(first + kC, &ahead);
        ahead.add(g_.d_q, first + kC, h_.q_len, h_.head_dim);
      }
      load_keys(first, rows);
      if (h_.decay.data) chunk_decay(h_, first, rows, &decay_);
      if (h_.causal) {
        load_output_gradients(first, rows);
        transpose(d_num_, dv_, kC, h_.value_dim, T{1}, d_num_t_, kC);
        chunk_scores<T>(v_.data, v_.stride, d_num_t_, h_.value_dim, rows,
                        h_.normalise ? d_den_ : nullptr, decay_.w, d_scores_);
        query_gradients(first, rows, &ahead);
      }
      if (h_.decay.data) scale_rows(decay_.r, rows, d_, k_);
      grow_state(v_.data, v_.stride, k_, nullptr, rows, &ahead);
    }
  }

  /// dQ of a chunk from the state before it (causal) or of all keys, to memory.
  void query_gradients(int64_t first, int rows, Ahead<T>* ahead) {
    multiply_ahead<Walk::kRows, Into::kStore>(rows, h_.head_dim, h_.value_dim, d_num_, dv_,
                                              state_t_, d_, out_, d_, ahead);
    if (h_.normalise) add_to_rows(d_den_, z_, rows, d_, out_);
    if (h_.decay.data) scale_rows(decay_.e, rows, d_, out_);
    if (h_.causal) add_from_keys(d_scores_, k_, d_, rows, h_.head_dim, out_, d_);
    load_features(h_, h_.q, first, rows, q_, d_);
    if (h_.decay.data) {
      row_dots(q_, d_, out_, d_, rows, d_, dots_);
      for (int i = 0; i < rows; ++i) g_.d_decay.data[(first + i) * g_.d_decay.stride] = dots_[i];
    }
    times_slope(h_, q_, rows, d_, out_);
    store_chunk(h_, out_, d_, first, rows, h_.head_dim, g_.d_q);
  }

  // ---- backwards: gradients of states, dK, dV ---------------------------------------------------

  void begin_backward_sweep() {
    double along = 0;  // d_final · final: what the decay gains through the final state
    if (h_.decay.data && g_.d_final_state) {
      const int columns = h_.value_dim + h_.normalise;
      for (int i = 0; i < h_.head_dim; ++i) {
        const T* row = g_.d_final_state + static_cast<ptrdiff_t>(i) * columns;
        for (int c = 0; c < h_.value_dim; ++c) {
          along += static_cast<double>(row[c]) * state_t_[static_cast<ptrdiff_t>(c) * d_ + i];
        }
        if (h_.normalise) along += static_cast<double>(row[h_.value_dim]) * z_[i];
      }
    }
    d_log_ = along;
    if (h_.causal) return load_state_transposed(g_.d_final_state);
    // Not causal: dQ from the finished state first, then the state's gradient from all queries.
    for (int64_t first = 0; first < h_.q_len; first += kC) {
      const int rows = rows_of_chunk(h_.q_len, first);
      Ahead<T> ahead(h_, rows);
      ahead_of_queries(first + kC, &ahead);
      load_output_gradients(first, rows);
      query_gradients(first, rows, &ahead);
    }
    load_state_transposed(g_.d_final_state);
    for (int64_t first = 0; first < h_.q_len; first += kC) {
      const int rows = rows_of_chunk(h_.q_len, first);
      Ahead<T> ahead(h_, h_.value_dim);
      ahead_of_queries(first + kC, &ahead);
      load_output_gradients(first, rows);
      load_features(h_, h_.q, first, rows, q_, d_);
      grow_state(d_num_, dv_, q_, d_den_, rows, &ahead);
    }
    transpose_state();
  }

  void backward_sweep() {
    const int64_t chunks = (h_.kv_len + kC - 1) / kC;
    for (int64_t first = (chunks - 1) * kC; first >= 0; first -= kC) {
      const int rows = rows_of_chunk(h_.kv_len, first);
      Ahead<T> ahead(h_, 2 * rows + (h_.causal ? h_.value_dim : 0));
      ahead_of_keys(first - kC, &ahead);
      ahead.add(g_.d_k, first - kC, h_.kv_len, h_.head_dim);
      ahead.add(g_.d_v, first - kC, h_.kv_len, h_.value_dim);
      if (h_.causal) ahead_of_queries(first - kC, &ahead);
      load_keys(first, rows);
      if (h_.decay.data) chunk_decay(h_, first, rows, &decay_);
      if (h_.causal) {
        load_output_gradients(first, rows);
        load_features(h_, h_.q, first, rows, q_, d_);
        transpose_state();
        transpose(q_, d_, kC, h_.head_dim, T{1}, q_t_, kC);
        transpose(d_num_, dv_, kC, h_.value_dim, T{1}, d_num_t_, kC);
        chunk_scores<T>(k_, d_, q_t_, h_.head_dim, rows, nullptr, decay_.w, scores_);
        chunk_scores<T>(v_.data, v_.stride, d_num_t_, h_.value_dim, rows,
                        h_.normalise ? d_den_ : nullptr, decay_.w, d_scores_);
      }
      value_gradients(first, rows, &ahead);
      key_gradients(first, rows, &ahead);
      if (h_.causal) {
        if (h_.decay.data) scale_rows(decay_.e, rows, d_, q_);
        grow_state(d_num_, dv_, q_, d_den_, rows, &ahead);
      }
    }
  }

  void value_gradients(int64_t first, int rows, Ahead<T>* ahead) {
    multiply_ahead<Walk::kRows, Into::kStore>(rows, h_.value_dim, h_.head_dim, k_, d_, state_, dv_,
                                              out_, dv_, ahead);
    if (h_.decay.data) scale_rows(decay_.r, rows, dv_, out_);
    if (h_.causal) add_from_queries(scores_, d_num_, rows, h_.value_dim, dv_, out_);
    store_chunk(h_, out_, dv_, first, rows, h_.value_dim, g_.d_v);
  }

  void key_gradients(int64_t first, int rows, Ahead<T>* ahead) {
    multiply_ahead<Walk::kRows, Into::kStore>(rows, h_.head_dim, h_.value_dim, v_.data, v_.stride,
                                              state_t_, d_, out_, d_, ahead);
    if (h_.normalise) add_to_rows<T>(nullptr, z_, rows, d_, out_);
    if (h_.decay.data) scale_rows(decay_.r, rows, d_, out_);
    if (h_.causal) add_from_queries(d_scores_, q_, rows, h_.head_dim, d_, out_);
    if (h_.decay.data) {
      row_dots(k_, d_, out_, d_, rows, d_, dots_);
      for (int i = rows - 1; i >= 0; --i) {
        T& d_decay = g_.d_decay.data[(first + i) * g_.d_decay.stride];
        d_log_ += static_cast<double>(d_decay) - static_cast<double>(dots_[i]);
        d_decay = static_cast<T>(d_log_);
      }
    }
    times_slope(h_, k_, rows, d_, out_);
    store_chunk(h_, out_, d_, first, rows, h_.head_dim, g_.d_k);
  }

  // ---- both ------------------------------------------------------------------------------------

  void ahead_of_keys(int64_t first, Ahead<T>* ahead) const {
    ahead->add(h_.k, first, h_.kv_len, h_.head_dim);
    ahead->add(h_.v, first, h_.kv_len, h_.value_dim);
  }
  void ahead_of_queries(int64_t first, Ahead<T>* ahead) const {
    ahead->add(g_.d_o, first, h_.q_len, h_.value_dim);
    if (h_.normalise) ahead->add(h_.o, first, h_.q_len, h_.value_dim);
    ahead->add(h_.q, first, h_.q_len, h_.head_dim);
  }

  void load_keys(int64_t first, int rows) {
    load_features(h_, h_.k, first, rows, k_, d_);
    v_ = chunk_rows(h_, h_.v, first, rows, h_.value_dim, v_panel_, dv_);
  }

  /// G and c of a chunk; zero beyond `rows`.
  void load_output_gradients(int64_t first, int rows) {
    load_chunk(h_, g_.d_o, first, rows, h_.value_dim, d_num_, dv_);
    clear(d_den_, kC);
    if (h_.normalise) {
      load_chunk(h_, h_.o, first, rows, h_.value_dim, out_, dv_);
      row_dots(d_num_, dv_, out_, dv_, rows, dv_, d_den_);
    }
    for (int i = 0; i < rows; ++i) {
      dots_[i] = h_.normalise ? inverse(h_.denominator.data[(first + i) * h_.denominator.stride])
                              : h_.scale;
      d_den_[i] *= -dots_[i];
    }
    scale_rows(dots_, rows, dv_, d_num_);
  }

  /// Sᵀ = total · Sᵀ + Xᵀ Y,  z = total · z + Yᵀ c; X rows of values, Y of features. A null c is
  /// ones.
  void grow_state(const T* x, int ldx, const T* y, const T* c, int rows, Ahead<T>* ahead) {
    if (h_.decay.data) {
      scale_all(decay_.total, static_cast<ptrdiff_t>(d_) * dv_, state_t_);
      if (h_.normalise) scale_all(decay_.total, d_, z_);
    }
    multiply_ahead<Walk::kColumns, Into::kAdd>(h_.value_dim, h_.head_dim, rows, x, ldx, y, d_,
                                               state_t_, d_, ahead);
    if (h_.normalise) add_rows(c, y, rows, d_, z_);
  }

  void load_state_transposed(const T* state) {
    clear(state_t_, static_cast<ptrdiff_t>(d_) * dv_);
    clear(z_, d_);
    if (!state) return;
    load_state(h_, state, dv_, state_, z_);
    transpose(state_, dv_, h_.head_dim, h_.value_dim, T{1}, state_t_, d_);
  }

  void transpose_state() { transpose(state_t_, d_, h_.value_dim, h_.head_dim, T{1}, state_, dv_); }

  const LinearHead<T>& h_;
  const LinearHeadGradients<T>& g_;
  int d_, dv_;
  T* state_t_;  ///< [Dv, D] Sᵀ, later dSᵀ
  T* state_;    ///< [D, Dv] dS
  T *z_, *q_, *k_, *v_panel_, *d_num_, *out_, *q_t_, *d_num_t_, *scores_, *d_scores_, *d_den_,
      *dots_;
  ChunkRows<T> v_;
  Decay<T> decay_;
  double d_log_ = 0;  ///< Σ over later steps: gradient of the decay
};

template <typename T>
void linear_backward(const LinearHead<T>& head, const LinearHeadGradients<T>& gradients) {
  head.beta.data ? DeltaBackward<T>(head, gradients).run()
                 : LinearBackward<T>(head, gradients).run();
}

}  // namespace
}  // namespace FOVEA_ISA_NAMESPACE
}  // namespace fovea::kernels
HWY_AFTER_NAMESPACE();
