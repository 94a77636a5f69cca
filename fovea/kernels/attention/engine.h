#pragma once

#include <cstdint>

#include "fovea/core/cpu_features.h"
#include "fovea/core/tensor_view.h"
#include "fovea/kernels/linear/linear.h"
#include "fovea/pattern/block_plan.h"

namespace fovea::kernels {

/// Columns of every transposed panel: one lane for each query row of a tile.
constexpr int kLaneStride = kTile;

/// Dropout of one (batch element, head), see dropout_words() in core/philox.h. Off when
/// `threshold` is 0.
struct DropoutKey {
  uint64_t seed = 0;
  uint32_t batch = 0, head = 0;
  uint32_t threshold = 0;  ///< smallest kept word
  double keep_scale = 1;   ///< 1 / (1 - p)
};

/// What is done to the scores of a tile of queries (pattern/score_mod.h). Panels are 64-byte
/// aligned.
template <typename T>
struct ScoreModTile {
  T softcap = 0;  ///< times log2 e; 0: off
  T sink = 0;     ///< times log2 e
  bool has_sink = false;
  const void* bias = nullptr;        ///< [64 rows, Sk] from the tile's first query and key 0 on
  DType bias_dtype = DType::kF32;    ///< of T, or bf16
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
};

/// A tile of keys as the bodies read it. Rows are row-major in T; only rows [begin, end) are read.
template <typename T>
struct KeyTile {
  const T* k;
  const T* v;
  int64_t k_stride, v_stride;  ///< elements between rows
  uint32_t first_key;          ///< row number of row 0, a multiple of 64 (for dropout)
  int begin, end;              ///< rows that any query of the tile sees
  const uint64_t* lanes;       ///< [64] bit r of lanes[c]: query r sees key c; null: all see all
};

/// A tile of queries on its way through the forward. Panels are 64-byte aligned.
template <typename T>
struct ForwardTile {
  int rows;  ///< queries in the tile
  int head_dim, value_dim;
  T scale;               ///< of a score, times log2 e
  uint32_t first_query;  ///< row number of lane 0 (for dropout)
  DropoutKey dropout;
  const ScoreModTile<T>* mod;  ///< null: none
  T* q_t;                      ///< [D, 64] scaled queries, transposed
  T* scores;                   ///< [64 keys, 64]
  T* o_t;                      ///< [Dv, 64] output before the division by row_sum
  T* row_max;                  ///< [64] base-2 maximum that o_t and row_sum are relative to
  T* row_sum;                  ///< [64]
};

/// A tile of queries on its way through the backward. `dim_stride` and `value_stride` are D and Dv
/// rounded up to whole cache lines; the columns beyond D and Dv are zero.
template <typename T>
struct BackwardTile {
  int rows;
  int head_dim, value_dim;
  int dim_stride, value_stride;
  T scale;  ///< as in ForwardTile
  uint32_t first_query;
  DropoutKey dropout;
  const ScoreModTile<T>* mod;  ///< null: none
  const T* q;      ///< [64, dim_stride] queries, row-major; dead rows and rows >= `rows` are zero
  const T* d_o;    ///< [64, value_stride], row-major, likewise
  const T* lse2;   ///< [64] log-sum-exp in base 2; +inf for dead rows
  const T* delta;  ///< [64] rowsum(dO ∘ O) - dLSE
  T* q_t;          ///< [D, 64] scaled
  T* d_o_t;        ///< [Dv, 64]
  T* p;            ///< [64 keys, 64]
  T* d_s;          ///< [64 keys, 64]
  T* d_q_t;        ///< [D, 64] sum over the key tiles, without the scale
};

/// What one engine can do for attention in compute type T. Every function is noexcept, allocates
/// nothing and touches only what its arguments name.
template <typename T>
struct AttentionKernels {
  /// dst[r][c] = src[r][c] for r < rows, 0 for rows up to `padded_rows` and columns up to `ld`.
  void (*load_rows)(const void* src, DType dtype, int64_t stride, int rows, int padded_rows,
                    int dim, T* dst, int ld);
  /// dst[r][c] = factor · src[r][c], rounded once to `dtype`.
  void (*store_rows)(const T* src, int ld, int rows, int dim, T factor, void* dst, DType dtype,
                     int64_t stride);
  /// dst[c][r] = factor · src[r][c]; rows and columns are multiples of 4.
  void (*transpose)(const T* src, int ld_src, int rows, int cols, T factor, T* dst, int ld_dst);
  /// out[r] = Σ_c a[r][c] b[r][c]; dim is padded to `ld` with zeros.
  void (*row_dots)(const T* a, const T* b, int ld, int rows, T* out);
  /// y[i] += x[i]; n is a multiple of 64.
  void (*add)(T* y, const T* x, int64_t n);

  void (*forward_begin)(const ForwardTile<T>& tile, const T* q, int ld);
  void (*forward_keys)(const ForwardTile<T>& tile, const KeyTile<T>& keys);
  /// Writes o [64, ld] row-major and lse [64] (natural logarithm).
  void (*forward_end)(const ForwardTile<T>& tile, T* o, int ld, T* lse);

  void (*backward_begin)(const BackwardTile<T>& tile);
  /// Adds to d_k [64, dim_stride] (without the scale) and d_v [64, value_stride], rows
  /// [begin, end), and to d_q_t.
  void (*backward_keys)(const BackwardTile<T>& tile, const KeyTile<T>& keys, T* d_k, T* d_v);
};

/// An instruction set's tables; a null table: this engine does not run that compute type.
struct Engine {
  const char* name;
  Isa isa;
  const AttentionKernels<float>* f32;
  const AttentionKernels<double>* f64;
  const LinearKernels<float>* linear_f32;
  const LinearKernels<double>* linear_f64;
  /// GFLOP of register-only fused multiply-adds per second on the calling thread, measured for
  /// about `seconds`: what a kernel's speed is compared with.
  double (*measure_peak)(double seconds);
  const char* flags;  ///< compiler and its flags for this engine
};

/// Engines of this build that the machine can run and FOVEA_MAX_ISA allows, strongest first.
/// The pointer stays valid; `*count` >= 1.
const Engine* const* available_engines(int* count);

/// The engine that runs a problem of this compute type (f32 or f64) now.
const Engine& engine_for(bool f64);

}  // namespace fovea::kernels
