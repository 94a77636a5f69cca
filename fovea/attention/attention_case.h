#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "fovea/core/float32_precision.h"
#include "fovea/core/tensor_view.h"
#include "fovea/pattern/block_plan.h"
#include "fovea/pattern/pattern.h"
#include "fovea/pattern/score_mod.h"

namespace fovea {

/// One attention problem under a printable name that tests, benches and bug reports share:
///
///     b2_h12_kv4_q2048_k2048_d64_v64_bf16_window256_fwd[_drop10][_topleft][_bshd][_high][_biashq]…
///
/// batch, heads, kv heads (default: heads), query and key length, head dim, value dim (default: d),
/// storage type (f32, bf16, f16, f64), pattern, fwd or bwd. Options: dropout in per cent, top-left
/// alignment, tensors laid out [B, S, H, D], docsA-B-…: the lengths of packed documents where the
/// pattern has segments (default: a few of uneven lengths); high or medium
/// (core/float32_precision.h). Score modifications
/// (pattern/score_mod.h): cosine; scales, one for each head; additive; leakyN, a slope of N per
/// cent below 0; softcapN; alibi; sinks; distN, a
/// distance bias with m = N; bias and the letters of the extents that are not 1: biasbhq is [B, H,
/// Sq, Sk], bias is [1, 1, 1, Sk]. A backward gives their gradients too.
///
/// The pattern is the grammar of pattern.h with characters that need no quoting: arguments follow
/// their name, `-` between them; `+` is union, `.` is intersection (binds first); causalN is
/// window(N-1,0):  window256 = window(256)   window64+global4 = window(64) | global(4)
/// causal.segments   dilated8-8-2   block_neighbours64-1-1. Parentheses and per_head have no form.
struct AttentionCase {
  int64_t batch = 1, heads = 1, kv_heads = 1, q_len = 1, kv_len = 1;
  int64_t head_dim = 64, value_dim = 64;
  DType dtype = DType::kF32;
  std::string pattern = "full";  ///< in the grammar of pattern.h
  bool backward = false;
  int dropout_percent = 0;
  Float32Precision precision = Float32Precision::kHighest;
  Alignment alignment = Alignment::kBottomRight;
  bool bshd = false;
  std::vector<int64_t> documents;  ///< tokens of each; empty: CaseInputs chooses
  int softcap = 0;                 ///< 0: off
  bool additive = false;
  int leaky = 100;  ///< per cent; 100: off
  bool cosine = false, scales = false, alibi = false, sinks = false;
  int64_t distance = -1;  ///< largest distance of a distance bias; -1: off
  bool bias = false, bias_batch = false, bias_heads = false, bias_queries = false;

  /// Throws InputError that quotes the id and says what was expected where.
  static AttentionCase parse(std::string_view id);
  std::string to_string() const;
};

/// The score modifications of a case, the same numbers in every type and on every machine. Keep it
/// alive while its mod() is used.
class CaseScoreMod {
 public:
  /// `type`: of the biases, f32, f64, and of the dense one bf16 or f16.
  CaseScoreMod(const AttentionCase& c, DType type);
  const ScoreMod& mod() const { return mod_; }

 private:
  TensorView bias_view(int64_t b, int64_t h, int64_t rows, int64_t last, uint32_t stream,
                       DType type, std::vector<char>* bytes);
  std::vector<char> bias_, distance_bias_, additive_;
  std::vector<double> scales_, slopes_, sinks_;
  ScoreMod mod_;
};

/// Per-batch facts that a case's pattern needs, the same on every machine: segments and key
/// lengths of uneven sizes, random block masks and intervals. Keep it alive while a plan is built.
class CaseInputs {
 public:
  explicit CaseInputs(const AttentionCase& c);
  const PatternInputs& view() const { return view_; }
  PlanSet plans(const AttentionCase& c) const;

 private:
  std::vector<int32_t> cu_seqlens_q_, cu_seqlens_k_, key_lengths_, intervals_, global_tokens_;
  std::vector<uint8_t> block_mask_;
  PatternInputs view_;
};

}  // namespace fovea
