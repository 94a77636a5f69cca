#pragma once

// What the directions of linear attention share: panels of a chunk, feature maps, triangular
// products, states.

#include <cstring>
#include <limits>

#include "fovea/kernels/attention/vector-inl.h"
#include "fovea/kernels/linear/linear.h"
#include "fovea/kernels/linear/operands-inl.h"

HWY_BEFORE_NAMESPACE();
namespace fovea::kernels {
namespace FOVEA_ISA_NAMESPACE {
namespace {

#ifdef FOVEA_LINEAR_CHUNK
constexpr int kC = FOVEA_LINEAR_CHUNK;
#else
constexpr int kC = kLinearChunk;
#endif
static_assert(kC <= kLargestLinearChunk);

/// Storage type whose rows a body of compute type T reads in place.
template <typename T>
constexpr DType kNativeType = sizeof(T) == 8 ? DType::kF64 : DType::kF32;

/// Rows of a triangle's scores that are clipped together: lanes of the widest vector.
constexpr int kBlock = 16;
static_assert(kC % kBlock == 0);

/// Cuts the head's scratch into panels.
template <typename T>
class Panels {
 public:
  explicit Panels(const LinearHead<T>& head)
      : d(linear_stride(head.head_dim)), dv(linear_stride(head.value_dim)), next_(head.scratch) {}
  HWY_INLINE T* take(int rows, int columns) {
    T* panel = next_;
    next_ += static_cast<ptrdiff_t>(rows) * columns;
    return panel;
  }
  /// A panel of operands, zeros; nothing where they are no copies.
  template <typename Op>
  HWY_INLINE void take_operand(int rows, int columns, Op** panel) {
    const ptrdiff_t n = kPacked<Op> ? static_cast<ptrdiff_t>(rows) * columns / kDepthOf<Op> : 0;
    std::memset(next_, 0, sizeof(T) * static_cast<size_t>(n));
    *panel = reinterpret_cast<Op*>(next_);
    next_ += n;
  }

  const int d, dv;  ///< columns of panels of features and of values

 private:
  T* next_;
};

template <typename T>
HWY_INLINE void clear(T* x, ptrdiff_t n) {
  std::memset(x, 0, sizeof(T) * static_cast<size_t>(n));
}

HWY_INLINE int rows_of_chunk(int64_t len, int64_t first) {
  return static_cast<int>(HWY_MIN(int64_t{kC}, len - first));
}

/// Fetches the next chunk's rows while this one is worked on, a few at a time between the tiles of
/// long products: chunks come in bursts that are too short for the hardware to run ahead of, and
/// asked for at once they would fill its queues.
template <typename T>
class Ahead {
 public:
  /// To be spread over products with this many rows of results in all.
  Ahead(const LinearHead<T>& head, int rows) : bytes_(size_of(head.dtype)), products_(rows) {}

  /// Rows [first, first + kC), clipped to [0, len), of a tensor.
  HWY_INLINE void add(const LinearRows& x, int64_t first, int64_t len, int dim) {
    const int64_t begin = HWY_MAX(first, int64_t{0}), end = HWY_MIN(first + kC, len);
    if (begin >= end) return;
    streams_[count_++] = {static_cast<const char*>(x.data) + begin * x.stride * bytes_,
                          x.stride * bytes_, dim * bytes_, static_cast<int>(end - begin)};
    rows_ += static_cast<int>(end - begin);
  }
  /// After another `rows` rows of results.
  HWY_INLINE void fetch(int rows) {
    due_ += rows * rows_;
    for (; due_ >= products_ && next_ < count_; due_ -= products_) {
      Stream& s = streams_[next_];
      for (int64_t i = 0; i < s.row_bytes; i += 64) __builtin_prefetch(s.row + i);
      s.row += s.stride;
      if (--s.rows == 0) ++next_;
    }
  }

 private:
  struct Stream {
    const char* row;
    int64_t stride, row_bytes;
    int rows;
  };
  static constexpr int kStreams = 8;
  int64_t bytes_;
  int products_, rows_ = 0, due_ = 0;
  Stream streams_[kStreams];
  int count_ = 0, next_ = 0;
};

/// multiply() in blocks of rows, with rows of the next chunk fetched after each.
template <Walk kWalk, Into kInto, typename Op, typename T>
HWY_INLINE void multiply_ahead(int rows, int lanes, int depth, Operand<Op> a, Operand<Op> b, T* c,
                               int ldc, Ahead<T>* ahead) {
  constexpr int kRows = 6;  // of a register tile; see multiply()
  for (ptrdiff_t r = 0; r < rows; r += kRows) {
    multiply<kWalk, kInto>(static_cast<int>(HWY_MIN(ptrdiff_t{kRows}, rows - r)), lanes, depth, a,
                           b, c + r * ldc, ldc);
    a.data += kRows * (kWalk == Walk::kRows ? a.ld : kDepthOf<Op>);
    ahead->fetch(kRows);
  }
}

/// Rows [first, first + rows) of a tensor; the rest of the panel's kC rows are zero.
template <typename T>
HWY_INLINE void load_chunk(const LinearHead<T>& head, const LinearRows& x, int64_t first, int rows,
                           int dim, T* panel, int ld) {
  const char* data = static_cast<const char*>(x.data) + first * x.stride * size_of(head.dtype);
  load_rows<T>(data, head.dtype, x.stride, rows, kC, dim, panel, ld);
}

/// Rows of a chunk as the products read them by rows: in place where the storage allows it, else a
/// copy in `panel`.
template <typename T, typename Op>
HWY_INLINE Operand<Op> chunk_rows(const LinearHead<T>& head, const LinearRows& x, int64_t first,
                                  int rows, int dim, Op* panel, int ld) {
  if constexpr (!kPacked<Op>) {
    if (head.dtype != kNativeType<T> || dim != ld) {
      load_chunk(head, x, first, rows, dim, panel, ld);
      return {panel, ld};
    }
  }
  return {static_cast<const Op*>(x.data) + first * x.stride, x.stride};
}

/// Values of a chunk by pairs of rows.
template <typename T, typename Op>
HWY_INLINE Operand<Op> value_pairs(const LinearHead<T>& head, int64_t first, int rows, Op* panel,
                                   int ld) {
  const Operand<Op> v = chunk_rows(head, head.v, first, rows, head.value_dim, panel, ld);
  if constexpr (!kPacked<Op>) {
    return v;
  } else {
    pack_pairs(v.data, v.ld, rows, head.value_dim, panel, ld);
    return {panel, ld};
  }
}

/// `factor(r)` times row r of a panel, to rows of the tensor.
template <typename T, typename F>
HWY_INLINE void store_scaled_chunk(const LinearHead<T>& head, const T* panel, int ld,
                                   const F& factor, int64_t first, int rows, int dim,
                                   const LinearRows& x) {
  for (int r = 0; r < rows; ++r) {
    const T* row = panel + static_cast<ptrdiff_t>(r) * ld;
    char* to = static_cast<char*>(x.data) + (first + r) * x.stride * size_of(head.dtype);
    if constexpr (sizeof(T) == 4) {
      if (head.dtype == DType::kBF16) {
        store_bf16_row(row, dim, factor(r), reinterpret_cast<BFloat16*>(to));
        continue;
      }
    }
    store_rows<T>(row, ld, 1, dim, factor(r), to, head.dtype, x.stride);
  }
}
template <typename T>
HWY_INLINE void store_chunk(const LinearHead<T>& head, const T* panel, int ld, int64_t first,
                            int rows, int dim, const LinearRows& x) {
  store_scaled_chunk(
      head, panel, ld, [](int) { return T{1}; }, first, rows, dim, x);
}

/// Adds to what is there, which `held` [kC, ld] takes on the way.
template <typename T>
HWY_INLINE void add_chunk(const LinearHead<T>& head, T* panel, int ld, int64_t first, int rows,
                          int dim, const LinearRows& x, T* held) {
  const Tag<T> d;
  load_chunk(head, x, first, rows, dim, held, ld);
  for (ptrdiff_t i = 0; i < static_cast<ptrdiff_t>(rows) * ld; i += kLanesOf<T>) {
    hn::Store(hn::Add(hn::Load(d, panel + i), hn::Load(d, held + i)), d, panel + i);
  }
  store_chunk(head, panel, ld, first, rows, dim, x);
}

template <typename T>
HWY_INLINE Vec<T> exp(Vec<T> x) {
  return exp2(hn::Mul(x, hn::Set(Tag<T>(), static_cast<T>(1.4426950408889634074))));
}

/// f(x) as exact as an operand of type Op needs it.
template <typename Op, typename T>
HWY_INLINE Vec<T> feature(FeatureMap map, Vec<T> x) {
  const Tag<T> d;
  if (map == FeatureMap::kIdentity) return x;
  if (map == FeatureMap::kRelu) {  // keeps NaN
    return hn::IfThenElse(hn::Lt(x, hn::Zero(d)), hn::Zero(d), x);
  }
  const auto log2e = hn::Set(d, static_cast<T>(1.4426950408889634074));
  const auto slope = MatrixUnit<Op>::exp2_weight(hn::Mul(x, log2e));
  return hn::IfThenElse(hn::Gt(x, hn::Zero(d)), hn::Add(x, hn::Set(d, T{1})), slope);
}

/// f(r, x) of a chunk's rows x; what is beyond `rows` and `dim` is zero.
template <typename Op, typename T, typename F>
HWY_INLINE void load_mapped(const LinearHead<T>& head, const LinearRows& x, int64_t first, int rows,
                            int dim, T* panel, int ld, const F& f) {
  const Tag<T> d;
  const auto map_rows = [&](const auto* from, int64_t stride) HWY_ATTR {
    for (int r = 0; r < rows; ++r) {
      for (int c = 0; c < ld; c += kLanesOf<T>) {
        hn::Store(f(r, load_as(d, from + r * stride + c)), d,
                  panel + static_cast<ptrdiff_t>(r) * ld + c);
      }
    }
  };
  if (dim == ld && head.dtype == kNativeType<T>) {
    map_rows(static_cast<const T*>(x.data) + first * x.stride, x.stride);
  } else if (kPacked<Op> && dim == ld) {
    map_rows(static_cast<const BFloat16*>(x.data) + first * x.stride, x.stride);
  } else {
    load_chunk(head, x, first, rows, dim, panel, ld);
    map_rows(panel, ld);
    for (int r = 0; r < rows; ++r) {
      for (int c = dim; c < ld; ++c) panel[static_cast<ptrdiff_t>(r) * ld + c] = 0;
    }
  }
  clear(panel + static_cast<ptrdiff_t>(rows) * ld, static_cast<ptrdiff_t>(kC - rows) * ld);
}

/// Features of a chunk's rows.
template <typename Op, typename T>
HWY_INLINE void load_features(const LinearHead<T>& head, const LinearRows& x, int64_t first,
                              int rows, T* panel, int ld) {
  load_mapped<Op>(head, x, first, rows, head.head_dim, panel, ld,
                  [&](int, Vec<T> v) HWY_ATTR { return feature<Op, T>(head.map, v); });
}

/// gradient *= f'(x), told by the feature f(x) itself: e^x is its own slope.
template <typename T>
HWY_INLINE void times_slope(const LinearHead<T>& head, const T* features, int rows, int ld,
                            T* gradient) {
  const Tag<T> d;
  if (head.map == FeatureMap::kIdentity) return;
  for (ptrdiff_t i = 0; i < static_cast<ptrdiff_t>(rows) * ld; i += kLanesOf<T>) {
    const auto f = hn::Load(d, features + i), g = hn::Load(d, gradient + i);
    if (head.map == FeatureMap::kRelu) {
      hn::Store(hn::IfThenElse(hn::Eq(f, hn::Zero(d)), hn::Zero(d), g), d, gradient + i);
    } else {
      hn::Store(hn::IfThenElse(hn::Lt(f, hn::Set(d, T{1})), hn::Mul(f, g), g), d, gradient + i);
    }
  }
}

/// 1/x, and 0 for a query that sees nothing.
template <typename T>
HWY_INLINE T inverse(T x) {
  return x == 0 ? T{0} : 1 / x;
}

/// x[r] *= factor[r]
template <typename T>
HWY_INLINE void scale_rows(const T* factor, int rows, int ld, T* x) {
  const Tag<T> d;
  for (int r = 0; r < rows; ++r) {
    const auto f = hn::Set(d, factor[r]);
    for (int c = 0; c < ld; c += kLanesOf<T>) {
      T* at = x + static_cast<ptrdiff_t>(r) * ld + c;
      hn::Store(hn::Mul(f, hn::Load(d, at)), d, at);
    }
  }
}

template <typename T>
HWY_INLINE void scale_all(T factor, ptrdiff_t n, T* x) {
  const Tag<T> d;
  const auto f = hn::Set(d, factor);
  for (ptrdiff_t i = 0; i < n; i += kLanesOf<T>)
    hn::Store(hn::Mul(f, hn::Load(d, x + i)), d, x + i);
}

/// y [ld] += Σ_r factor[r] · x[r]; a null factor is ones.
template <typename T>
HWY_INLINE void add_rows(const T* factor, const T* x, int rows, int ld, T* y) {
  const Tag<T> d;
  for (int c = 0; c < ld; c += kLanesOf<T>) {
    auto sum = hn::Load(d, y + c);
    for (int r = 0; r < rows; ++r) {
      const auto value = hn::Load(d, x + static_cast<ptrdiff_t>(r) * ld + c);
      sum = factor ? hn::MulAdd(hn::Set(d, factor[r]), value, sum) : hn::Add(sum, value);
    }
    hn::Store(sum, d, y + c);
  }
}

/// y[r] += factor[r] · x; a null factor is ones.
template <typename T>
HWY_INLINE void add_to_rows(const T* factor, const T* x, int rows, int ld, T* y) {
  const Tag<T> d;
  for (int r = 0; r < rows; ++r) {
    const auto f = hn::Set(d, factor ? factor[r] : T{1});
    for (int c = 0; c < ld; c += kLanesOf<T>) {
      T* at = y + static_cast<ptrdiff_t>(r) * ld + c;
      hn::Store(hn::MulAdd(f, hn::Load(d, x + c), hn::Load(d, at)), d, at);
    }
  }
}

/// Scores of a chunk, [key][query]: w ∘ (x yᵀ + c), x the keys' rows, y_t the queries' lanes, c
/// [kC] one number a query or null. Blocks below the diagonal are not written and must be zero.
template <typename Op, typename T>
HWY_INLINE void chunk_scores(Operand<Op> x, Operand<Op> y_t, int dim, int rows, const T* c,
                             const T* w, T* scores) {
  const Tag<T> d;
  for (int b = 0; b < rows; b += kBlock) {
    const int keys = HWY_MIN(kBlock, rows - b);
    T* block = scores + b * kC + b;
    multiply<Walk::kRows, Into::kStore>(keys, kC - b, dim, Operand<Op>{x.data + b * x.ld, x.ld},
                                        Operand<Op>{y_t.data + b * kDepthOf<Op>, y_t.ld}, block,
                                        kC);
    for (int j = b; j < b + keys; ++j) {
      for (int i = b; i < kC; i += kLanesOf<T>) {
        T* at = scores + j * kC + i;
        auto s = hn::Load(d, at);
        if (c) s = hn::Add(s, hn::Load(d, c + i));
        hn::Store(hn::Mul(s, hn::Load(d, w + j * kC + i)), d, at);
      }
    }
  }
}

/// Rows of a triangular product that are clipped together: a register tile's.
constexpr int kClip = 6;

/// y[query] += Σ_key scores[key][query] · x[key] within the triangle; scores and x by pairs of
/// keys.
template <typename Op, typename T>
HWY_INLINE void add_from_keys(Operand<Op> scores, Operand<Op> x, int rows, int dim, T* y, int ldy) {
  for (int r = 0; r < rows; r += kClip) {
    const int queries = HWY_MIN(kClip, rows - r);
    multiply<Walk::kColumns, Into::kAdd>(queries, dim, r + queries,
                                         Operand<Op>{scores.data + r * kDepthOf<Op>, scores.ld}, x,
                                         y + static_cast<ptrdiff_t>(r) * ldy, ldy);
  }
}

/// y[key] += Σ_query scores[key][query] · x[query] within the triangle; scores by rows, x by pairs.
template <typename Op, typename T>
HWY_INLINE void add_from_queries(Operand<Op> scores, Operand<Op> x, int rows, int dim, T* y,
                                 int ldy) {
  static_assert(kClip % kDepthOf<Op> == 0);
  for (int r = 0; r < rows; r += kClip) {
    const int keys = HWY_MIN(kClip, rows - r);
    multiply<Walk::kRows, Into::kAdd>(
        keys, dim, rows - r, Operand<Op>{scores.data + r * scores.ld + r, scores.ld},
        Operand<Op>{x.data + r * x.ld, x.ld}, y + static_cast<ptrdiff_t>(r) * ldy, ldy);
  }
}

/// A state as the caller keeps it, [D, Dv + normalise], to panels s [D, dv stride] and z, or back.
template <typename T>
void load_state(const LinearHead<T>& head, const T* state, int ld, T* s, T* z) {
  const int columns = head.value_dim + head.normalise;
  for (int i = 0; i < head.head_dim; ++i) {
    const T* row = state + static_cast<ptrdiff_t>(i) * columns;
    std::memcpy(s + static_cast<ptrdiff_t>(i) * ld, row, sizeof(T) * head.value_dim);
    if (head.normalise) z[i] = row[head.value_dim];
  }
}
template <typename T>
void store_state(const LinearHead<T>& head, const T* s, int ld, const T* z, T* state) {
  const int columns = head.value_dim + head.normalise;
  for (int i = 0; i < head.head_dim; ++i) {
    T* row = state + static_cast<ptrdiff_t>(i) * columns;
    std::memcpy(row, s + static_cast<ptrdiff_t>(i) * ld, sizeof(T) * head.value_dim);
    if (head.normalise) row[head.value_dim] = z[i];
  }
}

}  // namespace
}  // namespace FOVEA_ISA_NAMESPACE
}  // namespace fovea::kernels
HWY_AFTER_NAMESPACE();
