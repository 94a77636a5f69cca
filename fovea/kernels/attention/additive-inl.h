#pragma once

// Additive scores (Bahdanau et al. 2015, eq. 6, after the projections) of one tile of queries and
// one tile of keys: a function of its own in place of the product, transposed like all scores, a
// lane a query.
//
//     S[c][r] = Σ_i w_i tanh(u_r[i] + v_c[i])        u the queries, v the keys
//     du_r[i] = w_i Σ_c dS[c][r] (1 - t²)            t = tanh(u_r[i] + v_c[i]), made again
//     dv_c[i] = w_i Σ_r dS[c][r] (1 - t²)
//     dw_i    = Σ_{c,r} dS[c][r] t
//
// An exponential and a division a pair and feature: 10 times the time of a forward with products,
// 15 of a backward (head size 64, AMD EPYC Zen 4, 2026-11-21), but no [Sq, Sk, D] in memory.

#include "fovea/kernels/attention/vector-inl.h"

HWY_BEFORE_NAMESPACE();
namespace fovea::kernels {
namespace FOVEA_ISA_NAMESPACE {
namespace {

/// tanh |x| = (1 - e) / (1 + e) with e = 2^(-2 log2 e |x|): good to 3 eps, absolutely. NaN stays.
template <typename T>
HWY_INLINE Vec<T> tanh_of(Vec<T> x) {
  const Tag<T> d;
  const auto one = hn::Set(d, T{1});
  const auto e = exp2(hn::Mul(hn::Abs(x), hn::Set(d, static_cast<T>(-2 * 1.4426950408889634074))));
  return hn::CopySignToAbs(hn::Div(hn::Sub(one, e), hn::Add(one, e)), x);
}

/// Scores of a part of keys k [64, stride]. `queries`: [D, 64]; `weights`: [D].
template <typename T>
HWY_NOINLINE void additive_scores(const T* weights, int dim, const T* queries, const T* k,
                                  int64_t stride, const Part& part, T* scores) {
  const Tag<T> d;
  constexpr int kRows = 4;  // independent chains hide the latency
  for (int lane = part.lane; lane < part.lane + part.lanes; lane += kLanesOf<T>) {
    for (int c = part.begin; c < part.end; c += kRows) {
      const int count = HWY_MIN(kRows, part.end - c);
      Vec<T> sum[kRows];
      const T* row[kRows];
      for (int j = 0; j < kRows; ++j) {
        sum[j] = hn::Zero(d);
        row[j] = k + (c + HWY_MIN(j, count - 1)) * stride;
      }
      for (int i = 0; i < dim; ++i) {
        const auto query = hn::Load(d, queries + i * kLaneStride + lane);
        const auto weight = hn::Set(d, weights[i]);
#pragma GCC unroll 4
        for (int j = 0; j < kRows; ++j) {
          sum[j] = hn::MulAdd(weight, tanh_of<T>(hn::Add(query, hn::Set(d, row[j][i]))), sum[j]);
        }
      }
      for (int j = 0; j < count; ++j) hn::Store(sum[j], d, scores + (c + j) * kLaneStride + lane);
    }
  }
}

/// From dS of a part: adds to d_queries [D, 64], d_k [64, d_stride] and, unless null, d_weights
/// [D].
template <typename T>
HWY_NOINLINE void additive_gradients(const T* weights, int dim, const T* queries, const T* k,
                                     int64_t stride, const Part& part, const T* d_s, T* d_queries,
                                     T* d_k, int d_stride, T* d_weights) {
  const Tag<T> d;
  const auto one = hn::Set(d, T{1});
  for (int i = 0; i < dim; ++i) {
    const T natural = weights[i] * static_cast<T>(0.69314718055994530942);
    const auto weight = hn::Set(d, natural);
    auto d_weight = hn::Zero(d);
    for (int c = part.begin; c < part.end; ++c) {
      const auto key = hn::Set(d, k[c * stride + i]);
      auto sum = hn::Zero(d);
      for (int lane = part.lane; lane < part.lane + part.lanes; lane += kLanesOf<T>) {
        const auto t = tanh_of<T>(hn::Add(hn::Load(d, queries + i * kLaneStride + lane), key));
        const auto g = hn::Load(d, d_s + c * kLaneStride + lane);
        const auto inner = multiply_unless_zero<T>(g, hn::Mul(hn::Sub(one, t), hn::Add(one, t)));
        T* d_query = d_queries + i * kLaneStride + lane;
        hn::Store(hn::MulAdd(weight, inner, hn::Load(d, d_query)), d, d_query);
        sum = hn::Add(sum, inner);
        d_weight = hn::Add(d_weight, multiply_unless_zero<T>(g, t));
      }
      d_k[c * d_stride + i] += natural * hn::GetLane(hn::SumOfLanes(d, sum));
    }
    if (d_weights) d_weights[i] += hn::GetLane(hn::SumOfLanes(d, d_weight));
  }
}

}  // namespace
}  // namespace FOVEA_ISA_NAMESPACE
}  // namespace fovea::kernels
HWY_AFTER_NAMESPACE();
