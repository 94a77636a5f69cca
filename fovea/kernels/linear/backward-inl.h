#pragma once

// Backward of linear attention with additive writes for one head. With G = r_i d_o (r_i = scale, or
// 1/den under the normaliser) and c_i = -r_i (d_o · o) the gradient of a denominator (0 without),
// the chunk form is as follows. Joined to other keys r_i is e^(gain - lse), o and lse those of all
// keys, and c_i = r_i (d_lse - d_o · o); the gain, a logarithm of weights, gets q_i · dq_i.
//
//     P = w ∘ (G Vᵀ + c 1ᵀ)                        gradient of A = w ∘ (Q Kᵀ)
//     dQ = e ∘ (G Sᵀ + c zᵀ) + P K                 forwards over the chunks, with their states
//     dK = r ∘ (V dSᵀ + 1 dzᵀ) + Pᵀ Q              backwards over the chunks
//     dV = (r ∘ K) dS + Aᵀ G
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

/// Op: of the operands, T or what is rounded to it.
template <typename T, typename Op = T>
class LinearBackward {
 public:
  LinearBackward(const LinearHead<T>& head, const LinearHeadGradients<T>& gradients)
      : h_(head),
        g_(gradients),
        panels_(head),
        decay_(head, &panels_),
        d_decay_(head, gradients, &panels_),
        d_(panels_.d),
        dv_(panels_.dv) {
    state_t_ = panels_.take(dv_, d_);
    state_ = panels_.take(d_, dv_);
    z_ = panels_.take(1, d_);
    q_ = panels_.take(kC, d_);
    k_ = panels_.take(kC, d_);
    d_num_ = panels_.take(kC, dv_);
    out_ = panels_.take(kC, HWY_MAX(d_, dv_));
    scores_ = panels_.take(kC, kC);
    d_scores_ = panels_.take(kC, kC);
    scaled_ = panels_.take(kC, d_);
    d_den_ = panels_.take(1, kC);
    dots_ = panels_.take(1, kC);
    held_ = panels_.take(kC, HWY_MAX(d_, dv_));
    clear(scores_, kC * kC);
    clear(d_scores_, kC * kC);
    take_operands();
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
  void take_operands() {
    if constexpr (!kPacked<Op>) {
      v_panel_ = panels_.take(kC, dv_);
      lanes_panel_ = panels_.take(HWY_MAX(d_, dv_), kC);
      state_lanes_ = state_;
    } else {
      v_panel_ = nullptr;  // values are read where they lie
      panels_.take_operand(HWY_MAX(d_, dv_), kC, &lanes_panel_);
      panels_.take_operand(d_, dv_, &state_lanes_);
    }
    for (Op** x : {&q_panel_, &k_panel_, &q_pairs_, &k_pairs_, &scaled_pairs_}) {
      panels_.take_operand(kC, d_, x);
    }
    for (Op** x : {&g_panel_, &g_pairs_, &v_pairs_}) panels_.take_operand(kC, dv_, x);
    panels_.take_operand(kC, kC, &score_panel_);
    for (Op** x : {&state_rows_, &state_pairs_}) panels_.take_operand(dv_, d_, x);
  }

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
      decay_.load(first, rows);
      const Operand<Op> k = as_pairs(k_, d_, rows, k_pairs_);
      if (h_.causal) {
        load_output_gradients(first, rows);
        score_gradients(rows);
        pack_state();
        query_gradients(first, rows, k, &ahead);
      }
      const T* written = decay_.to_end(k_, rows, scaled_);
      grow_state(value_pairs(h_, first, rows, v_pairs_, dv_), written,
                 written == k_ ? k : as_pairs(written, d_, rows, scaled_pairs_), nullptr, rows,
                 &ahead);
    }
  }

  /// dQ of a chunk from the state before it (causal) or of all keys, to memory.
  void query_gradients(int64_t first, int rows, Operand<Op> k, Ahead<T>* ahead) {
    multiply_ahead<Walk::kRows, Into::kStore>(rows, h_.head_dim, h_.value_dim, g_rows_, packed_t_,
                                              out_, d_, ahead);
    if (h_.normalise) add_to_rows(d_den_, z_, rows, d_, out_);
    decay_.from_start(out_, rows, out_);
    if (h_.causal) {
      decay_.add_keys(d_scores_, as_pairs(d_scores_, kC, rows, score_panel_), k_, k, rows, out_);
    }
    load_features<Op>(h_, h_.q, first, rows, q_, d_);
    d_decay_.set_read(q_, out_, first, rows);
    if (h_.lse.data) gain_gradients(first, rows);
    times_slope(h_, q_, rows, d_, out_);
    store(g_.add_q, out_, d_, first, rows, h_.head_dim, g_.d_q);
  }

  void gain_gradients(int64_t first, int rows) {
    clear(dots_, kC);
    row_dots(q_, d_, out_, d_, rows, h_.head_dim, dots_);
    for (int i = 0; i < rows; ++i) {
      T* at = g_.d_gain.data + (first + i) * g_.d_gain.stride;
      *at = g_.add_q ? *at + dots_[i] : dots_[i];
    }
  }

  // ---- backwards: gradients of states, dK, dV ---------------------------------------------------

  void begin_backward_sweep() {
    if (d_decay_.wanted() && g_.d_final_state) {  // gains through the final state
      const int columns = h_.value_dim + h_.normalise;
      for (int i = 0; i < h_.head_dim; ++i) {
        const T* row = g_.d_final_state + static_cast<ptrdiff_t>(i) * columns;
        for (int c = 0; c < h_.value_dim; ++c) {
          d_decay_.add_final(
              i, static_cast<double>(row[c]) * state_t_[static_cast<ptrdiff_t>(c) * d_ + i]);
        }
        if (h_.normalise) d_decay_.add_final(i, static_cast<double>(row[h_.value_dim]) * z_[i]);
      }
    }
    if (h_.causal) return load_state_transposed(g_.d_final_state);
    pack_state();
    // Not causal: dQ from the finished state first, then the state's gradient from all queries.
    for (int64_t first = 0; first < h_.q_len; first += kC) {
      const int rows = rows_of_chunk(h_.q_len, first);
      Ahead<T> ahead(h_, rows);
      ahead_of_queries(first + kC, &ahead);
      load_output_gradients(first, rows);
      query_gradients(first, rows, {}, &ahead);
    }
    load_state_transposed(g_.d_final_state);
    for (int64_t first = 0; first < h_.q_len; first += kC) {
      const int rows = rows_of_chunk(h_.q_len, first);
      Ahead<T> ahead(h_, h_.value_dim);
      ahead_of_queries(first + kC, &ahead);
      load_output_gradients(first, rows);
      load_features<Op>(h_, h_.q, first, rows, q_, d_);
      grow_state(as_pairs(d_num_, dv_, rows, v_pairs_), q_, as_pairs(q_, d_, rows, q_pairs_),
                 d_den_, rows, &ahead);
    }
    pack_states();
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
      k_rows_ = as_rows(k_, d_, rows, k_panel_);
      decay_.load(first, rows);
      Operand<Op> g = {}, q = {};
      if (h_.causal) {
        load_output_gradients(first, rows);
        load_features<Op>(h_, h_.q, first, rows, q_, d_);
        g = as_pairs(d_num_, dv_, rows, g_pairs_);
        q = as_pairs(q_, d_, rows, q_pairs_);
        pack_states();
        decay_.scores(k_, k_rows_, q_, as_rows(q_, d_, kC, q_panel_), rows, lanes_panel_, scores_);
        score_gradients(rows);
      }
      value_gradients(first, rows, g, &ahead);
      key_gradients(first, rows, q, &ahead);
      if (h_.causal) {
        const T* read = decay_.from_start(q_, rows, scaled_);
        grow_state(g, read, read == q_ ? q : as_pairs(read, d_, rows, scaled_pairs_), d_den_, rows,
                   &ahead);
      }
    }
  }

  void value_gradients(int64_t first, int rows, Operand<Op> g, Ahead<T>* ahead) {
    const T* written = decay_.to_end(k_, rows, scaled_);
    multiply_ahead<Walk::kRows, Into::kStore>(
        rows, h_.value_dim, h_.head_dim,
        written == k_ ? k_rows_ : as_rows(written, d_, rows, q_panel_), packed_, out_, dv_, ahead);
    if (h_.causal) {
      add_from_queries(as_rows(scores_, kC, rows, score_panel_), g, rows, h_.value_dim, out_, dv_);
    }
    store(g_.add_k, out_, dv_, first, rows, h_.value_dim, g_.d_v);
  }

  void key_gradients(int64_t first, int rows, Operand<Op> q, Ahead<T>* ahead) {
    multiply_ahead<Walk::kRows, Into::kStore>(rows, h_.head_dim, h_.value_dim, v_, packed_t_, out_,
                                              d_, ahead);
    if (h_.normalise) add_to_rows<T>(nullptr, z_, rows, d_, out_);
    decay_.to_end(out_, rows, out_);
    if (h_.causal) {
      decay_.add_queries(d_scores_, as_rows(d_scores_, kC, rows, score_panel_), q_, q, rows, out_);
    }
    d_decay_.add_written(k_, out_, first, rows);
    d_decay_.sum_up(first, rows);
    times_slope(h_, k_, rows, d_, out_);
    store(g_.add_k, out_, d_, first, rows, h_.head_dim, g_.d_k);
  }

  void store(bool add, T* panel, int ld, int64_t first, int rows, int dim, const LinearRows& x) {
    add ? add_chunk(h_, panel, ld, first, rows, dim, x, held_)
        : store_chunk(h_, panel, ld, first, rows, dim, x);
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
    load_features<Op>(h_, h_.k, first, rows, k_, d_);
    v_ = chunk_rows(h_, h_.v, first, rows, h_.value_dim, v_panel_, dv_);
  }

  /// P = w ∘ (G Vᵀ + c 1ᵀ) of the chunk that is loaded.
  void score_gradients(int rows) {
    const Operand<Op> lanes = as_lanes(d_num_, g_rows_, dv_, kC, h_.value_dim, lanes_panel_);
    chunk_scores<Op, T>(v_, lanes, h_.value_dim, rows, h_.normalise ? d_den_ : nullptr, decay_.w(),
                        d_scores_);
  }

  /// G and c of a chunk; zero beyond `rows`.
  void load_output_gradients(int64_t first, int rows) {
    const Tag<T> d;
    const int64_t bytes = size_of(h_.dtype);
    clear(d_den_, kC);
    if (h_.normalise) {
      stored_row_dots<T>(static_cast<const char*>(g_.d_o.data) + first * g_.d_o.stride * bytes,
                         g_.d_o.stride,
                         static_cast<const char*>(h_.o.data) + first * h_.o.stride * bytes,
                         h_.o.stride, h_.dtype, rows, h_.value_dim, d_den_);
    }
    h_.lse.data ? joined_weights(first, rows) : own_weights(first, rows);
    load_mapped<Op>(h_, g_.d_o, first, rows, h_.value_dim, d_num_, dv_,
                    [&](int r, Vec<T> x) HWY_ATTR { return hn::Mul(hn::Set(d, dots_[r]), x); });
    g_rows_ = as_rows(d_num_, dv_, kC, g_panel_);
  }

  void own_weights(int64_t first, int rows) {
    for (int i = 0; i < rows; ++i) {
      dots_[i] = h_.normalise ? inverse(h_.denominator.data[(first + i) * h_.denominator.stride])
                              : h_.scale;
      d_den_[i] *= -dots_[i];
    }
  }

  /// The exponent has a bound where the memory, then without weight, would be taken times infinity.
  void joined_weights(int64_t first, int rows) {
    const Tag<T> d;
    clear(dots_, kC);
    for (int i = 0; i < rows; ++i) {
      const int64_t at = first + i;
      const T gain = h_.gain.data[at * h_.gain.stride], lse = h_.lse.data[at * h_.lse.stride];
      dots_[i] = gain == -std::numeric_limits<T>::infinity() ? gain : gain - lse;
      d_den_[i] = (g_.d_lse.data ? g_.d_lse.data[at * g_.d_lse.stride] : T{0}) - d_den_[i];
    }
    for (int i = 0; i < kC; i += kLanesOf<T>) {
      const auto weight = exp<T>(hn::Min(hn::Load(d, dots_ + i), hn::Set(d, T{80})));
      hn::Store(weight, d, dots_ + i);
      hn::Store(hn::Mul(weight, hn::Load(d, d_den_ + i)), d, d_den_ + i);
    }
  }

  /// Sᵀ = total · Sᵀ + Xᵀ Y,  z = total · z + Yᵀ c; X rows of values, Y of features, both by pairs.
  /// A null c is ones.
  void grow_state(Operand<Op> x, const T* y, Operand<Op> y_pairs, const T* c, int rows,
                  Ahead<T>* ahead) {
    decay_.scale_transposed(h_.value_dim, state_t_);
    if (h_.normalise) decay_.scale_transposed(1, z_);
    multiply_ahead<Walk::kColumns, Into::kAdd>(h_.value_dim, h_.head_dim, rows, x, y_pairs,
                                               state_t_, d_, ahead);
    if (h_.normalise) add_rows(c, y, rows, d_, z_);
  }

  void pack_state() { packed_t_ = as_pairs(state_t_, d_, h_.value_dim, state_pairs_); }
  /// And transposed.
  void pack_states() {
    pack_state();
    packed_ = as_lanes(state_t_, as_rows(state_t_, d_, dv_, state_rows_), d_, dv_, h_.head_dim,
                       state_lanes_);
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
  Panels<T> panels_;
  ChunkDecay<T> decay_;
  DecayGradient<T> d_decay_;
  int d_, dv_;
  T* state_t_;  ///< [Dv, D] Sᵀ, later dSᵀ
  T* state_;    ///< [D, Dv] dS
  T *z_, *q_, *k_, *d_num_, *out_, *scaled_, *scores_, *d_scores_, *d_den_, *dots_, *held_;
  Op *v_panel_, *lanes_panel_, *q_panel_, *k_panel_, *g_panel_, *q_pairs_, *k_pairs_, *g_pairs_,
      *v_pairs_, *scaled_pairs_, *score_panel_, *state_rows_, *state_pairs_, *state_lanes_;
  Operand<Op> k_rows_, v_, g_rows_;
  Operand<Op> packed_t_, packed_;  ///< the state by pairs of values, and by lanes of them
};

template <typename T, typename Op = T>
void linear_backward(const LinearHead<T>& head, const LinearHeadGradients<T>& gradients) {
  if constexpr (!kPacked<Op>) {
    if (head.beta.data) return DeltaBackward<T>(head, gradients).run();
  }
  LinearBackward<T, Op>(head, gradients).run();
}

}  // namespace
}  // namespace FOVEA_ISA_NAMESPACE
}  // namespace fovea::kernels
HWY_AFTER_NAMESPACE();
