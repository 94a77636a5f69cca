// Every pattern of the grammar. To add one, add its two functions and its row of the table, and its
// text to tests/pattern/plan_exhaustive_test.cpp; parser, planner and operators follow.
#include "fovea/pattern/leaf_patterns.h"

#include <array>
#include <limits>
#include <numeric>

#include "fovea/core/philox.h"

namespace fovea {
namespace {

using Domain = PatternDomain;

const char* as_written(Numbers&) { return nullptr; }

const char* size_is_positive(Numbers& n) {
  return n[0] < 1 ? "a size of at least 1, got 0" : nullptr;
}

// ---- full, causal, windows --------------------------------------------------------------------

bool full_allows(const Numbers&, const Domain&, int64_t, int64_t) { return true; }
void full_pieces(const Numbers&, PieceSink& sink) {
  sink.add(sink.r0, sink.r1, 0, sink.domain.k_len);
}

bool causal_allows(const Numbers&, const Domain& d, int64_t r, int64_t j) {
  return j <= r + d.shift;
}
void causal_pieces(const Numbers&, PieceSink& sink) {
  sink.add_band(-kNoBound, sink.domain.shift + 1);
}

const char* window_complete(Numbers& n) {
  if (n.size() == 1) n.push_back(n[0]);
  return nullptr;
}
bool window_allows(const Numbers& n, const Domain& d, int64_t r, int64_t j) {
  const int64_t i = r + d.shift;
  return i - n[0] <= j && j <= i + n[1];
}
void window_pieces(const Numbers& n, PieceSink& sink) {
  sink.add_band(sink.domain.shift - n[0], sink.domain.shift + n[1] + 1);
}

const char* dilated_complete(Numbers& n) {
  return n[2] < 1 ? "a step of at least 1, got 0" : nullptr;
}
bool dilated_allows(const Numbers& n, const Domain& d, int64_t r, int64_t j) {
  return window_allows(n, d, r, j) && (r + d.shift - j) % n[2] == 0;
}
// One diagonal for each multiple of the step that meets these rows and any key.
void dilated_pieces(const Numbers& n, PieceSink& sink) {
  const Domain& d = sink.domain;
  const int64_t first = std::max(-n[0], -(d.shift + sink.r1 - 1));
  const int64_t last = std::min(n[1], d.k_len - 1 - d.shift - sink.r0);
  for (int64_t m = -floor_div(-first, n[2]); m * n[2] <= last; ++m) {
    sink.add_band(d.shift + m * n[2], d.shift + m * n[2] + 1);
  }
}

// A window of n[0] keys that shifts inward at the edges, as NATTEN's.
bool neighbourhood_allows(const Numbers& n, const Domain& d, int64_t r, int64_t j) {
  const int64_t begin = std::max<int64_t>(0, std::min(r + d.shift - n[0] / 2, d.k_len - n[0]));
  return begin <= j && j < begin + n[0];
}
void neighbourhood_pieces(const Numbers& n, PieceSink& sink) {
  const int64_t k_len = sink.domain.k_len, size = n[0];
  const int64_t last = k_len - size;  // begin of the last window
  if (last <= 0) return full_pieces(n, sink);
  const int64_t a = sink.domain.shift - size / 2;
  sink.add(sink.r0, -a, 0, size);
  sink.add(-a, last - a, 0, k_len, a, a + size);
  sink.add(last - a, sink.r1, last, k_len);
}

// ---- blocks -----------------------------------------------------------------------------------

bool chunked_allows(const Numbers& n, const Domain& d, int64_t r, int64_t j) {
  return floor_div(r + d.shift, n[0]) == j / n[0];
}

const char* block_neighbours_complete(Numbers& n) {
  if (n.size() == 2) return "block_neighbours(size) or (size,before,after), got 2 arguments";
  if (n.size() == 1) n.insert(n.end(), {1, 1});
  return size_is_positive(n);
}
bool block_neighbours_allows(const Numbers& n, const Domain& d, int64_t r, int64_t j) {
  const int64_t distance = j / n[0] - floor_div(r + d.shift, n[0]);
  return -n[1] <= distance && distance <= n[2];
}

// Calls f(block, first row, end row) for the blocks of `size` positions that the rows stand in.
template <typename F>
void for_query_blocks(const PieceSink& sink, int64_t size, F f) {
  const int64_t shift = sink.domain.shift, last = floor_div(sink.r1 - 1 + shift, size);
  for (int64_t block = floor_div(sink.r0 + shift, size); block <= last; ++block) {
    f(block, block * size - shift, (block + 1) * size - shift);
  }
}
void block_neighbours_pieces(const Numbers& n, PieceSink& sink) {
  for_query_blocks(sink, n[0], [&](int64_t block, int64_t row0, int64_t row1) {
    sink.add(row0, row1, (block - n[1]) * n[0], (block + n[2] + 1) * n[0]);
  });
}
void chunked_pieces(const Numbers& n, PieceSink& sink) {
  block_neighbours_pieces({n[0], 0, 0}, sink);
}

// With h the half block that a row stands in: the halves of its block and the adjacent ones but
// those that touch h.
const char* block_ring_complete(Numbers& n) {
  return n[0] < 2 || n[0] % 2 != 0 ? "an even size of at least 2" : nullptr;
}
bool block_ring_allows(const Numbers& n, const Domain& d, int64_t r, int64_t j) {
  return block_neighbours_allows({n[0], 1, 1}, d, r, j) &&
         !block_neighbours_allows({n[0] / 2, 1, 1}, d, r, j);
}
void block_ring_pieces(const Numbers& n, PieceSink& sink) {
  const int64_t half = n[0] / 2;
  for_query_blocks(sink, half, [&](int64_t h, int64_t row0, int64_t row1) {
    const int64_t first = floor_div(h, 2) * 2 - 2;  // half of the block before
    sink.add(row0, row1, first * half, (h - 1) * half);
    sink.add(row0, row1, (h + 2) * half, (first + 6) * half);
  });
}

// Sorted key blocks of block row `row`: `count` distinct ones of `blocks`, uniformly, by Floyd's
// algorithm (Bentley, "Programming Pearls", CACM 30(9), 1987) over Philox words; scaling a
// 32-bit word to t + 1 choices favours some by less than (t + 1) / 2^32.
std::vector<int64_t> random_key_blocks(int64_t row, int64_t blocks, int64_t count, int64_t seed) {
  std::vector<int64_t> chosen;
  if (count >= blocks) {
    chosen.resize(blocks);
    std::iota(chosen.begin(), chosen.end(), int64_t{0});
    return chosen;
  }
  const auto low = [](int64_t x) { return static_cast<uint32_t>(x); };
  const auto high = [](int64_t x) { return static_cast<uint32_t>(x >> 32); };
  for (int64_t t = blocks - count; t < blocks; ++t) {
    const uint64_t word = philox4x32({low(t), low(row), high(row), 0}, {low(seed), high(seed)})[0];
    const int64_t pick = static_cast<int64_t>(word * static_cast<uint64_t>(t + 1) >> 32);
    const auto at = std::lower_bound(chosen.begin(), chosen.end(), pick);
    if (at != chosen.end() && *at == pick) {
      chosen.push_back(t);  // larger than all before
    } else {
      chosen.insert(at, pick);
    }
  }
  return chosen;
}
bool random_blocks_allows(const Numbers& n, const Domain& d, int64_t r, int64_t j) {
  const auto keys =
      random_key_blocks(floor_div(r + d.shift, n[0]), (d.k_len + n[0] - 1) / n[0], n[1], n[2]);
  return std::binary_search(keys.begin(), keys.end(), j / n[0]);
}
void random_blocks_pieces(const Numbers& n, PieceSink& sink) {
  const int64_t size = n[0], blocks = (sink.domain.k_len + size - 1) / size;
  for_query_blocks(sink, size, [&](int64_t block, int64_t row0, int64_t row1) {
    const std::vector<int64_t> keys = random_key_blocks(block, blocks, n[1], n[2]);
    for (size_t i = 0, j; i < keys.size(); i = j) {
      for (j = i + 1; j < keys.size() && keys[j] == keys[j - 1] + 1;) ++j;
      sink.add(row0, row1, keys[i] * size, (keys[j - 1] + 1) * size);
    }
  });
}

bool block_mask_allows(const Numbers& n, const Domain& d, int64_t r, int64_t j) {
  return d.inputs->block_mask[r / n[0] * d.inputs->block_mask_columns + j / n[0]] != 0;
}
void block_mask_pieces(const Numbers& n, PieceSink& sink) {
  const int64_t size = n[0], columns = sink.domain.inputs->block_mask_columns;
  for (int64_t block = sink.r0 / size; block * size < sink.r1; ++block) {
    const uint8_t* row = sink.domain.inputs->block_mask.data() + block * columns;
    for (int64_t i = 0; i < columns; ++i) {
      if (!row[i]) continue;
      const int64_t begin = i;
      while (i < columns && row[i]) ++i;
      sink.add(block * size, (block + 1) * size, begin * size, i * size);
    }
  }
}

// ---- global tokens ----------------------------------------------------------------------------

struct Run {
  int64_t begin, end;
};

// Rows of the runs see every key; the rows between them see the runs.
void global_pieces_of(const std::vector<Run>& runs, PieceSink& sink) {
  const int64_t shift = sink.domain.shift;
  int64_t row = sink.r0;
  const auto ordinary_rows_until = [&](int64_t end) {
    if (row >= std::min(end, sink.r1)) return;
    for (const Run& run : runs) sink.add(row, end, run.begin, run.end);
  };
  for (const Run& run : runs) {
    ordinary_rows_until(run.begin - shift);
    sink.add(run.begin - shift, run.end - shift, 0, sink.domain.k_len);
    row = std::max(row, run.end - shift);
  }
  ordinary_rows_until(sink.r1);
}

bool global_allows(const Numbers& n, const Domain& d, int64_t r, int64_t j) {
  const int64_t i = r + d.shift;
  return j < n[0] || (0 <= i && i < n[0]);
}
void global_pieces(const Numbers& n, PieceSink& sink) { global_pieces_of({{0, n[0]}}, sink); }

const char* global_tokens_complete(Numbers& n) {
  std::sort(n.begin(), n.end());
  n.erase(std::unique(n.begin(), n.end()), n.end());
  return nullptr;
}
bool global_tokens_allows(const Numbers& n, const Domain& d, int64_t r, int64_t j) {
  const auto is_global = [&](int64_t position) {
    if (!n.empty()) return std::binary_search(n.begin(), n.end(), position);
    const auto& tokens = d.inputs->global_tokens;
    return std::find(tokens.begin(), tokens.end(), position) != tokens.end();
  };
  return is_global(j) || is_global(r + d.shift);
}
void global_tokens_pieces(const Numbers& n, PieceSink& sink) {
  Numbers sorted = n;
  if (sorted.empty()) {
    const auto& tokens = sink.domain.inputs->global_tokens;
    sorted.assign(tokens.begin(), tokens.end());
    std::sort(sorted.begin(), sorted.end());
  }
  std::vector<Run> runs;
  for (int64_t position : sorted) {
    if (!runs.empty() && position <= runs.back().end) {
      runs.back().end = position + 1;
    } else {
      runs.push_back({position, position + 1});
    }
  }
  global_pieces_of(runs, sink);
}

// ---- facts of a batch -------------------------------------------------------------------------

bool intervals_allows(const Numbers&, const Domain& d, int64_t r, int64_t j) {
  const int32_t* range = d.inputs->intervals.data() + 2 * (d.q_begin + r);
  return range[0] <= j && j < range[1];
}
void intervals_pieces(const Numbers&, PieceSink& sink) {
  const int32_t* ranges = sink.domain.inputs->intervals.data() + 2 * sink.domain.q_begin;
  const auto same = [&](int64_t r, int64_t s) {
    return ranges[2 * r] == ranges[2 * s] && ranges[2 * r + 1] == ranges[2 * s + 1];
  };
  for (int64_t r = sink.r0, end; r < sink.r1; r = end) {
    for (end = r + 1; end < sink.r1 && same(r, end);) ++end;
    sink.add(r, end, ranges[2 * r], ranges[2 * r + 1]);
  }
}

bool key_lengths_allows(const Numbers&, const Domain& d, int64_t, int64_t j) {
  return j < d.key_length;
}
void key_lengths_pieces(const Numbers&, PieceSink& sink) {
  sink.add(sink.r0, sink.r1, 0, sink.domain.key_length);
}

constexpr int kAny = std::numeric_limits<int>::max();

constexpr LeafPattern kLeafPatterns[] = {
    {"full", "full", "every token sees every token", 0, 0, as_written, full_allows, full_pieces},
    {"causal", "causal", "a token sees itself and all before it", 0, 0, as_written, causal_allows,
     causal_pieces},
    {"window", "window(left,right) or window(width)",
     "a token sees `left` tokens before it, itself and `right` after it", 1, 2, window_complete,
     window_allows, window_pieces},
    {"dilated", "dilated(left,right,step)",
     "the tokens of window(left,right) at distances divisible by `step`", 3, 3, dilated_complete,
     dilated_allows, dilated_pieces},
    {"chunked", "chunked(size)", "blocks of `size` tokens; a token sees its own block", 1, 1,
     size_is_positive, chunked_allows, chunked_pieces},
    {"block_neighbours", "block_neighbours(size) or block_neighbours(size,before,after)",
     "a token sees its own block of `size`, `before` blocks before it and `after` after it", 1, 3,
     block_neighbours_complete, block_neighbours_allows, block_neighbours_pieces},
    {"block_ring", "block_ring(size)",
     "a token sees the blocks of `size` before and after its own, but for the halves of blocks "
     "next to its own half: a level of a hierarchy whose finer level is block_neighbours(size/2)",
     1, 1, block_ring_complete, block_ring_allows, block_ring_pieces},
    {"neighbourhood", "neighbourhood(size)",
     "a window of exactly `size` tokens that shifts inward at the edges", 1, 1, size_is_positive,
     neighbourhood_allows, neighbourhood_pieces},
    {"global", "global(n)", "the first `n` tokens see all and are seen by all", 1, 1, as_written,
     global_allows, global_pieces},
    {"global_tokens", "global_tokens or global_tokens(i,…)",
     "the tokens at these positions see all and are seen by all", 0, kAny, global_tokens_complete,
     global_tokens_allows, global_tokens_pieces, PatternTensor::kGlobalTokens},
    {"random_blocks", "random_blocks(size,count,seed)",
     "each block of `size` tokens sees `count` blocks chosen by `seed`", 3, 3, size_is_positive,
     random_blocks_allows, random_blocks_pieces},
    {"block_mask", "block_mask(size)",
     "blocks of `size` queries see the blocks of `size` keys that a tensor marks", 1, 1,
     size_is_positive, block_mask_allows, block_mask_pieces, PatternTensor::kBlockMask},
    {"intervals", "intervals", "each query sees the range of keys that a tensor gives it", 0, 0,
     as_written, intervals_allows, intervals_pieces, PatternTensor::kIntervals},
    {"key_lengths", "key_lengths", "keys beyond the length of their row of the batch are padding",
     0, 0, as_written, key_lengths_allows, key_lengths_pieces, PatternTensor::kKeyLengths},
    // Other segments are outside the domain; inside, everything is allowed.
    {"segments", "segments", "packed documents: nothing sees another document", 0, 0, as_written,
     full_allows, full_pieces, PatternTensor::kSegments},
};

}  // namespace

void PieceSink::add(int64_t row0, int64_t row1, int64_t lo, int64_t hi, int64_t a, int64_t b) {
  RowPiece p{std::max(row0, r0),
             std::min(row1, r1),
             std::max<int64_t>(lo, 0),
             std::min(hi, domain.k_len),
             a,
             b};
  if (p.tighten()) pieces_.push_back(p);
}

std::span<const LeafPattern> leaf_patterns() { return kLeafPatterns; }

const LeafPattern* find_leaf(std::string_view name) {
  for (const LeafPattern& leaf : kLeafPatterns) {
    if (name == leaf.name) return &leaf;
  }
  return nullptr;
}

PatternTensor tensor_of(const PatternNode& leaf) {
  const bool in_text = leaf.leaf->tensor == PatternTensor::kGlobalTokens && !leaf.numbers.empty();
  return in_text ? PatternTensor::kNone : leaf.leaf->tensor;
}

}  // namespace fovea
