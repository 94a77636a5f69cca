#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "fovea/pattern/pattern_node.h"
#include "fovea/pattern/row_pieces.h"

namespace fovea {

using Numbers = std::vector<int64_t>;

// Takes the pieces of a leaf for some rows of a domain, clipped to both.
class PieceSink {
 public:
  PieceSink(const PatternDomain& domain, int64_t r0, int64_t r1) : domain(domain), r0(r0), r1(r1) {}

  const PatternDomain& domain;
  const int64_t r0, r1;  // rows asked for

  // Rows [row0, row1) see keys [max(lo, r + a), min(hi, r + b)).
  void add(int64_t row0, int64_t row1, int64_t lo, int64_t hi, int64_t a = -kNoBound,
           int64_t b = kNoBound);
  // Row r sees keys [r + a, r + b).
  void add_band(int64_t a, int64_t b) { add(r0, r1, 0, domain.k_len, a, b); }

  std::vector<RowPiece> take() { return std::move(pieces_); }

 private:
  std::vector<RowPiece> pieces_;
};

// The tensors of PatternInputs.
enum class PatternTensor : uint8_t {
  kNone,
  kSegments,
  kKeyLengths,
  kIntervals,
  kGlobalTokens,
  kBlockMask
};

// One name of the grammar and all that is known about it: its row of kLeafPatterns.
struct LeafPattern {
  const char* name;
  const char* usage;    // for messages
  const char* meaning;  // one line, for people
  int min_numbers, max_numbers;
  // Fills in defaults; returns what was expected instead, or nullptr.
  const char* (*complete)(Numbers& numbers);
  // The definition: row r (at key position i = r + domain.shift) may see key j.
  bool (*allows)(const Numbers& numbers, const PatternDomain& domain, int64_t r, int64_t j);
  // The same as pieces of rows [sink.r0, sink.r1).
  void (*pieces)(const Numbers& numbers, PieceSink& sink);
  PatternTensor tensor = PatternTensor::kNone;  // needed when min_numbers are given
};

std::span<const LeafPattern> leaf_patterns();

// The leaf of that name, or nullptr.
const LeafPattern* find_leaf(std::string_view name);

// The tensor that a leaf with these numbers takes.
PatternTensor tensor_of(const PatternNode& leaf);

}  // namespace fovea
