#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "fovea/pattern/pattern.h"

namespace fovea {

/// How a layer weighs what its pattern lets it see.
enum class Mechanism : uint8_t {
  kSoftmax,  ///< exactly, over any pattern
  // Through a state of fixed size; full or causal.
  kLinear,     ///< features elu + 1 (Katharopoulos et al. 2020)
  kPerformer,  ///< positive random features (Choromanski et al. 2021)
  kBased,      ///< the exponential's Taylor terms (Arora et al. 2024)
  kHedgehog,   ///< learned features (Zhang et al. 2024)
  // Through a state that every step changes: causal, also in an encoder.
  kRetNet,         ///< a decay a head (Sun et al. 2023)
  kGla,            ///< a decay a step and channel (Yang et al. 2024)
  kMamba2,         ///< a decay a step, keys shared by all heads (Dao and Gu 2024)
  kDeltaNet,       ///< delta writes (Yang et al. 2024)
  kGatedDeltaNet,  ///< delta writes and a decay a step (Yang et al. 2025)
  // Softmax over blocks that are chosen or pooled; full or causal, with numbers.
  kMoba,            ///< the blocks with the nearest mean keys (Lu et al. 2025)
  kHMatrix,         ///< all tokens, the farther the coarser (Zhu and Soricut 2021)
  kNsa,             ///< means of blocks, chosen blocks and a window, with gates (Yuan et al. 2025)
  kSegmentEncoder,  ///< tokens in segments, segments in the document, with a gate
};

/// As configs write it: linear, performer, based, hedgehog, retnet, gla, mamba2, deltanet,
/// gated_deltanet, moba, hmatrix, nsa, segment_encoder; softmax for kSoftmax, which is never
/// written.
const char* name_of(Mechanism mechanism);

/// Whether a layer is an nn::LinearMixer, with projections of its own.
constexpr bool is_recurrent(Mechanism mechanism) {
  return mechanism >= Mechanism::kPerformer && mechanism <= Mechanism::kGatedDeltaNet;
}

/// Whether softmax runs over blocks that are chosen or pooled.
constexpr bool is_over_blocks(Mechanism mechanism) { return mechanism >= Mechanism::kMoba; }

/// Gates that a layer learns for each head and token beside its projections.
constexpr int64_t gates_of(Mechanism mechanism) {
  return mechanism == Mechanism::kNsa ? 3 : mechanism == Mechanism::kSegmentEncoder ? 1 : 0;
}

/// Whether an encoder's queries may read all keys of a sequence, not only those before them.
constexpr bool reads_both_sides(Mechanism mechanism) {
  return mechanism <= Mechanism::kHedgehog || is_over_blocks(mechanism);
}

/// Whether its weights are products of features, f(q)·f(k): a window's memory can take them.
constexpr bool weighs_features(Mechanism mechanism) {
  return mechanism >= Mechanism::kLinear && mechanism <= Mechanism::kHedgehog;
}

/// A number that a mechanism takes in parentheses.
struct MechanismNumber {
  const char* name;
  int64_t preset;  ///< where none are written
  int64_t least;
  int64_t multiple = 1;  ///< of this
};

/// Those of a mechanism, in order: all are written or none.
std::span<const MechanismNumber> numbers_of(Mechanism mechanism);

/// "moba(block,blocks)"
std::string usage_of(Mechanism mechanism);

/// Fills in what is not written; what was expected instead, or "".
std::string complete_numbers(Mechanism mechanism, std::vector<int64_t>* numbers);

/// The mechanism of a name that may stand in a layer list; false for others.
bool find_mechanism(std::string_view name, Mechanism* mechanism);

/// What a layer keeps of the tokens outside its window, beside softmax inside.
struct LayerMemory {
  Mechanism mechanism = Mechanism::kSoftmax;  ///< one that weighs features; softmax: no memory
  bool causal = false;                        ///< of those before the window only
  /// A learned gate for each head weighs window and memory (Munkhdalai et al. 2024); otherwise they
  /// share one denominator (Zhang et al. 2024, LoLCATs).
  bool gated = false;

  bool none() const { return mechanism == Mechanism::kSoftmax; }
  friend bool operator==(const LayerMemory&, const LayerMemory&) = default;
};

/// The attention of one layer as command line and configs write it: a pattern, or a mechanism's
/// name with its numbers, those that read both sides with `causal` where they should not,
/// moba(64,4,causal), or both joined, "window(128)+linear" and "gate(window(128)+linear)".
struct LayerAttention {
  Mechanism mechanism = Mechanism::kSoftmax;
  Pattern pattern;
  std::vector<int64_t> numbers = {};  ///< numbers_of(mechanism)
  LayerMemory memory = {};            ///< of what a window, the pattern, leaves out

  std::string to_string() const;
  friend bool operator==(const LayerAttention&, const LayerAttention&) = default;
};

/// Whether no token sees a later one; see is_causal() of patterns.
bool is_causal(const LayerAttention& attention);

/// One line for each distinct name, "window(128,128): a token sees …".
std::vector<std::string> explain(const LayerAttention& attention);

/// What a mechanism other than softmax does for `q_len` queries and `kv_len` keys, in one line.
std::string describe_cost(const LayerAttention& attention, int64_t q_len, int64_t kv_len);

/// An entry of a layer list: an attention and for how many layers in a row.
struct LayerRun {
  LayerAttention attention;
  int64_t layers = 1;
};

/// Parses a comma-separated list with repeats, e.g. "window(64)*2, linear". Throws InputError.
std::vector<LayerRun> parse_layer_period(std::string_view text);

/// The attention of each of `layers` layers: the list is a period that repeats over the depth ("two
/// local, one global"). Throws InputError.
std::vector<LayerAttention> parse_layers(std::string_view text, int64_t layers);

/// Throws InputError, quoting the attention, unless each per_head deals its patterns evenly to
/// `heads` heads.
void check_heads(const std::vector<LayerAttention>& layers, int64_t heads);

}  // namespace fovea
