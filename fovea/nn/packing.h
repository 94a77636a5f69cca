#pragma once

#include <cstdint>

#include <ATen/core/Tensor.h>

namespace fovea::nn {

/// Where documents begin in rows that are packed one after another: document n is rows
/// [cu_seqlens[n], cu_seqlens[n + 1]). The layout of every module here: [T, E] beside a Packing,
/// so that padding costs nothing. Built once a batch and shared by all layers.
struct Packing {
  at::Tensor cu_seqlens;   ///< int32 [N + 1] on the CPU, ascending from 0 to T
  at::Tensor positions;    ///< int64 [T]: 0, 1, … restarting in each document
  int64_t documents = 0;   ///< N
  int64_t tokens = 0;      ///< T
  int64_t max_length = 0;  ///< rows of the longest document; no position is as large
  int64_t min_length = 0;  ///< rows of the shortest one

  Packing() = default;
  /// Throws c10::Error unless cu_seqlens is as described.
  explicit Packing(const at::Tensor& cu_seqlens);
  /// `batch` documents of `length` rows: a [B, S, E] tensor is view({B * S, E}) with this packing.
  static Packing dense(int64_t batch, int64_t length);
  /// `length` further rows of one document of which `before` rows were given earlier: positions
  /// from `before` on, max_length of the whole.
  static Packing continued(int64_t before, int64_t length);
};

}  // namespace fovea::nn
