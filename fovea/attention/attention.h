#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "fovea/core/cpu_features.h"
#include "fovea/core/float32_precision.h"
#include "fovea/core/status.h"
#include "fovea/core/tensor_view.h"
#include "fovea/pattern/block_plan.h"
#include "fovea/pattern/score_mod.h"

namespace fovea {

/// Exact softmax attention over a pattern, o = softmax(mod(q·kᵀ)) v, for one call.
///
/// Shapes: q [B, Hq, Sq, D], k [B, Hkv, Sk, D], v [B, Hkv, Sk, Dv]; Hq is a multiple of Hkv and
/// query head h reads key head h / (Hq / Hkv). Any strides with a contiguous last dimension; packed
/// tensors [T, H, D] are passed as [1, H, T, D] with a pattern within `segments`.
/// D and Dv: multiples of 8 up to 256, may differ. One dtype for q, k, v: f32, bf16, f16 or f64. A
/// dense bias has the type of q or of lse, a distance bias and additive weights the type of lse.
struct AttentionProblem {
  TensorView q, k, v;
  const PlanSet* plans = nullptr;  ///< of the same B, Hq, Sq, Sk
  ScoreMod score_mod;
  Float32Precision precision = Float32Precision::kHighest;  ///< of f32 problems
  double dropout_p = 0;  ///< in [0, 1); see dropout_keeps() in core/philox.h
  uint64_t dropout_seed = 0;
};

/// Results of the forward. o: [B, Hq, Sq, Dv] in the problem's dtype. lse: [B, Hq, Sq] (last extent
/// 1), f32 (f64 for f64 problems): natural log of the softmax denominator, after the score
/// modifications, before dropout. A row without allowed keys gives o = 0, lse = -inf.
struct AttentionOutputs {
  TensorView o, lse;
};

/// What the backward needs beside the problem and the forward's results, and where it writes.
/// d_o: as o. d_lse: as lse, or empty. d_q, d_k, d_v: as q, k, v; overwritten, every element. Those
/// of score modifications where wanted, else empty or null, in the type of lse: d_bias,
/// d_distance_bias and d_additive in the shape of theirs, d_sinks and d_scales [H].
struct AttentionGradients {
  TensorView d_o, d_lse;
  TensorView d_q, d_k, d_v;
  TensorView d_bias = {}, d_distance_bias = {}, d_additive = {};
  double *d_sinks = nullptr, *d_scales = nullptr;
};

/// What the weights before dropout say about themselves, in the type of lse. row_entropy: [B, Hq,
/// Sq] (last extent 1), -Σ w ln w over a row's keys, in nats; a sink's weight has no part in it.
/// column_mass: [B, Hq, Sk] (last extent 1), Σ w over the queries.
struct AttentionStatistics {
  TensorView row_entropy, column_mass;
};

/// Every unmet condition of a call, each as "attention: expected …, got …" with shapes.
std::vector<std::string> unmet_conditions(const AttentionProblem& problem,
                                          const AttentionOutputs& outputs);

/// Computes o and lse. Errors: kInvalidInput with all unmet conditions, kUnsupported where no
/// engine can run the problem. Numerics: f32 accumulation and softmax for f32, bf16 and f16
/// storage, one rounding at the end, f64 throughout for f64; products of f32 in less where
/// `precision` allows it and the engine gains by it; bits do not depend on the thread count.
/// Memory: scratch per thread of the order of a few tiles. Threads: core/parallel.h. Source: Rabe
/// and Staats 2021; Dao et al. 2022 (FlashAttention), Alg. 1; Dao 2023, §3. Differs in: scores are
/// kept transposed (a vector lane is a query), and the mask is a plan.
Status attention_forward(const AttentionProblem& problem, const AttentionOutputs& outputs);

/// Computes the gradients from the forward's o and lse. Same conditions, numerics and threads. A
/// d_bias that several heads or batch elements share is summed by one task for all of them.
/// Source: Dao et al. 2022, Alg. 4, without atomics: sums run in an order fixed by problem and
/// plan.
Status attention_backward(const AttentionProblem& problem, const AttentionOutputs& outputs,
                          const AttentionGradients& gradients);

/// Computes the statistics from the forward's lse; v and o are not read. Same conditions and
/// numerics. Cost: the first of the forward's two products. Threads: one task a head, so few heads
/// keep few threads busy.
Status attention_statistics(const AttentionProblem& problem, const AttentionOutputs& outputs,
                            const AttentionStatistics& statistics);

/// Name of the engine that would run a problem of this dtype, f32 at this precision, now: "avx512"
/// and so on.
std::string engine_name(DType dtype, Float32Precision precision = Float32Precision::kHighest);

}  // namespace fovea
