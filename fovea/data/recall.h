#pragma once

#include <cstdint>
#include <string>

#include "fovea/data/random.h"

namespace fovea::data {

/// Shape of the documents of RecallGenerator.
struct RecallOptions {
  int64_t length = 1024;       ///< words of a document
  int64_t min_distance = 256;  ///< words between any pair and the document's first and last word
  int pairs = 4;               ///< 1 to 26
  int classes = 4;             ///< 2 to 36
  bool query_last = false;     ///< the query ends the document instead of beginning it
  uint64_t seed = 0;
};

/// One document, such as `?a . . . c2 . . a0 . . b1 . . .`, and its class, here "0".
struct Recall {
  std::string text;
  std::string label;
};

/// Draws documents whose class can be told only by carrying one value over a distance: words of a
/// key (a letter) and a value (the class: 0-9, then A-Z) between dots, and the query, `?` and a
/// key, as the first word or the last. Every pair lies at least `min_distance` from both ends, so a
/// model that reads its answer off the first token (pooling first) or the last one needs that
/// reach; mean pooling mixes all positions and is no test of attention. A pair is one word, which
/// one layer of attention can look up: the task measures reach, not how well a model binds
/// neighbours.
///
/// Keys differ within a document; the values of the pairs are as evenly spread over the classes as
/// can be. With `pairs` a multiple of `classes` every document holds each value equally often: what
/// tokens occur says nothing about the class, and chance is 1 / classes. All choices are uniform; a
/// function of the options only.
class RecallGenerator {
 public:
  /// Throws InputError when the pairs do not fit.
  explicit RecallGenerator(const RecallOptions& options);
  Recall next();

 private:
  RecallOptions options_;
  Random random_;
};

}  // namespace fovea::data
