#pragma once

#include <tuple>
#include <vector>

#include <ATen/core/Tensor.h>

#include "fovea/nn/row_map.h"

namespace fovea::nn {

/// A result of attention over some of the keys, o [P, Hp, Dv] and lse [Hp, P], and who it is for.
struct PartialResult {
  at::Tensor o, lse;
  /// None: Hp = H, row t is token t's. Else, with Hp = H, entry t is the row of token t; with
  /// Hp = 1 entries (t H + h) slots … are the rows of token t and head h; -1: no row.
  RowMap rows;
  int64_t slots = 1;
};

/// Results over disjoint sets of keys, merged to those over all of them as attention_merge
/// (ops/attention.h) does, where queries share rows of a part or have several: o [T, H, Dv], lse
/// [H, T]. The first part has every token, `rows` none. Sums in the type of lse, in the order of
/// parts and slots; o in the type of its parts. Differentiable once.
std::tuple<at::Tensor, at::Tensor> merge_rows(const std::vector<PartialResult>& parts);

}  // namespace fovea::nn
