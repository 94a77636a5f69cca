#pragma once

#include <ATen/core/Tensor.h>

#include "fovea/nn/packing.h"
#include "fovea/nn/row_map.h"

namespace fovea::nn {

/// Packed documents cut into blocks of `size` tokens, counted from the start of each document;
/// the last block of a document may be shorter.
struct Blocks {
  int64_t size = 0;
  int64_t count = 0;  ///< NB, of all documents
  at::Tensor
      cu_blocks;        ///< int32 [N + 1]: blocks [cu_blocks[n], cu_blocks[n + 1]) are document n's
  at::Tensor cu_rows;   ///< int64 [NB + 1]: block b is rows [cu_rows[b], cu_rows[b + 1])
  at::Tensor block_of;  ///< int64 [T]
  RowMap mean;          ///< sum_rows(x, mean): the mean of each block's rows

  Blocks(const Packing& packing, int64_t size);
  /// The `count` blocks before that of a document's newest token, which is packed alone; nothing of
  /// their rows. For choose_blocks().
  static Blocks before(int64_t count, int64_t size);

 private:
  Blocks() = default;
};

}  // namespace fovea::nn
