// Random problems against the oracle on every engine. By default the same few each time;
//
//     FOVEA_RANDOM_SECONDS=600 FOVEA_RANDOM_SEED=7 attention_test --gtest_filter='RandomProblems*'
//
// runs others for ten minutes. A failure names its case, which `fovea bench attention --case`
// takes.

#include <cctype>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <random>
#include <set>
#include <string>
#include <utility>

#include "tests/support/oracle_check.h"

namespace fovea::testing {
namespace {

class RandomCase {
 public:
  explicit RandomCase(uint64_t seed) : random_(seed) {}

  std::string id() {
    const int64_t kv_heads = number(1, 3), heads = kv_heads * number(1, 3);
    const int64_t q_len = length(), kv_len = chance(0.6) ? q_len : length();
    const std::string pattern = pattern_of(q_len == kv_len);
    std::string id = "b" + text(number(1, 3)) + "_h" + text(heads) + "_kv" + text(kv_heads) + "_q" +
                     text(q_len) + "_k" + text(kv_len) + "_d" + text(8 * number(1, 12)) + "_v" +
                     text(8 * number(1, 12)) + "_" + one_of({"f32", "bf16", "bf16", "f16", "f64"}) +
                     "_" + pattern + (chance(0.7) ? "_bwd" : "_fwd");
    if (chance(0.2)) id += "_drop" + text(number(1, 90));
    if (chance(0.1)) id += "_topleft";
    if (chance(0.3)) id += "_bshd";
    const bool additive = chance(0.15);
    if (!additive && chance(0.15)) id += "_cosine";
    if (!additive && chance(0.15)) id += "_scales";
    if (additive) id += "_additive";
    if (chance(0.15)) id += "_leaky" + text(number(0, 99));
    if (chance(0.15)) id += "_softcap" + text(number(1, 30));
    if (chance(0.15)) id += "_alibi";
    if (chance(0.15)) id += "_sinks";
    if (chance(0.15)) id += "_dist" + text(number(0, 80));
    if (chance(0.2)) id += "_bias" + one_of({"", "b", "h", "q", "hq", "bq", "bhq"});
    if (chance(0.4)) id += one_of({"_high", "_medium"});
    return id;
  }

 private:
  int64_t number(int64_t low, int64_t high) {
    return std::uniform_int_distribution<int64_t>(low, high)(random_);
  }
  bool chance(double p) { return std::bernoulli_distribution(p)(random_); }
  std::string one_of(const std::vector<std::string>& choices) {
    return choices[static_cast<size_t>(number(0, static_cast<int64_t>(choices.size()) - 1))];
  }
  static std::string text(int64_t n) { return std::to_string(n); }

  /// Mostly around the edges of tiles.
  int64_t length() { return chance(0.5) ? number(1, 200) : 64 * number(1, 3) + number(-2, 2); }

  std::string pattern_of(bool square) {
    const std::string first = leaf(square);
    if (chance(0.6)) return first;
    std::string second = leaf(square);
    // The case makes what comes as a tensor for rows without segments, and one mask of blocks.
    while (comes_as_tensor(first) && comes_as_tensor(second)) second = leaf(square);
    return first + (chance(0.5) ? "+" : ".") + second;
  }

  static bool comes_as_tensor(const std::string& leaf) {
    for (const char* name : {"segments", "key_lengths", "intervals", "block_mask"}) {
      if (leaf.starts_with(name)) return true;
    }
    return false;
  }

  std::string leaf(bool square) {
    switch (number(0, square ? 15 : 11)) {
      case 0:
        return "full";
      case 1:
        return "causal";
      case 2:
        return "window" + text(number(0, 100));
      case 3:
        return "window" + text(number(0, 90)) + "-" + text(number(0, 90));
      case 4:
        return "causal" + text(number(1, 150));
      case 5:
        return "global" + text(number(1, 70));
      case 6:
        return "dilated" + text(number(0, 20)) + "-" + text(number(0, 20)) + "-" +
               text(number(1, 5));
      case 7:
        return "key_lengths";
      case 8:
        return "segments";
      case 9:
        return "intervals";
      case 10:
        return "block_mask" + text(number(1, 90));
      case 11:
        return "global_tokens" + text(number(0, 20)) + "-" + text(number(21, 200));
      case 12:
        return "chunked" + text(number(1, 90));
      case 13:
        return "block_neighbours" + text(number(1, 90));
      case 14:
        return "neighbourhood" + text(number(1, 90));
      default:
        return "random_blocks" + text(number(1, 64)) + "-" + text(number(0, 3)) + "-" +
               text(number(0, 99));
    }
  }

  std::mt19937_64 random_;
};

/// How many problems had each pattern (rows) with each feature (columns), and on how many engines.
class Coverage {
 public:
  void add(const AttentionCase& c) {
    for (const Isa isa : runnable_isas()) runs_ += has_own_engine(isa, c.dtype, c.precision);
    const std::string id = c.to_string();
    std::set<std::string> features = {name_of(c.dtype)};
    if (c.kv_heads < c.heads) features.insert("gqa");
    if (c.value_dim != c.head_dim) features.insert("unequal");
    for (const char* word : {"bwd", "drop", "topleft", "bshd", "high", "medium", "cosine", "scales",
                             "softcap", "alibi", "sinks", "dist", "bias"}) {
      if (id.find(std::string("_") + word) != std::string::npos) features.insert(word);
    }
    std::set<std::string> patterns;
    std::string word;
    for (const char x : c.pattern + ' ') {
      if (std::islower(static_cast<unsigned char>(x)) || x == '_') {
        word += x;
      } else if (!word.empty()) {
        patterns.insert(std::exchange(word, ""));
      }
    }
    for (const std::string& pattern : patterns) {
      for (const std::string& feature : features) {
        ++counts_[pattern][feature];
        features_.insert(feature);
      }
    }
  }

  void print() const {
    std::printf(
        "%d runs, a problem on an engine each; problems with a pattern and a feature:\n%-17s",
        runs_, "");
    for (const std::string& feature : features_) std::printf("%9s", feature.c_str());
    for (const auto& [pattern, row] : counts_) {
      std::printf("\n%-17s", pattern.c_str());
      for (const std::string& feature : features_) {
        const auto found = row.find(feature);
        std::printf("%9d", found == row.end() ? 0 : found->second);
      }
    }
    std::printf("\n");
  }

 private:
  int runs_ = 0;
  std::map<std::string, std::map<std::string, int>> counts_;
  std::set<std::string> features_;
};

double setting(const char* name, double fallback) {
  const char* value = std::getenv(name);
  return value ? std::atof(value) : fallback;
}

TEST(RandomProblems, MatchOracle) {
  const double seconds = setting("FOVEA_RANDOM_SECONDS", 0);
  const auto seed = static_cast<uint64_t>(setting("FOVEA_RANDOM_SEED", 1));
  constexpr int kAtLeast = 25;
  const auto start = std::chrono::steady_clock::now();
  const auto elapsed = [&] {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  };
  Coverage coverage;
  int count = 0;
  for (; count < kAtLeast || elapsed() < seconds; ++count) {
    const std::string id = RandomCase(seed * 1000003 + static_cast<uint64_t>(count)).id();
    SCOPED_TRACE("problem " + std::to_string(count) + " of seed " + std::to_string(seed));
    const AttentionCase c = AttentionCase::parse(id);
    const CaseTensors t(c, static_cast<uint32_t>(count + 1));
    coverage.add(c);
    check_on_every_engine(t);
    if (HasFatalFailure()) break;
  }
  RecordProperty("problems", count);
  if (seconds == 0) return;
  std::printf("seed %llu: %d problems\n", static_cast<unsigned long long>(seed), count);
  coverage.print();
}

}  // namespace
}  // namespace fovea::testing
