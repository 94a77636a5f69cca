// What attention sees and what its dropout keeps, as boolean tensors: for definitions of attention
// in plain torch operations (second derivatives in python/fovea), for tests and for plots.
#include <algorithm>
#include <cstring>
#include <optional>
#include <tuple>

#include <ATen/ops/empty.h>
#include <torch/library.h>

#include "fovea/core/philox.h"
#include "fovea/core/status.h"
#include "fovea/ops/pattern_tensors.h"
#include "fovea/ops/tensor_bridge.h"
#include "fovea/pattern/pattern_node.h"
#include "fovea/pattern/row_pieces.h"

namespace fovea::ops {
namespace {

using at::Tensor;
using Pair = std::tuple<Tensor, Tensor>;

constexpr int64_t kRowsPerTask = 64;

Pattern parse(std::string_view text, bool packed) {
  try {
    const Pattern pattern = Pattern::parse(text);
    return packed ? pattern.within_segments() : pattern;
  } catch (const Error& error) {
    TORCH_CHECK(false, "fovea::pattern_mask: ", error.what());
  }
}

int64_t tasks_of(int64_t rows) { return (rows + kRowsPerTask - 1) / kRowsPerTask; }

/// mask [1 or B, 1 or H, Sq, Sk], positions [Sq].
Pair empty_masks(const Tensor& like, const Pattern& pattern, const c10::SymInt& batch,
                 const c10::SymInt& heads, const c10::SymInt& q_len, const c10::SymInt& kv_len) {
  const bool each_element = pattern.uses_key_lengths() && !pattern.uses_segments();
  return {at::empty_symint({each_element ? batch : c10::SymInt(1),
                            pattern.per_head() ? heads : c10::SymInt(1), q_len, kv_len},
                           like.options().dtype(at::kBool)),
          at::empty_symint({q_len}, like.options().dtype(at::kLong))};
}

/// Rows [r0, r1) of one batch element and head.
void fill_rows(const Pattern& pattern, const PatternScope& scope, int64_t r0, int64_t r1,
               bool* mask) {
  std::memset(mask + r0 * scope.kv_len, 0, static_cast<size_t>((r1 - r0) * scope.kv_len));
  for (const RowPiece& piece : row_pieces(pattern, scope, r0, r1)) {
    for (int64_t r = piece.r0; r < piece.r1; ++r) {
      const int64_t begin = piece.lower(r);
      std::memset(mask + r * scope.kv_len + begin, 1, static_cast<size_t>(piece.upper(r) - begin));
    }
  }
}

Pair pattern_mask_cpu(const Tensor& like, std::string_view text, c10::SymInt batch,
                      c10::SymInt heads, c10::SymInt q_len, c10::SymInt kv_len, bool top_left,
                      const MaybeTensor& key_lengths, const MaybeTensor& intervals,
                      const MaybeTensor& block_mask, const MaybeTensor& global_tokens,
                      const MaybeTensor& cu_seqlens_q, const MaybeTensor& cu_seqlens_k) {
  const char* name = "fovea::pattern_mask";
  TORCH_CHECK(cu_seqlens_q.has_value() == cu_seqlens_k.has_value(), name,
              ": expected both cu_seqlens_q and cu_seqlens_k or neither");
  const Pattern pattern = parse(text, cu_seqlens_q.has_value());
  PatternTensors tensors(name);
  if (cu_seqlens_q) tensors.set_segments(*cu_seqlens_q, *cu_seqlens_k);
  tensors.set(key_lengths, intervals, block_mask, global_tokens);
  PatternScope scope;
  scope.q_len = q_len.guard_int(__FILE__, __LINE__);
  scope.kv_len = kv_len.guard_int(__FILE__, __LINE__);
  scope.alignment = top_left ? Alignment::kTopLeft : Alignment::kBottomRight;
  scope.inputs = &tensors.inputs();
  try {
    throw_if_unmet(pattern, pattern.unmet(scope, batch.guard_int(__FILE__, __LINE__),
                                          heads.guard_int(__FILE__, __LINE__)));
  } catch (const Error& error) {
    TORCH_CHECK(false, name, ": ", error.what());
  }
  const Pair result = empty_masks(like, pattern, batch, heads, q_len, kv_len);
  const auto& [mask, positions] = result;
  const int64_t tasks = tasks_of(scope.q_len), head_count = mask.size(1);
  bool* out = mask.mutable_data_ptr<bool>();
  parallel_for(mask.size(0) * head_count * tasks, [&](int64_t task, int) {
    PatternScope own = scope;
    own.batch = task / tasks / head_count;
    own.head = task / tasks % head_count;
    const int64_t r0 = task % tasks * kRowsPerTask;
    fill_rows(pattern, own, r0, std::min(r0 + kRowsPerTask, scope.q_len),
              out + task / tasks * scope.q_len * scope.kv_len);
  });
  int64_t* at = positions.mutable_data_ptr<int64_t>();
  for (int64_t r = 0; r < scope.q_len; ++r) at[r] = pattern.aligned_key(scope, r);
  return result;
}

Pair pattern_mask_meta(const Tensor& like, std::string_view text, c10::SymInt batch,
                       c10::SymInt heads, c10::SymInt q_len, c10::SymInt kv_len, bool,
                       const MaybeTensor&, const MaybeTensor&, const MaybeTensor&,
                       const MaybeTensor&, const MaybeTensor& cu_seqlens_q, const MaybeTensor&) {
  return empty_masks(like, parse(text, cu_seqlens_q.has_value()), batch, heads, q_len, kv_len);
}

Tensor empty_dropout_mask(const Tensor& like, const c10::SymInt& batch, const c10::SymInt& heads,
                          const c10::SymInt& q_len, const c10::SymInt& kv_len) {
  return at::empty_symint({batch, heads, q_len, kv_len}, like.options().dtype(at::kBool));
}

Tensor dropout_mask_cpu(const Tensor& like, double p, c10::SymInt seed, c10::SymInt batch,
                        c10::SymInt heads, c10::SymInt q_len, c10::SymInt kv_len) {
  TORCH_CHECK(p >= 0 && p < 1, "fovea::attention_dropout_mask: expected p in [0, 1), got ", p);
  const Tensor mask = empty_dropout_mask(like, batch, heads, q_len, kv_len);
  const auto seed_bits = static_cast<uint64_t>(seed.guard_int(__FILE__, __LINE__));
  const int64_t head_count = mask.size(1), rows = mask.size(2), keys = mask.size(3);
  bool* out = mask.mutable_data_ptr<bool>();
  parallel_for(mask.size(0) * head_count * rows, [&](int64_t row, int) {
    const auto b = static_cast<uint32_t>(row / rows / head_count);
    const auto h = static_cast<uint32_t>(row / rows % head_count);
    const auto i = static_cast<uint32_t>(row % rows);
    for (int64_t j = 0; j < keys; ++j) {
      out[row * keys + j] = dropout_keeps(seed_bits, b, h, i, static_cast<uint32_t>(j), p);
    }
  });
  return mask;
}

Tensor dropout_mask_meta(const Tensor& like, double, c10::SymInt, c10::SymInt batch,
                         c10::SymInt heads, c10::SymInt q_len, c10::SymInt kv_len) {
  return empty_dropout_mask(like, batch, heads, q_len, kv_len);
}

}  // namespace

TORCH_LIBRARY_IMPL(fovea, CPU, m) {
  m.impl("pattern_mask", pattern_mask_cpu);
  m.impl("attention_dropout_mask", dropout_mask_cpu);
}

TORCH_LIBRARY_IMPL(fovea, Meta, m) {
  m.impl("pattern_mask", pattern_mask_meta);
  m.impl("attention_dropout_mask", dropout_mask_meta);
}

}  // namespace fovea::ops
