#pragma once

// Score modifications (pattern/score_mod.h) of one tile of queries and one tile of keys: the hooks
// that the forward and the backward call where a problem has any. Scores lie transposed,
// Sᵀ[key][query], in base 2 (times log2 e), and so do the bodies' gradients dS:
//
//     S ← S / (|q| |k|)                    dS ← dS / (|q| |k|)                  (cosine)
//     S ← S < 0 ? a S : S                  dS ← S < 0 ? a dS : dS               (leaky ReLU)
//     S ← cap · tanh(S / cap)              dS ← dS · (1 - tanh²)
//     S ← S + log2 e · bias                d_bias += dS, transposed back
//     S ← S + log2 e · f(distance)         d_f[distance] += Σ dS along its diagonal
//
// A distance is key - aligned query. Along a run of queries that stand at consecutive keys it is a
// function of c - r alone, so a window of 127 values, read at a sliding offset, serves the tile.

#include <algorithm>

#include "hwy/contrib/math/math-inl.h"

#include "fovea/kernels/attention/vector-inl.h"

HWY_BEFORE_NAMESPACE();
namespace fovea::kernels {
namespace FOVEA_ISA_NAMESPACE {
namespace {

constexpr double kLog2OfE = 1.4426950408889634074;

/// Leaky ReLU of a part's scores. `slopes`, where given, keeps the derivative.
template <typename T>
HWY_NOINLINE void leak_scores(T slope, const Part& part, T* scores, T* slopes) {
  const Tag<T> d;
  const auto one = hn::Set(d, T{1}), leak = hn::Set(d, slope);
  for (int c = part.begin; c < part.end; ++c) {
    for (int lane = part.lane; lane < part.lane + part.lanes; lane += kLanesOf<T>) {
      const int i = c * kLaneStride + lane;
      const auto s = hn::Load(d, scores + i);
      const auto factor = hn::IfThenElse(hn::Lt(s, hn::Zero(d)), leak, one);
      hn::Store(hn::Mul(s, factor), d, scores + i);
      if (slopes) hn::Store(factor, d, slopes + i);
    }
  }
}

/// Soft-caps a part's scores. `slopes`, where given, keeps the derivative for cap_gradients(),
/// times what it holds already if `leaked`.
template <typename T>
HWY_NOINLINE void cap_scores(T cap, bool leaked, const Part& part, T* scores, T* slopes) {
  const Tag<T> d;
  const auto one = hn::Set(d, T{1}), scale = hn::Set(d, cap), inverse = hn::Set(d, 1 / cap);
  for (int c = part.begin; c < part.end; ++c) {
    for (int lane = part.lane; lane < part.lane + part.lanes; lane += kLanesOf<T>) {
      const int i = c * kLaneStride + lane;
      const auto t = hn::Tanh(d, hn::Mul(hn::Load(d, scores + i), inverse));
      hn::Store(hn::Mul(scale, t), d, scores + i);
      if (!slopes) continue;
      const auto slope = hn::Mul(hn::Sub(one, t), hn::Add(one, t));
      hn::Store(leaked ? hn::Mul(slope, hn::Load(d, slopes + i)) : slope, d, slopes + i);
    }
  }
}

/// Cosine: divides scores or dS by the lengths of query and key.
template <typename T>
HWY_NOINLINE void divide_by_lengths(const T* query_scales, const T* key_scales, const Part& part,
                                    T* x) {
  const Tag<T> d;
  for (int lane = part.lane; lane < part.lane + part.lanes; lane += kLanesOf<T>) {
    const auto query = hn::Load(d, query_scales + lane);
    for (int c = part.begin; c < part.end; ++c) {
      T* at = x + c * kLaneStride + lane;
      const auto factor = hn::Mul(query, hn::Set(d, key_scales[c]));
      hn::Store(multiply_unless_zero<T>(hn::Load(d, at), factor), d, at);
    }
  }
}

template <typename T>
HWY_NOINLINE void cap_gradients(const T* slopes, const Part& part, T* d_s) {
  const Tag<T> d;
  for (int c = part.begin; c < part.end; ++c) {
    for (int lane = part.lane; lane < part.lane + part.lanes; lane += kLanesOf<T>) {
      const int i = c * kLaneStride + lane;
      hn::Store(multiply_unless_zero<T>(hn::Load(d, d_s + i), hn::Load(d, slopes + i)), d, d_s + i);
    }
  }
}

// ---- dense bias --------------------------------------------------------------------------------

template <typename T, typename S>
HWY_INLINE T bias_value(const S* bias, int64_t i) {
  return hn::GetLane(load_as(hn::CappedTag<T, 1>(), bias + i));
}

/// to[i] = bias[i], i in [0, n).
template <typename T, typename S>
HWY_INLINE void widen_bias(const S* HWY_RESTRICT bias, int n, T* HWY_RESTRICT to) {
  const Tag<T> d;
  int i = 0;
  for (; i + kLanesOf<T> <= n; i += kLanesOf<T>) hn::StoreU(load_as(d, bias + i), d, to + i);
  for (; i < n; ++i) to[i] = bias_value<T>(bias, i);
}

/// Adds a bias that differs between queries: its rows are transposed through `panel`. Lanes beyond
/// `rows` get 0.
template <typename T, typename S>
HWY_INLINE void add_bias_rows(const ScoreModTile<T>& mod, const S* bias, const Part& part, int rows,
                              T* scores) {
  const Tag<T> d;
  T* copy = mod.panel;                          // [64 queries, 64 keys]
  T* bias_t = mod.panel + kTile * kLaneStride;  // [64 keys, 64]
  const int begin = part.begin & ~3, count = (part.end - begin + 3) & ~3;
  const int lanes = (part.lanes + kLanesOf<T> - 1) / kLanesOf<T> * kLanesOf<T>;
  const int lanes4 = (lanes + 3) & ~3;
  for (int r = 0; r < lanes4; ++r) {
    T* HWY_RESTRICT to = copy + r * kTile;
    if (part.lane + r >= rows) {
      std::memset(to, 0, sizeof(T) * static_cast<size_t>(count));
      continue;
    }
    widen_bias(bias + (part.lane + r) * mod.bias_stride + part.begin, part.end - part.begin,
               to + part.begin - begin);
  }
  transpose(copy, kTile, lanes4, count, static_cast<T>(kLog2OfE),
            bias_t + begin * kLaneStride + part.lane, kLaneStride);
  for (int c = part.begin; c < part.end; ++c) {
    for (int lane = part.lane; lane < part.lane + part.lanes; lane += kLanesOf<T>) {
      const int i = c * kLaneStride + lane;
      hn::Store(hn::Add(hn::Load(d, scores + i), hn::Load(d, bias_t + i)), d, scores + i);
    }
  }
}

/// Adds a bias [keys] that all queries share.
template <typename T, typename S>
HWY_INLINE void add_bias_keys(const S* bias, const Part& part, T* scores) {
  const Tag<T> d;
  for (int c = part.begin; c < part.end; ++c) {
    const auto term = hn::Set(d, static_cast<T>(kLog2OfE) * bias_value<T>(bias, c));
    for (int lane = part.lane; lane < part.lane + part.lanes; lane += kLanesOf<T>) {
      const int i = c * kLaneStride + lane;
      hn::Store(hn::Add(hn::Load(d, scores + i), term), d, scores + i);
    }
  }
}

template <typename T>
HWY_NOINLINE void add_bias(const ScoreModTile<T>& mod, uint32_t first_key, const Part& part,
                           int rows, T* scores) {
  const auto add = [&](const auto* bias) {
    bias += first_key;
    if (mod.bias_stride == 0) return add_bias_keys(bias, part, scores);
    add_bias_rows(mod, bias, part, rows, scores);
  };
  if constexpr (sizeof(T) == 4) {
    if (mod.bias_dtype == DType::kBF16) return add(static_cast<const BFloat16*>(mod.bias));
    if (mod.bias_dtype == DType::kF16) return add(static_cast<const Float16*>(mod.bias));
  }
  add(static_cast<const T*>(mod.bias));
}

/// d_bias[r][c] (+)= dS of the part, or its sums over the queries where they share the bias.
template <typename T>
HWY_NOINLINE void add_bias_gradient(const ScoreModTile<T>& mod, uint32_t first_key,
                                    const Part& part, int rows, const T* d_s) {
  const Tag<T> d;
  if (mod.bias_stride == 0) {
    for (int c = part.begin; c < part.end; ++c) {
      auto sum = hn::Zero(d);
      for (int lane = part.lane; lane < part.lane + part.lanes; lane += kLanesOf<T>) {
        sum = hn::Add(sum, hn::Load(d, d_s + c * kLaneStride + lane));
      }
      mod.d_bias[first_key + c] += hn::GetLane(hn::SumOfLanes(d, sum));
    }
    return;
  }
  T* copy = mod.panel;
  const int begin = part.begin & ~3, count = (part.end - begin + 3) & ~3;
  const int lanes4 = (part.lanes + 3) & ~3;
  transpose(d_s + begin * kLaneStride + part.lane, kLaneStride, count, lanes4, T{1}, copy, kTile);
  for (int r = 0; r < HWY_MIN(part.lanes, rows - part.lane); ++r) {
    const T* HWY_RESTRICT from = copy + r * kTile - begin;
    T* HWY_RESTRICT to = mod.d_bias + (part.lane + r) * mod.d_bias_stride + first_key;
    if (mod.d_bias_add) {
      for (int c = part.begin; c < part.end; ++c) to[c] += from[c];
    } else {
      for (int c = part.begin; c < part.end; ++c) to[c] = from[c];
    }
  }
}

// ---- functions of the distance -----------------------------------------------------------------

/// Calls f(r0, r1, base) for each run of a part's queries that stand at consecutive keys: the
/// distance from query r of the run to key c of the tile is base + c - r.
template <typename T, typename F>
HWY_INLINE void for_each_run(const ScoreModTile<T>& mod, uint32_t first_key, const Part& part,
                             const F& f) {
  const int end = part.lane + part.lanes;
  for (int r0 = part.lane, r1 = r0; r0 < end; r0 = r1) {
    while (++r1 < end && mod.aligned[r1] == mod.aligned[r1 - 1] + 1) {
    }
    f(r0, r1, int64_t{first_key} - mod.aligned[r0] + r0);
  }
}

template <typename T>
HWY_INLINE int64_t distance_index(const ScoreModTile<T>& mod, int64_t distance) {
  return HWY_MAX(-mod.radius, HWY_MIN(distance, mod.radius)) + mod.radius;
}

constexpr int kDiagonals = 2 * kTile - 1;

template <typename T>
HWY_NOINLINE void add_distance_bias(const ScoreModTile<T>& mod, uint32_t first_key,
                                    const Part& part, T* scores) {
  const T log2_e = static_cast<T>(kLog2OfE);
  for_each_run(mod, first_key, part, [&](int r0, int r1, int64_t base) {
    T window[kDiagonals];  // entry i: distance base + 63 - i
    for (int i = 0; i < kDiagonals; ++i) {
      const int64_t distance = base + kTile - 1 - i;
      window[i] = -mod.slope * static_cast<T>(distance < 0 ? -distance : distance);
      if (mod.distance_bias) {
        window[i] += log2_e * mod.distance_bias[distance_index(mod, distance)];
      }
    }
    for (int c = part.begin; c < part.end; ++c) {
      T* HWY_RESTRICT row = scores + c * kLaneStride;
      const T* HWY_RESTRICT term = window + kTile - 1 - c;
      for (int r = r0; r < r1; ++r) row[r] += term[r];
    }
  });
}

template <typename T>
HWY_NOINLINE void add_distance_gradient(const ScoreModTile<T>& mod, uint32_t first_key,
                                        const Part& part, const T* d_s) {
  for_each_run(mod, first_key, part, [&](int r0, int r1, int64_t base) {
    T sums[kDiagonals] = {};
    for (int c = part.begin; c < part.end; ++c) {
      const T* HWY_RESTRICT row = d_s + c * kLaneStride;
      T* HWY_RESTRICT sum = sums + kTile - 1 - c;
      for (int r = r0; r < r1; ++r) sum[r] += row[r];
    }
    for (int i = 0; i < kDiagonals; ++i) {
      mod.d_distance_bias[distance_index(mod, base + kTile - 1 - i)] += sums[i];
    }
  });
}

// ---- the hooks ---------------------------------------------------------------------------------

/// After the product: scores of a part to modified scores. `key_scales`: KeyTile::scales. `slopes`
/// [64 keys, 64]: where the backward keeps what modify_gradients() needs; null in the forward.
template <typename T>
HWY_INLINE void modify_scores(const ScoreModTile<T>& mod, uint32_t first_key, const T* key_scales,
                              const Part& part, int rows, T* scores, T* slopes) {
  if (key_scales) divide_by_lengths(mod.query_scales, key_scales, part, scores);
  const bool leaks = mod.negative_slope != 1;
  if (leaks) leak_scores(mod.negative_slope, part, scores, slopes);
  if (mod.softcap != 0) cap_scores(mod.softcap, leaks, part, scores, slopes);
  if (mod.bias) add_bias(mod, first_key, part, rows, scores);
  if (mod.slope != 0 || mod.distance_bias) add_distance_bias(mod, first_key, part, scores);
}

/// After dS is made: adds it to the modifications' gradients and makes it the product's gradient.
template <typename T>
HWY_INLINE void modify_gradients(const ScoreModTile<T>& mod, uint32_t first_key,
                                 const T* key_scales, const Part& part, int rows, T* d_s,
                                 const T* slopes) {
  if (mod.d_bias) add_bias_gradient(mod, first_key, part, rows, d_s);
  if (mod.d_distance_bias) add_distance_gradient(mod, first_key, part, d_s);
  if (mod.softcap != 0 || mod.negative_slope != 1) cap_gradients(slopes, part, d_s);
  if (key_scales) divide_by_lengths(mod.query_scales, key_scales, part, d_s);
}

/// At the end of the forward: the sink joins maxima and sums of lane vector x as one more score.
/// Returns the factor of the output. A row that has seen nothing stays as it is.
template <typename T>
HWY_INLINE Vec<T> join_sink(T sink, T* row_max, T* row_sum) {
  const Tag<T> d;
  const auto max = hn::Load(d, row_max), sum = hn::Load(d, row_sum);
  const auto score = hn::Set(d, sink);
  const auto dead = hn::Eq(sum, hn::Zero(d));
  const auto joined = hn::IfThenElse(hn::Lt(max, score), score, max);
  const auto factor = exp2(hn::Sub(max, joined));
  const auto with_sink = hn::MulAdd(sum, factor, exp2(hn::Sub(score, joined)));
  hn::Store(hn::IfThenElse(dead, max, joined), d, row_max);
  hn::Store(hn::IfThenElse(dead, sum, with_sink), d, row_sum);
  return hn::IfThenElse(dead, hn::Zero(d), factor);
}

}  // namespace
}  // namespace FOVEA_ISA_NAMESPACE
}  // namespace fovea::kernels
HWY_AFTER_NAMESPACE();
