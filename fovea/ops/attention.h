#pragma once

#include <cstdint>
#include <optional>
#include <string_view>
#include <tuple>

#include <ATen/core/Tensor.h>

namespace fovea::ops {

/// What the attention operators take beside their tensors; names as in the schemas (schema.cpp).
struct AttentionArguments {
  std::optional<double> scale;  ///< of q·k; 1/sqrt(D) when absent
  double dropout_p = 0;         ///< of the weights, [0, 1)
  int64_t dropout_seed = 0;     ///< dropout is a function of this and the positions alone
  bool top_left = false;        ///< row i of q stands at key i, not at i + Sk - Sq
  at::Tensor key_lengths;       ///< int [B]: valid keys, for patterns with `key_lengths`
  at::Tensor intervals;         ///< int [Sq, 2]: key ranges, for `intervals`
  at::Tensor block_mask;        ///< bool or uint8 [rows, columns], for `block_mask(size)`
  at::Tensor global_tokens;     ///< int [n]: positions, for `global_tokens`

  // Score modifications (pattern/score_mod.h), each differentiable but the slopes; any float type.
  double softcap = 0;         ///< s = softcap · tanh(s / softcap); 0: off
  at::Tensor bias;            ///< [B|1, H|1, Sq|1, Sk], leading extents of 1 may be left out
  at::Tensor distance_bias;   ///< [H|1, 2 m + 1]: entry m + clamp(key - query position, -m, m)
  at::Tensor alibi_slopes;    ///< [H]
  at::Tensor sinks;           ///< [H]
  at::Tensor scales;          ///< [H], in place of `scale`
  bool cosine = false;        ///< q and k are divided by their length
  at::Tensor additive;        ///< [H|1, D]: scores Σ w tanh(q + k) in place of scale · q·k
  double negative_slope = 1;  ///< what scores below 0 are multiplied by: leaky ReLU

  /// Nothing but softmax(q·k / sqrt(D)) over a pattern without inputs.
  bool plain() const;
};

/// Exact attention over a pattern, o = softmax(scale q·kᵀ over allowed pairs) v, differentiable.
///
/// Shapes: q [B, Hq, Sq, D], k [B, Hkv, Sk, D], v [B, Hkv, Sk, Dv], Hq a multiple of Hkv, D and Dv
/// multiples of 8 up to 256; float32, bfloat16, float16 or float64. Any
/// strides (a last dimension that is not contiguous is copied). `pattern`: pattern/pattern.h.
/// Returns o [B, Hq, Sq, Dv], whose memory is laid out [B, Sq, Hq, Dv] so that joining heads copies
/// nothing, and lse [B, Hq, Sq] (float32; float64 for float64): the softmax's log denominator,
/// differentiable too. Rows that see nothing: 0 and -inf.
/// Errors: c10::Error that lists every unmet condition. Numerics, cost: attention/attention.h.
/// Threads: at::get_num_threads(); bits do not depend on it. Autocast: its lower type, as torch's
/// scaled_dot_product_attention.
std::tuple<at::Tensor, at::Tensor> attention(const at::Tensor& q, const at::Tensor& k,
                                             const at::Tensor& v, std::string_view pattern = "full",
                                             const AttentionArguments& arguments = {});

/// The same over packed documents without padding: q [Tq, Hq, D], k [Tk, Hkv, D], v [Tk, Hkv, Dv];
/// document n is rows [cu_seqlens[n], cu_seqlens[n + 1]) (int32 or int64 [N + 1]) and attends to
/// document n only; the pattern counts positions inside it. Returns o [Tq, Hq, Dv], lse [Hq, Tq].
std::tuple<at::Tensor, at::Tensor> attention_varlen(const at::Tensor& q, const at::Tensor& k,
                                                    const at::Tensor& v,
                                                    const at::Tensor& cu_seqlens_q,
                                                    const at::Tensor& cu_seqlens_k,
                                                    std::string_view pattern = "full",
                                                    const AttentionArguments& arguments = {});

/// The same as attention_varlen where one projection made queries, keys and values: qkv
/// [T, Hq + 2 Hkv, D], heads = Hq. Saves the copies of slicing, above all of the gradient.
std::tuple<at::Tensor, at::Tensor> attention_qkv(const at::Tensor& qkv, int64_t heads,
                                                 const at::Tensor& cu_seqlens,
                                                 std::string_view pattern = "full",
                                                 const AttentionArguments& arguments = {});

/// What the weights before dropout say about themselves, given attention's lse: row_entropy
/// [B, Hq, Sq], -Σ w ln w over the keys in nats, and column_mass [B, Hq, Sk], Σ w over the queries,
/// in the type of lse. Takes what attention() takes but v; not differentiable. Costs half a
/// forward.
std::tuple<at::Tensor, at::Tensor> attention_statistics(const at::Tensor& q, const at::Tensor& k,
                                                        const at::Tensor& lse,
                                                        std::string_view pattern = "full",
                                                        const AttentionArguments& arguments = {});

/// Results over disjoint sets of keys, merged to those over all of them: lse = log Σ exp lse_i, o =
/// Σ exp(lse_i - lse) o_i (Dao et al. 2023, split keys). o and lse as one of the operators above
/// gives them, at least one part each. The parts are made without sinks; `sinks` [H] join here.
/// Differentiable any number of times. Sums in the type of lse; o in the type of its parts.
std::tuple<at::Tensor, at::Tensor> attention_merge(at::TensorList o, at::TensorList lse,
                                                   const at::Tensor& sinks = {});

/// Attention of the newest queries of each sequence to a cache that holds their keys too:
/// q [B, Hq, Sq, D], caches [B, Hkv, C, D] and [B, Hkv, C, Dv], lengths int [B] positions written.
/// `ring`: position p lies in row p mod C. `window` > 0: a query sees the last `window` positions.
/// Returns o [B, Hq, Sq, Dv] and lse [B, Hq, Sq]. No gradients. See attention/decode.h.
std::tuple<at::Tensor, at::Tensor> attention_decode(const at::Tensor& q, const at::Tensor& k_cache,
                                                    const at::Tensor& v_cache,
                                                    const at::Tensor& lengths, bool ring = false,
                                                    int64_t window = 0);

}  // namespace fovea::ops
