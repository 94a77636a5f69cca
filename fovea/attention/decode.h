#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "fovea/core/status.h"
#include "fovea/core/tensor_view.h"

namespace fovea {

/// Keys and values of one attention layer, kept while a text grows. Position p of sequence b is
///
///     contiguous   row p of k[b]                    k [B, Hkv, C, D], v [B, Hkv, C, Dv]
///     ring         row p mod C of k[b]              the same; holds the last C positions
///     paged        row p mod P of page block_table[b][p / P]     k [pages, Hkv, P, D]
///
/// Rows of positions from the length on are never read. Rows of i8 are multiplied by scales that
/// lie in the same layout: k_scales and v_scales [B, Hkv, C] (or [pages, Hkv, P]) of f32, from
/// quantise_rows().
struct KvCache {
  TensorView k, v, k_scales = {}, v_scales = {};
  bool ring = false;
  const int32_t* block_table = nullptr;  ///< [B, blocks]; null: not paged
  int64_t blocks = 0;
};

/// Attention of the newest queries of each sequence to a cache that already holds their own keys:
/// generation (q_len 1), or a chunk of a prompt. Query i of sequence b stands at position
/// lengths[b] - q_len + i and sees positions up to its own, with `window` > 0 the last `window` of
/// those. A query before position 0 sees nothing.
///
/// q [B, Hq, Sq, D]; Hq a multiple of Hkv; D and Dv multiples of 8 up to 256; one type for q, k, v:
/// f32, bf16, f16 or f64; or k and v of i8 beside q of f32, bf16 or f16.
struct DecodeProblem {
  TensorView q;
  KvCache cache;
  const int32_t* lengths = nullptr;  ///< [B] positions written
  int64_t window = 0;                ///< 0: all before
  double scale = 0;                  ///< of q·k; 0: 1/sqrt(D)
};

/// Computes o [B, Hq, Sq, Dv] in the type of q and lse [B, Hq, Sq] (last extent 1; f32, f64 for
/// f64), as attention_forward() would over the cache in order.
///
/// Errors: kInvalidInput with all unmet conditions. Cost: each visible key is read once for all
/// queries of its head group. Threads: the keys are cut into spans of 1,024, whose partial results
/// are joined in order, so one sequence keeps all cores busy and bits do not depend on the thread
/// count. Memory: one partial result a span. Source: Flash-Decoding (Dao et al. 2023); pages: Kwon
/// et al. 2023.
Status attention_decode(const DecodeProblem& problem, const TensorView& o, const TensorView& lse);

/// Quantises rows x [B, H, S, D] of f32, bf16 or f16 to `rows` of i8 and `scales` [B, H, S] of f32,
/// symmetrically: s = max|x| / 127, rows = x / s rounded to nearest. A row of zeros has the scale
/// 0; one that holds NaN or infinity has the scale NaN.
///
/// Numerics: |s · rows - x| <= s / 2, but for the last digits of f32. What that does to attention,
/// with ε = |scale| · |q|₁ · max s_k / 2 the most that a score moves (q·k by half a step of every
/// feature) and so every weight by a factor within e^±2ε:
///
///     |lse' - lse| <= ε      |o' - o| <= max s_v / 2 + (e^2ε - 1) · max|v|
///
/// Errors: kInvalidInput with all unmet conditions.
Status quantise_rows(const TensorView& x, const TensorView& rows, const TensorView& scales);

/// Every unmet condition, each as "attention_decode: expected …, got …".
std::vector<std::string> unmet_conditions(const DecodeProblem& problem, const TensorView& o,
                                          const TensorView& lse);

}  // namespace fovea
