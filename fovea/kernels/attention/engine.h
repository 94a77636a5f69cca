#pragma once

#include <cstdint>
#include <type_traits>

#include "fovea/core/cpu_features.h"
#include "fovea/core/float32_precision.h"
#include "fovea/core/tensor_view.h"
#include "fovea/kernels/linear/linear.h"
#include "fovea/pattern/block_plan.h"

namespace fovea::kernels {

/// Columns of every transposed panel: one lane for each query row of a tile.
constexpr int kLaneStride = kTile;

/// An f32 operand as the sum of two bf16: rows of its panels hold the upper parts of all elements,
/// in their second half the lower parts, x - upper. What is left is below 2^-17 of x.
struct SplitBf16 : BFloat16 {};

/// Type in which products of operands of type `Op` are summed, and of everything that is no
/// operand: scores, maxima, outputs.
template <typename Op>
using SumOf = std::conditional_t<std::is_base_of_v<BFloat16, Op>, float, Op>;

/// Neighbours along the depth of a product that the matrix unit of `Op` takes at once. A panel
/// "by depth" holds them side by side: element (k, x) of a panel of `ld` columns is at
/// (k / kDepth · ld + x) · kDepth + k % kDepth, which for 1 is plain row-major.
template <typename Op>
constexpr int kDepthOf = static_cast<int>(sizeof(SumOf<Op>) / sizeof(Op));

/// Parts of an operand, each of which has a share of every row of a panel. Strides of panels are of
/// whole rows.
template <typename Op>
constexpr int kPartsOf = std::is_same_v<Op, SplitBf16> ? 2 : 1;

/// Elements between rows of transposed panels of operands.
template <typename Op>
constexpr int kRowStride = kPartsOf<Op>* kLaneStride;

/// Dropout of one (batch element, head), see weight_dropout_bits() in core/philox.h. Off when
/// `threshold` is 0.
struct DropoutKey {
  uint64_t seed = 0;
  uint32_t batch = 0, head = 0;
  uint32_t threshold = 0;  ///< smallest kept 16 bits
  double keep_scale = 1;   ///< 1 / (1 - p)
};

/// What is done to the scores of a tile of queries (pattern/score_mod.h). Panels are 64-byte
/// aligned.
template <typename T>
struct ScoreModTile {
  const T* query_scales = nullptr;  ///< [64] one over each query's length (cosine)
  const T* additive = nullptr;      ///< [D] weights times log2 e; null: scores are products
  T negative_slope = 1;             ///< of leaky ReLU
  T softcap = 0;                    ///< times log2 e; 0: off
  T sink = 0;                       ///< times log2 e
  bool has_sink = false;
  const void* bias = nullptr;        ///< [64 rows, Sk] from the tile's first query and key 0 on
  DType bias_dtype = DType::kF32;    ///< of T, bf16 or f16
  int64_t bias_stride = 0;           ///< elements between queries; 0: all queries share one row
  T slope = 0;                       ///< of ALiBi, times log2 e
  const T* distance_bias = nullptr;  ///< [2 radius + 1]
  int64_t radius = 0;
  int64_t aligned[kTile];  ///< key row that each query stands at
  T* panel = nullptr;      ///< [3, 64, 64] scratch

  // Where the backward adds gradients; null: not wanted.
  T* d_bias = nullptr;  ///< as `bias`
  int64_t d_bias_stride = 0;
  bool d_bias_add = true;  ///< false: the tile's gradient is stored
  T* d_distance_bias = nullptr;
  T* d_additive = nullptr;  ///< [D]
};

/// A tile of keys as the bodies read it. k and v are row-major; only rows [begin, end), widened to
/// whole steps of AttentionKernels::step, are read.
template <typename Op>
struct KeyTile {
  const Op* k;
  const Op* v;
  int64_t k_stride, v_stride;  ///< elements between rows
  /// Panels that AttentionKernels::pack_columns made of k (backward only) and v (forward only).
  const Op* k_columns;
  const Op* v_columns;
  int64_t k_columns_stride, v_columns_stride;
  uint32_t first_key;       ///< row number of row 0, a multiple of 64 (for dropout)
  const SumOf<Op>* scales;  ///< [64] one over each key's length (cosine), or null
  int rows;                 ///< keys in the tile
  int begin, end;           ///< rows that any query of the tile sees
  const uint64_t* lanes;    ///< [64] bit r of lanes[c]: query r sees key c; null: all see all
};

/// A tile of queries on its way through the forward. Panels are 64-byte aligned. Where a panel has
/// [D, 64] or [Dv, 64] elements, a matrix unit may write up to the next multiple of 32 rows.
template <typename Op>
struct ForwardTile {
  using T = SumOf<Op>;
  int rows;  ///< queries in the tile
  int head_dim, value_dim;
  T scale;               ///< of a score, times log2 e
  uint32_t first_query;  ///< row number of lane 0 (for dropout)
  DropoutKey dropout;
  const ScoreModTile<T>* mod;  ///< null: none
  Op* q_t;                     ///< [D, 64] queries by depth, scaled where the matrix unit wants it
  T* scores;                   ///< [64 keys, 64]
  Op* p;       ///< [64 keys, 64] weights by depth; where kDepthOf<Op> is 1, `scores`
  T* o_t;      ///< [Dv, 64] output before the division by row_sum
  T* row_max;  ///< [64] base-2 maximum that o_t and row_sum are relative to
  T* row_sum;  ///< [64]
};

/// A tile of queries on its way through the backward. `dim_stride` and `value_stride` are D and Dv
/// rounded up to whole cache lines; the columns beyond D and Dv are zero. What is marked (depth 1:
/// …) is that panel where kDepthOf<Op> is 1.
template <typename Op>
struct BackwardTile {
  using T = SumOf<Op>;
  int rows;
  int head_dim, value_dim;
  int dim_stride, value_stride;
  T scale;  ///< as in ForwardTile
  uint32_t first_query;
  DropoutKey dropout;
  const ScoreModTile<T>* mod;  ///< null: none
  const Op* q;     ///< [64, dim_stride] queries, row-major; dead rows and rows >= `rows` are zero
  const Op* d_o;   ///< [64, value_stride], row-major, likewise
  const T* lse2;   ///< [64] log-sum-exp in base 2; +inf for dead rows
  const T* delta;  ///< [64] rowsum(dO ∘ O) - dLSE
  Op* q_t;         ///< [D, 64] by depth, as in ForwardTile
  Op* d_o_t;       ///< [Dv, 64] by depth
  Op* q_depth;     ///< [64, dim_stride] by depth (depth 1: q)
  Op* d_o_depth;   ///< [64, value_stride] by depth (depth 1: d_o)
  T* p;            ///< [64 keys, 64] scores, then weights
  T* d_s;          ///< [64 keys, 64] dP, then dS
  Op* p_rows;      ///< [64 keys, 64] (depth 1: p)
  Op* d_s_rows;    ///< [64 keys, 64] (depth 1: d_s)
  Op* d_s_depth;   ///< [64 keys, 64] by depth (depth 1: d_s)
  T* d_q_t;        ///< [D, 64] sum over the key tiles, without the scale
};

/// Most queries of a DecodeTile: beyond, a lane for each query is faster.
constexpr int kDecodeRows = 16;
/// Most rows of CacheRows: longer runs of keys and of values keep the hardware's prefetcher on its
/// way.
constexpr int kDecodeKeys = 256;

/// A few queries on their way through a cache, row-major; all see the same keys. 64-byte aligned.
template <typename T>
struct DecodeTile {
  int rows;  ///< at most kDecodeRows
  int head_dim, value_dim;
  const T* q;  ///< [rows, D], times scale and log2 e
  T* scores;   ///< [rows, kDecodeKeys]
  T* o;        ///< [rows, Dv] output before the division by row_sum
  T* row_max;  ///< [rows] base-2 maximum that o and row_sum are relative to
  T* row_sum;  ///< [rows]
};

/// At most kDecodeKeys consecutive rows of a cache, in their storage type.
struct CacheRows {
  const void* k;
  const void* v;
  int64_t k_stride, v_stride;  ///< elements between rows
  DType dtype;
  int count;
  /// Of i8 rows, what each is multiplied by.
  const float *k_scales = nullptr, *v_scales = nullptr;
  int64_t k_scale_stride = 0, v_scale_stride = 0;
};

/// What one engine can do for attention on operands of type Op. Every function is noexcept,
/// allocates nothing and touches only what its arguments name.
template <typename Op>
struct AttentionKernels {
  using T = SumOf<Op>;
  /// Rows and columns of a tile's k and v come in multiples of this, zero beyond the last.
  int step;
  /// Sets the matrix unit's registers up for the calling thread and gives them back: around any of
  /// the forward's and backward's functions. See MatrixUnitScope.
  void (*configure)();
  void (*release)();
  /// dst[r][c] = src[r][c] for r < rows, 0 for rows up to `padded_rows` and columns up to `ld`.
  void (*load_rows)(const void* src, DType dtype, int64_t stride, int rows, int padded_rows,
                    int dim, Op* dst, int ld);
  /// dst[r][c] = factor · src[r][c], rounded once to `dtype`.
  void (*store_rows)(const T* src, int ld, int rows, int dim, T factor, void* dst, DType dtype,
                     int64_t stride);
  /// Rows [rows, dim] of keys to the panel that products over the keys read, at most 64 · dim
  /// elements with dim rounded up to 32; returns its stride. Where kDepthOf<Op> is 1 the rows
  /// themselves are that panel, and nothing is done.
  int64_t (*pack_columns)(const Op* src, int64_t stride, int rows, int dim, Op* dst);
  /// dst[c][r] = factor · src[r][c]; rows and columns are multiples of 4.
  void (*transpose)(const T* src, int ld_src, int rows, int cols, T factor, T* dst, int ld_dst);
  /// out[r] = Σ_c a[r][c] b[r][c] of rows of `dtype`.
  void (*row_dots)(const void* a, int64_t a_stride, const void* b, int64_t b_stride, DType dtype,
                   int rows, int dim, T* out);
  /// y[i] += x[i]; n is a multiple of 64.
  void (*add)(T* y, const T* x, int64_t n);

  void (*forward_begin)(const ForwardTile<Op>& tile, const Op* q, int ld);
  void (*forward_keys)(const ForwardTile<Op>& tile, const KeyTile<Op>& keys);
  /// Writes o [64, ld] row-major and lse [64] (natural logarithm).
  void (*forward_end)(const ForwardTile<Op>& tile, T* o, int ld, T* lse);

  void (*decode_keys)(const DecodeTile<T>& tile, const CacheRows& keys);

  void (*backward_begin)(const BackwardTile<Op>& tile);
  /// Adds to d_k [64, dim_stride] (without the scale) and d_v [64, value_stride], rows
  /// [begin, end), and to d_q_t.
  void (*backward_keys)(const BackwardTile<Op>& tile, const KeyTile<Op>& keys, T* d_k, T* d_v);

  /// After forward_begin: adds the weights' part in the rows' entropy [64] (nats) and the keys'
  /// mass [64]; lse2 [64] as in BackwardTile.
  void (*add_statistics)(const ForwardTile<Op>& tile, const KeyTile<Op>& keys, const T* lse2,
                         T* entropy, T* mass);

  /// GFLOP of the matrix unit's register-only multiply-adds per second on the calling thread,
  /// measured for about `seconds`: what a kernel's speed is compared with.
  double (*measure_peak)(double seconds);
};

/// An instruction set's tables; a null table: this engine does not run that operand type.
struct Engine {
  const char* name;
  Isa isa;
  const char* flags;  ///< compiler and its flags for this engine
  const AttentionKernels<float>* f32 = nullptr;
  const AttentionKernels<double>* f64 = nullptr;
  const AttentionKernels<BFloat16>* bf16 = nullptr;
  /// For f32 problems that allow it, where they are faster than f32.
  const AttentionKernels<BFloat16>* f32_medium = nullptr;
  const AttentionKernels<SplitBf16>* f32_high = nullptr;
  const LinearKernels<float>* linear_f32 = nullptr;  ///< wherever f32 is; likewise linear_f64
  const LinearKernels<double>* linear_f64 = nullptr;
  const LinearKernels<float>* linear_bf16 = nullptr;  ///< additive writes on operands of bf16

  /// Calls `body` with the table that runs problems of this storage type, f32 at this precision;
  /// f16 rows are widened, and bf16 rows where there is no matrix unit for them. False when there
  /// is none.
  template <typename Body>
  bool with_kernels(DType dtype, Float32Precision precision, const Body& body) const {
    if (dtype == DType::kF32 && precision == Float32Precision::kMedium && f32_medium) {
      return call(f32_medium, body);
    }
    if (dtype == DType::kF32 && precision == Float32Precision::kHigh && f32_high) {
      return call(f32_high, body);
    }
    if (dtype == DType::kF64) return call(f64, body);
    if (dtype == DType::kBF16 && bf16) return call(bf16, body);
    return call(f32, body);
  }

 private:
  template <typename Kernels, typename Body>
  static bool call(const Kernels* kernels, const Body& body) {
    if (kernels) body(*kernels);
    return kernels != nullptr;
  }
};

/// The calling thread's matrix unit is set up while it lives. Not to be nested.
class MatrixUnitScope {
 public:
  template <typename Op>
  explicit MatrixUnitScope(const AttentionKernels<Op>& kernels) : release_(kernels.release) {
    kernels.configure();
  }
  ~MatrixUnitScope() { release_(); }
  MatrixUnitScope(const MatrixUnitScope&) = delete;
  MatrixUnitScope& operator=(const MatrixUnitScope&) = delete;

 private:
  void (*release_)();
};

/// The engine that runs a problem of this storage type, f32 at this precision, now.
const Engine& engine_for(DType dtype, Float32Precision precision = Float32Precision::kHighest);

}  // namespace fovea::kernels
