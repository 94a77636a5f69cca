#include "fovea/pattern/layer_attention.h"

#include <algorithm>
#include <iterator>

#include "fovea/core/status.h"
#include "fovea/pattern/causality.h"
#include "fovea/pattern/pattern_node.h"

namespace fovea {
namespace {

constexpr MechanismNumber kMobaNumbers[] = {{"block", 64, 1}, {"blocks", 4, 1}};
constexpr MechanismNumber kHMatrixNumbers[] = {{"block", 64, 2, 2}};
constexpr MechanismNumber kNsaNumbers[] = {{"block", 64, 1}, {"blocks", 4, 1}, {"window", 128, 1}};
constexpr MechanismNumber kSegmentNumbers[] = {{"size", 128, 1}};

struct Description {
  Mechanism mechanism;
  const char* name;
  const char* text;
  std::span<const MechanismNumber> numbers = {};
};

constexpr Description kDescriptions[] = {
    {Mechanism::kSoftmax, "softmax", ""},
    {Mechanism::kLinear, "linear",
     "keys and values are summed up in a state of fixed size that every query reads; the cost "
     "grows "
     "with the length, not with the pairs"},
    {Mechanism::kPerformer, "performer",
     "softmax's weights from random features, summed up in a state of fixed size"},
    {Mechanism::kBased, "based",
     "softmax's weights to second order in 16 numbers, summed up in a state of fixed size"},
    {Mechanism::kHedgehog, "hedgehog", "learned features, summed up in a state of fixed size"},
    {Mechanism::kRetNet, "retnet", "a state that fades at a fixed rate for each head; causal"},
    {Mechanism::kGla, "gla", "a state each of whose channels fades as the token says; causal"},
    {Mechanism::kMamba2, "mamba2",
     "a state that fades and grows as the token says, after a short convolution; causal"},
    {Mechanism::kDeltaNet, "deltanet",
     "a state in which a key's value is replaced, after a short convolution; causal"},
    {Mechanism::kGatedDeltaNet, "gated_deltanet",
     "a state that fades as the token says and in which a key's value is replaced, after a short "
     "convolution; causal"},
    {Mechanism::kMoba, "moba",
     "each token and head sees its own block and those of the other blocks whose mean keys are "
     "nearest to its query, `blocks` in all",
     kMobaNumbers},
    {Mechanism::kHMatrix, "hmatrix",
     "all tokens: those of the own and the adjacent blocks one by one, farther ones in pools of 2, "
     "4, 8, … tokens",
     kHMatrixNumbers},
    {Mechanism::kNsa, "nsa",
     "each token and head sees the means of all blocks, the tokens of its own block, of those next "
     "to it, of the first and of those with the highest weights among the means, `blocks` in all, "
     "and a window; learned gates weigh the three",
     kNsaNumbers},
    {Mechanism::kSegmentEncoder, "segment_encoder",
     "each token sees its own segment of `size` tokens; the segments' means see each other, and "
     "what they get is added to their tokens with a learned gate",
     kSegmentNumbers},
};

const Description& description_of(Mechanism mechanism) {
  return *std::find_if(std::begin(kDescriptions), std::end(kDescriptions),
                       [&](const Description& d) { return d.mechanism == mechanism; });
}

}  // namespace

const char* name_of(Mechanism mechanism) { return description_of(mechanism).name; }

bool find_mechanism(std::string_view name, Mechanism* mechanism) {
  for (const Description& d : kDescriptions) {
    if (d.mechanism == Mechanism::kSoftmax || name != d.name) continue;
    *mechanism = d.mechanism;
    return true;
  }
  return false;
}

std::span<const MechanismNumber> numbers_of(Mechanism mechanism) {
  return description_of(mechanism).numbers;
}

std::string usage_of(Mechanism mechanism) {
  std::string usage = name_of(mechanism), separator = "(";
  for (const MechanismNumber& n : numbers_of(mechanism)) {
    usage += separator + n.name;
    separator = ",";
  }
  return separator == "(" ? usage : usage + ")";
}

std::string complete_numbers(Mechanism mechanism, std::vector<int64_t>* numbers) {
  const std::span<const MechanismNumber> wanted = numbers_of(mechanism);
  if (numbers->empty()) {
    for (const MechanismNumber& n : wanted) numbers->push_back(n.preset);
  }
  if (numbers->size() != wanted.size()) {
    return usage_of(mechanism) + ", got " + std::to_string(numbers->size()) +
           (numbers->size() == 1 ? " number" : " numbers");
  }
  for (size_t i = 0; i < wanted.size(); ++i) {
    const MechanismNumber& n = wanted[i];
    const int64_t number = (*numbers)[i];
    if (number >= n.least && number % n.multiple == 0) continue;
    return usage_of(mechanism) + " with " + n.name + " at least " + std::to_string(n.least) +
           (n.multiple > 1 ? " and a multiple of " + std::to_string(n.multiple) : "") + ", got " +
           std::to_string(number);
  }
  return "";
}

std::string LayerAttention::to_string() const {
  if (!memory.none()) {
    const std::string joined =
        pattern.to_string() + "+" + name_of(memory.mechanism) + (memory.causal ? "(causal)" : "");
    return memory.gated ? "gate(" + joined + ")" : joined;
  }
  if (mechanism == Mechanism::kSoftmax) return pattern.to_string();
  std::string inside;
  for (const int64_t number : numbers) inside += "," + std::to_string(number);
  if (reads_both_sides(mechanism) && pattern != Pattern()) inside += "," + pattern.to_string();
  const std::string name = name_of(mechanism);
  return inside.empty() ? name : name + "(" + inside.substr(1) + ")";
}

bool is_causal(const LayerAttention& attention) {
  return is_causal(attention.pattern) && (attention.memory.none() || attention.memory.causal);
}

std::vector<std::string> explain(const LayerAttention& attention) {
  std::vector<std::string> lines = explain(attention.pattern);
  if (const LayerMemory& memory = attention.memory; !memory.none()) {
    lines.push_back(attention.to_string() + ": of the tokens " +
                    (memory.causal ? "before" : "outside") +
                    " the window a memory of fixed size, weighed as " + name_of(memory.mechanism) +
                    " attention does; " +
                    (memory.gated ? "a learned gate for each head mixes the two"
                                  : "one denominator for both, with a learned factor for each "
                                    "head's memory"));
  }
  if (attention.mechanism != Mechanism::kSoftmax) {
    lines.push_back(attention.to_string() + ": " + description_of(attention.mechanism).text);
  }
  return lines;
}

std::string describe_cost(const LayerAttention& attention, int64_t q_len, int64_t kv_len) {
  const auto text = [](int64_t n) { return std::to_string(n); };
  const std::vector<int64_t>& n = attention.numbers;
  if (attention.mechanism == Mechanism::kMoba) {
    return "blocks: up to " + text(std::min(n[0] * n[1], kv_len)) + " keys a query and head, of " +
           text((kv_len + n[0] - 1) / n[0]) + " blocks, each scored by its mean key";
  }
  if (attention.mechanism == Mechanism::kHMatrix) {
    int64_t levels = 1;
    for (int64_t reach = 2 * n[0]; reach < kv_len; reach *= 2) ++levels;
    const bool causal = attention.pattern != Pattern();
    const int64_t keys = causal ? n[0] * 3 / 2 + n[0] * 3 / 4 * (levels - 1) : n[0] * 9 / 2;
    return "blocks: " + text(levels) + " levels, about " + text(std::min(keys, kv_len)) +
           " keys or pools a query and head";
  }
  const int64_t blocks = n.empty() ? 0 : (kv_len + n[0] - 1) / n[0];
  if (attention.mechanism == Mechanism::kNsa) {
    return "blocks: up to " + text(blocks) + " means, " + text(std::min(n[0] * n[1], kv_len)) +
           " keys of chosen blocks and " + text(std::min(n[2], kv_len)) +
           " of a window a query and head";
  }
  if (attention.mechanism == Mechanism::kSegmentEncoder) {
    return "blocks: up to " + text(std::min(n[0], kv_len)) + " keys a query and head, and " +
           text(blocks) + " means a segment";
  }
  return "linear: " + text(kv_len) + " keys into, " + text(q_len) +
         " queries from a state of fixed size a head";
}

std::vector<LayerRun> parse_layer_period(std::string_view text) {
  std::vector<LayerRun> period;
  for (const LayerEntry& entry : parse_layer_text(text)) {
    period.push_back(
        {{entry.mechanism, Pattern(entry.node), entry.numbers, entry.memory}, entry.repeats});
  }
  return period;
}

std::vector<LayerAttention> parse_layers(std::string_view text, int64_t layers) {
  const std::vector<LayerRun> period = parse_layer_period(text);
  if (layers < 0) throw InputError("expected at least 0 layers, got " + std::to_string(layers));
  std::vector<LayerAttention> result;
  while (std::ssize(result) < layers) {
    for (const LayerRun& run : period) {
      const int64_t left = layers - std::ssize(result);
      result.insert(result.end(), std::min(run.layers, left), run.attention);
    }
  }
  return result;
}

void check_heads(const std::vector<LayerAttention>& layers, int64_t heads) {
  for (const LayerAttention& layer : layers) {
    const int64_t period = layer.pattern.head_period();
    if (heads % period == 0) continue;
    throw InputError("expected heads that are a multiple of the " + std::to_string(period) +
                     " patterns of per_head, found " + std::to_string(heads) + " heads in \"" +
                     layer.to_string() + "\"; repeat or leave out patterns, or change heads");
  }
}

}  // namespace fovea
