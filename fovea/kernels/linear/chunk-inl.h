#pragma once

// What the directions of linear attention share: panels of a chunk, feature maps, triangular
// products, states.

#include <cstring>
#include <limits>

#include "fovea/kernels/attention/vector-inl.h"
#include "fovea/kernels/linear/linear.h"
#include "fovea/kernels/mma/product-inl.h"

HWY_BEFORE_NAMESPACE();
namespace fovea::kernels {
namespace FOVEA_ISA_NAMESPACE {
namespace {

constexpr int kC = kLinearChunk;

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
template <Walk kWalk, Into kInto, typename T>
HWY_INLINE void multiply_ahead(int rows, int lanes, int depth, const T* a, int lda, const T* b,
                               int ldb, T* c, int ldc, Ahead<T>* ahead) {
  constexpr int kRows = 6;  // of a register tile; see multiply()
  for (ptrdiff_t r = 0; r < rows; r += kRows) {
    multiply<kWalk, kInto>(static_cast<int>(HWY_MIN(ptrdiff_t{kRows}, rows - r)), lanes, depth,
                           a + (kWalk == Walk::kRows ? r * lda : r), lda, b, ldb, c + r * ldc, ldc);
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

/// Rows of a chunk as the products read them: in place where the storage allows it, else a copy in
/// `panel`.
template <typename T>
struct ChunkRows {
  const T* data;
  int stride;
};
template <typename T>
HWY_INLINE ChunkRows<T> chunk_rows(const LinearHead<T>& head, const LinearRows& x, int64_t first,
                                   int rows, int dim, T* panel, int ld) {
  if (head.dtype == kNativeType<T> && dim == ld && x.stride <= std::numeric_limits<int>::max()) {
    return {static_cast<const T*>(x.data) + first * x.stride, static_cast<int>(x.stride)};
  }
  load_chunk(head, x, first, rows, dim, panel, ld);
  return {panel, ld};
}

template <typename T>
HWY_INLINE void store_chunk(const LinearHead<T>& head, const T* panel, int ld, int64_t first,
                            int rows, int dim, const LinearRows& x) {
  char* data = static_cast<char*>(x.data) + first * x.stride * size_of(head.dtype);
  store_rows<T>(panel, ld, rows, dim, T{1}, data, head.dtype, x.stride);
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

/// Row r times factor[r].
template <typename T>
HWY_INLINE void store_scaled_chunk(const LinearHead<T>& head, const T* panel, int ld,
                                   const T* factor, int64_t first, int rows, int dim,
                                   const LinearRows& x) {
  char* data = static_cast<char*>(x.data) + first * x.stride * size_of(head.dtype);
  for (int r = 0; r < rows; ++r) {
    store_rows<T>(panel + static_cast<ptrdiff_t>(r) * ld, ld, 1, dim, factor[r],
                  data + r * x.stride * size_of(head.dtype), head.dtype, x.stride);
  }
}

template <typename T>
HWY_INLINE Vec<T> exp(Vec<T> x) {
  return exp2(hn::Mul(x, hn::Set(Tag<T>(), static_cast<T>(1.4426950408889634074))));
}

template <typename T>
HWY_INLINE Vec<T> feature(FeatureMap map, Vec<T> x) {
  const Tag<T> d;
  if (map == FeatureMap::kRelu) {  // keeps NaN
    return hn::IfThenElse(hn::Lt(x, hn::Zero(d)), hn::Zero(d), x);
  }
  return hn::IfThenElse(hn::Gt(x, hn::Zero(d)), hn::Add(x, hn::Set(d, T{1})), exp<T>(x));
}

/// f(x) of a chunk's rows; what is beyond `rows` and `dim` stays zero.
template <typename T>
HWY_INLINE void load_features(const LinearHead<T>& head, const LinearRows& x, int64_t first,
                              int rows, T* panel, int ld) {
  const Tag<T> d;
  const T* data = static_cast<const T*>(x.data) + first * x.stride;
  const bool in_place = head.dtype == kNativeType<T> && head.head_dim == ld;
  if (head.map == FeatureMap::kIdentity || !in_place) {
    load_chunk(head, x, first, rows, head.head_dim, panel, ld);
    if (head.map == FeatureMap::kIdentity) return;
  } else {
    clear(panel + static_cast<ptrdiff_t>(rows) * ld, static_cast<ptrdiff_t>(kC - rows) * ld);
  }
  for (int r = 0; r < rows; ++r) {
    T* row = panel + static_cast<ptrdiff_t>(r) * ld;
    const T* from = in_place ? data + r * x.stride : row;
    for (int c = 0; c < ld; c += kLanesOf<T>) {
      hn::Store(feature<T>(head.map, hn::LoadU(d, from + c)), d, row + c);
    }
    for (int c = head.head_dim; c < ld; ++c) row[c] = 0;
  }
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

/// Scores of a chunk, [key][query]: w ∘ (x yᵀ + c), x the keys' rows [kC, ld], y_t [dim, kC] the
/// queries' transposed, c [kC] one number a query or null. Blocks below the diagonal are not
/// written and must be zero.
template <typename T>
HWY_INLINE void chunk_scores(const T* x, int ld, const T* y_t, int dim, int rows, const T* c,
                             const T* w, T* scores) {
  const Tag<T> d;
  for (int b = 0; b < rows; b += kBlock) {
    const int keys = HWY_MIN(kBlock, rows - b);
    T* block = scores + b * kC + b;
    multiply<Walk::kRows, Into::kStore>(keys, kC - b, dim, x + static_cast<ptrdiff_t>(b) * ld, ld,
                                        y_t + b, kC, block, kC);
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

/// y[query] += Σ_key scores[key][query] · x[key] within the triangle.
template <typename T>
HWY_INLINE void add_from_keys(const T* scores, const T* x, int ldx, int rows, int dim, T* y,
                              int ldy) {
  for (int r = 0; r < rows; r += kClip) {
    const int queries = HWY_MIN(kClip, rows - r);
    multiply<Walk::kColumns, Into::kAdd>(queries, dim, r + queries, scores + r, kC, x, ldx,
                                         y + static_cast<ptrdiff_t>(r) * ldy, ldy);
  }
}

/// y[key] += Σ_query scores[key][query] · x[query] within the triangle.
template <typename T>
HWY_INLINE void add_from_queries(const T* scores, const T* x, int rows, int dim, int ld, T* y) {
  for (int r = 0; r < rows; r += kClip) {
    const int keys = HWY_MIN(kClip, rows - r);
    multiply<Walk::kRows, Into::kAdd>(keys, dim, rows - r, scores + r * kC + r, kC,
                                      x + static_cast<ptrdiff_t>(r) * ld, ld,
                                      y + static_cast<ptrdiff_t>(r) * ld, ld);
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
