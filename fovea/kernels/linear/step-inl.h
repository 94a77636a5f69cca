#pragma once

// One step of a linear recurrence: a state goes in, one comes out, in one pass over memory. The
// columns of a state have nothing to do with each other, so a few vectors of them are worked on at
// a time, rows of features one after another:
//
//     S' = α ∘ S,   u = v   or   β (v - S'ᵀ k),   S = S' + k uᵀ,   o = Sᵀ q

#include "fovea/kernels/linear/chunk-inl.h"

HWY_BEFORE_NAMESPACE();
namespace fovea::kernels {
namespace FOVEA_ISA_NAMESPACE {
namespace {

/// What a step reads beside its state: features of q and k, and the decay's factor of each row.
template <typename T>
struct StepRows {
  const T *q, *k, *alpha;  ///< [D]
  const T* beta;           ///< null: additive
};

/// kVecs vectors of columns from `column` on; o = Sᵀ q.
template <int kVecs, class D, typename T = hn::TFromD<D>>
HWY_INLINE void step_columns(D d, const LinearHead<T>& head, const StepRows<T>& rows, int column,
                             const T* v, T* o) {
  const int lanes = static_cast<int>(hn::Lanes(d));
  const ptrdiff_t ld = head.value_dim + head.normalise;
  const T* from = head.initial_state + column;
  T* to = head.final_state + column;
  using V = hn::Vec<D>;
  V u[kVecs], sum[kVecs];
#pragma GCC unroll 4
  for (int x = 0; x < kVecs; ++x) {
    u[x] = hn::LoadU(d, v + column + x * lanes);
    sum[x] = hn::Zero(d);
  }
  if (rows.beta) {
    for (int i = 0; i < head.head_dim; ++i) {
      const auto factor = hn::Set(d, rows.alpha[i] * rows.k[i]);
#pragma GCC unroll 4
      for (int x = 0; x < kVecs; ++x) {
        u[x] = hn::NegMulAdd(factor, hn::LoadU(d, from + i * ld + x * lanes), u[x]);
      }
    }
#pragma GCC unroll 4
    for (int x = 0; x < kVecs; ++x) u[x] = hn::Mul(hn::Set(d, *rows.beta), u[x]);
  }
  for (int i = 0; i < head.head_dim; ++i) {
    const auto alpha = hn::Set(d, rows.alpha[i]), k = hn::Set(d, rows.k[i]);
    const auto q = hn::Set(d, rows.q[i]);
#pragma GCC unroll 4
    for (int x = 0; x < kVecs; ++x) {
      const auto old = hn::LoadU(d, from + i * ld + x * lanes);
      const auto state = hn::MulAdd(k, u[x], hn::Mul(alpha, old));
      hn::StoreU(state, d, to + i * ld + x * lanes);
      sum[x] = hn::MulAdd(q, state, sum[x]);
    }
  }
#pragma GCC unroll 4
  for (int x = 0; x < kVecs; ++x) hn::StoreU(sum[x], d, o + column + x * lanes);
}

/// Row 0 of `head`, whose states are both set and may be the same.
template <typename T>
void linear_step(const LinearHead<T>& head) {
  Panels<T> panels(head);
  T* q = panels.take(kC, panels.d);
  T* k = panels.take(kC, panels.d);
  T* v = panels.take(1, panels.dv);
  T* o = panels.take(1, panels.dv);
  T* alpha = panels.take(1, panels.d);
  load_features<T>(head, head.q, 0, 1, q, panels.d);
  load_features<T>(head, head.k, 0, 1, k, panels.d);
  load_rows<T>(head.v.data, head.dtype, head.v.stride, 1, 1, head.value_dim, v, panels.dv);
  const Tag<T> d;
  for (int i = 0; i < panels.d; ++i) {
    alpha[i] = i < head.head_dim && head.decay.data ? head.decay.data[head.decay_by_channel ? i : 0]
                                                    : T{0};
  }
  for (int i = 0; i < panels.d; i += kLanesOf<T>) {
    const auto log2e = hn::Set(d, static_cast<T>(1.4426950408889634074));
    hn::Store(exp2(hn::Mul(log2e, hn::Load(d, alpha + i))), d, alpha + i);
  }
  const StepRows<T> rows = {q, k, alpha, head.beta.data};
  int c = 0;
  for (; c + 4 * kLanesOf<T> <= head.value_dim; c += 4 * kLanesOf<T>) {
    step_columns<4>(d, head, rows, c, v, o);
  }
  const hn::CappedTag<T, 8> narrow;  // value_dim is a multiple of 8
  for (; c < head.value_dim; c += static_cast<int>(hn::Lanes(narrow))) {
    step_columns<1>(narrow, head, rows, c, v, o);
  }
  T factor = head.scale;
  if (head.normalise) {
    const ptrdiff_t ld = head.value_dim + 1;
    T sum = head.eps;
    for (int i = 0; i < head.head_dim; ++i) {
      const T z = alpha[i] * head.initial_state[i * ld + head.value_dim] + k[i];
      head.final_state[i * ld + head.value_dim] = z;
      sum += q[i] * z;
    }
    head.denominator.data[0] = sum;
    factor = sum == 0 ? T{0} : 1 / sum;
  }
  store_rows<T>(o, panels.dv, 1, head.value_dim, factor, head.o.data, head.dtype, head.o.stride);
}

}  // namespace
}  // namespace FOVEA_ISA_NAMESPACE
}  // namespace fovea::kernels
HWY_AFTER_NAMESPACE();
