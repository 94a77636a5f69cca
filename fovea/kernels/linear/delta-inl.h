#pragma once

// What a chunk writes under the delta rule. Step i replaces what the decayed state says about its
// key instead of adding to it; with M_ij = w_ij (k_i · k_j), j < i, and S the state before the
// chunk
//
//     y_i = v_i - S'_iᵀ k_i,   u_i = β_i y_i,   S_i = S'_i + k_i u_iᵀ
//     X = V - (e ∘ K) S,   (I + β M) U = β X
//
// after which U takes the place of V in the additive form (forward-inl.h). The inverse T of the
// unit triangle I + β M is made row by row: the WY form of Yang et al. 2024 (DeltaNet), eq. 8-11,
// with the decay of Yang et al. 2025 (Gated DeltaNet), §3.3.

#include "fovea/kernels/linear/decay-inl.h"

HWY_BEFORE_NAMESPACE();
namespace fovea::kernels {
namespace FOVEA_ISA_NAMESPACE {
namespace {

/// One chunk's matrices; rows beyond the chunk's are undefined.
template <typename T>
struct DeltaChunk {
  T* m;        ///< [key][query], the triangle above its diagonal
  T* inverse;  ///< T [query][key], 0 above the diagonal
  T *x, *u;    ///< [kC, dv]
};

template <typename T>
HWY_INLINE DeltaChunk<T> take_delta_chunk(Panels<T>* panels) {
  DeltaChunk<T> c;
  c.m = panels->take(kC, kC);
  c.inverse = panels->take(kC, kC);
  c.x = panels->take(kC, panels->dv);
  c.u = panels->take(kC, panels->dv);
  return c;
}

/// beta of a chunk; zero beyond `rows`.
template <typename T>
HWY_INLINE void load_beta(const LinearHead<T>& head, int64_t first, int rows, T* beta) {
  const T* from = head.beta.data + first * head.beta.stride;
  for (int i = 0; i < kC; ++i) beta[i] = i < rows ? from[i * head.beta.stride] : T{0};
}

/// (I + β M)⁻¹
template <typename T>
HWY_INLINE void invert_writes(const T* beta, const T* m, int rows, T* inverse) {
  const Tag<T> d;
  for (int i = 0; i < rows; ++i) {
    T* row = inverse + i * kC;
    for (int x = 0; x < kC; x += kLanesOf<T>) {
      auto even = hn::Zero(d), odd = hn::Zero(d);
      int j = 0;
      for (; j + 2 <= i; j += 2) {
        even = hn::MulAdd(hn::Set(d, m[j * kC + i]), hn::Load(d, inverse + j * kC + x), even);
        odd = hn::MulAdd(hn::Set(d, m[(j + 1) * kC + i]), hn::Load(d, inverse + (j + 1) * kC + x),
                         odd);
      }
      if (j < i) {
        even = hn::MulAdd(hn::Set(d, m[j * kC + i]), hn::Load(d, inverse + j * kC + x), even);
      }
      hn::Store(hn::Mul(hn::Set(d, -beta[i]), hn::Add(even, odd)), d, row + x);
    }
    row[i] = 1;
  }
}

/// y = L x for a lower triangle L [row][column].
template <typename T>
HWY_INLINE void multiply_lower(const T* l, const T* x, int rows, int dim, int ld, T* y) {
  for (int r = 0; r < rows; r += kClip) {
    const int some = HWY_MIN(kClip, rows - r);
    multiply<Walk::kRows, Into::kStore>(some, dim, r + some, l + r * kC, kC, x, ld,
                                        y + static_cast<ptrdiff_t>(r) * ld, ld);
  }
}

/// y = Lᵀ x
template <typename T>
HWY_INLINE void multiply_lower_transposed(const T* l, const T* x, int rows, int dim, int ld, T* y) {
  for (int r = 0; r < rows; r += kClip) {
    multiply<Walk::kColumns, Into::kStore>(HWY_MIN(kClip, rows - r), dim, rows - r, l + r * kC + r,
                                           kC, x + static_cast<ptrdiff_t>(r) * ld, ld,
                                           y + static_cast<ptrdiff_t>(r) * ld, ld);
  }
}

/// M, T, X and U of a chunk from its keys' features, values, decay, beta [kC] and the state before
/// it. Overwrites k_t [D, kC], k_e [kC, D] and scaled [kC, dv].
template <typename T>
void delta_writes(const LinearHead<T>& head, int rows, const T* k, int ldk, Operand<T> v,
                  const T* beta, const ChunkDecay<T>& decay, const T* state, int ld, T* k_t, T* k_e,
                  T* scaled, const DeltaChunk<T>& chunk) {
  const Tag<T> d;
  decay.scores(k, k, rows, k_t, chunk.m);
  invert_writes(beta, chunk.m, rows, chunk.inverse);
  multiply<Walk::kRows, Into::kStore>(rows, head.value_dim, head.head_dim,
                                      decay.from_start(k, rows, k_e), ldk, state, ld, chunk.x, ld);
  for (int i = 0; i < rows; ++i) {
    const auto b = hn::Set(d, beta[i]);
    const T* value = v.data + i * v.ld;
    T* x = chunk.x + static_cast<ptrdiff_t>(i) * ld;
    for (int c = 0; c < ld; c += kLanesOf<T>) {
      const auto left = hn::Sub(hn::LoadU(d, value + c), hn::Load(d, x + c));
      hn::Store(left, d, x + c);
      hn::Store(hn::Mul(b, left), d, scaled + static_cast<ptrdiff_t>(i) * ld + c);
    }
  }
  multiply_lower(chunk.inverse, scaled, rows, head.value_dim, ld, chunk.u);
}

}  // namespace
}  // namespace FOVEA_ISA_NAMESPACE
}  // namespace fovea::kernels
HWY_AFTER_NAMESPACE();
