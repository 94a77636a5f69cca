// Random problems against the oracle on every engine. By default the same few each time;
//
//     FOVEA_RANDOM_SECONDS=600 FOVEA_RANDOM_SEED=7 attention_test --gtest_filter='RandomProblems*'
//
// runs others for ten minutes. A failure names its case, which `fovea bench attention --case`
// takes.

#include <chrono>
#include <cstdlib>
#include <random>
#include <string>

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
    // Key lengths are one for each batch element, or one for each segment: not both in one case.
    while ((first == "segments" || second == "segments") && first != second &&
           (first == "key_lengths" || second == "key_lengths")) {
      second = leaf(square);
    }
    return first + (chance(0.5) ? "+" : ".") + second;
  }

  std::string leaf(bool square) {
    switch (number(0, square ? 12 : 8)) {
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
        return "chunked" + text(number(1, 90));
      case 10:
        return "block_neighbours" + text(number(1, 90));
      case 11:
        return "neighbourhood" + text(number(1, 90));
      default:
        return "random_blocks" + text(number(1, 64)) + "-" + text(number(0, 3)) + "-" +
               text(number(0, 99));
    }
  }

  std::mt19937_64 random_;
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
  int count = 0;
  for (; count < kAtLeast || elapsed() < seconds; ++count) {
    const std::string id = RandomCase(seed * 1000003 + static_cast<uint64_t>(count)).id();
    SCOPED_TRACE("problem " + std::to_string(count) + " of seed " + std::to_string(seed));
    const CaseTensors t(AttentionCase::parse(id), static_cast<uint32_t>(count + 1));
    check_on_every_engine(t);
    if (HasFatalFailure()) break;
  }
  RecordProperty("problems", count);
  if (seconds > 0)
    std::printf("seed %llu: %d problems\n", static_cast<unsigned long long>(seed), count);
}

}  // namespace
}  // namespace fovea::testing
