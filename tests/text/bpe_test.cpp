#include "fovea/text/bpe.h"

#include <algorithm>
#include <map>
#include <random>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "fovea/text/bpe_trainer.h"

namespace fovea {
namespace {

using Ids = std::vector<int32_t>;

// Straight from the definition: scan for the best pair, join it, begin anew.
Ids encode_by_definition(Ids ids, const std::map<std::pair<int, int>, BpeMerge>& merges) {
  for (;;) {
    size_t best = ids.size();
    int32_t best_rank = INT32_MAX;
    for (size_t i = 0; i + 1 < ids.size(); ++i) {
      const auto place = merges.find({ids[i], ids[i + 1]});
      if (place != merges.end() && place->second.rank < best_rank) {
        best_rank = place->second.rank;
        best = i;
      }
    }
    if (best == ids.size()) return ids;
    ids[best] = merges.at({ids[best], ids[best + 1]}).id;
    ids.erase(ids.begin() + static_cast<int64_t>(best) + 1);
  }
}

TEST(BpeModel, ShortAndLongPiecesFollowTheDefinition) {
  nlohmann::json config = {{"type", "BPE"}, {"vocab", {{"a", 0}, {"b", 1}, {"c", 2}}}};
  std::vector<std::string> tokens = {"a", "b", "c"};
  std::map<std::pair<int, int>, BpeMerge> merges;
  std::mt19937 random(5);
  while (merges.size() < 60) {
    const int left = static_cast<int>(random() % tokens.size());
    const int right = static_cast<int>(random() % tokens.size());
    const std::string joined = tokens[left] + tokens[right];
    if (joined.size() > 8 || merges.contains({left, right})) continue;
    const auto known = std::find(tokens.begin(), tokens.end(), joined);
    const auto id = static_cast<int32_t>(known - tokens.begin());
    merges[{left, right}] = {static_cast<int32_t>(merges.size()), id};
    if (known == tokens.end()) tokens.push_back(joined);
    config["vocab"][joined] = id;
    config["merges"].push_back({tokens[left], tokens[right]});
  }
  const BpeModel model(JsonField(config, "test"), false);
  for (int round = 0; round < 2000; ++round) {
    std::string text;
    Ids symbols;
    const size_t length = 1 + random() % (round % 2 == 0 ? 20 : 200);
    for (size_t i = 0; i < length; ++i) {
      symbols.push_back(static_cast<int32_t>(random() % 3));
      text += tokens[symbols.back()];
    }
    Ids ids;
    model.encode(text, ids);
    ASSERT_EQ(ids, encode_by_definition(symbols, merges)) << text;
    Ids again;  // from the cache
    model.encode(text, again);
    ASSERT_EQ(again, ids);
  }
}

TEST(BpeModel, CachesOfTwoModelsDoNotMix) {
  const auto model = [](int a, int b) {
    const nlohmann::json config = {{"vocab", {{"a", a}, {"b", b}}},
                                   {"merges", nlohmann::json::array()}};
    return BpeModel(JsonField(config, "test"), false);
  };
  const BpeModel first = model(0, 1), second = model(1, 0);
  for (int round = 0; round < 2; ++round) {
    Ids ids;
    first.encode("ab", ids);
    second.encode("ab", ids);
    EXPECT_EQ(ids, (Ids{0, 1, 1, 0}));
  }
}

// Counting all pairs anew before every merge, as the paper's algorithm 1 does.
std::vector<std::pair<std::string, std::string>> learn_by_definition(
    std::map<std::vector<std::string>, int64_t> words, size_t merge_count, int64_t min_frequency,
    const std::map<std::string, int>& byte_order) {
  std::vector<std::pair<std::string, std::string>> merges;
  std::map<std::string, int> number = byte_order;
  while (merges.size() < merge_count) {
    std::map<std::pair<std::string, std::string>, int64_t> counts;
    for (const auto& [word, times] : words) {
      for (size_t i = 0; i + 1 < word.size(); ++i) counts[{word[i], word[i + 1]}] += times;
    }
    const std::pair<std::string, std::string>* best = nullptr;
    const auto before = [&](const auto& a, const auto& b) {
      if (counts[a] != counts[b]) return counts[a] > counts[b];
      return std::pair(number[a.first], number[a.second]) <
             std::pair(number[b.first], number[b.second]);
    };
    for (const auto& [pair, count] : counts) {
      if (count >= min_frequency && (best == nullptr || before(pair, *best))) best = &pair;
    }
    if (best == nullptr) break;
    const auto [left, right] = *best;
    // A string made in two ways can bring an old pair back; it is joined, not learned again.
    if (std::find(merges.begin(), merges.end(), std::pair(left, right)) == merges.end()) {
      merges.emplace_back(left, right);
    }
    number.try_emplace(left + right, static_cast<int>(number.size()));
    std::map<std::vector<std::string>, int64_t> joined;
    for (const auto& [word, times] : words) {
      std::vector<std::string> symbols;
      for (size_t i = 0; i < word.size(); ++i) {
        if (i + 1 < word.size() && word[i] == left && word[i + 1] == right) {
          symbols.push_back(left + right);
          ++i;
        } else {
          symbols.push_back(word[i]);
        }
      }
      joined[symbols] += times;
    }
    words = joined;
  }
  return merges;
}

TEST(LearnBpe, FollowsTheDefinition) {
  std::mt19937 random(11);
  for (int round = 0; round < 30; ++round) {
    StringTable words;
    std::vector<int64_t> counts;
    std::map<std::vector<std::string>, int64_t> symbols;
    for (int w = 0; w < 40; ++w) {
      std::string word;
      const size_t length = 1 + random() % 12;
      for (size_t i = 0; i < length; ++i) word += "abc"[random() % 3];
      if (words.find(word) >= 0) continue;
      words.add(word);
      counts.push_back(1 + random() % 9);
      std::vector<std::string> letters;
      for (const char c : word) letters.emplace_back(1, c);
      symbols[letters] = counts.back();
    }
    const LearnedBpe learned = learn_bpe(words, counts, 256 + 25, 2);
    std::map<std::string, int> order;
    for (int i = 0; i < 256; ++i) order[learned.tokens[i]] = i;
    const auto expected = learn_by_definition(symbols, learned.merges.size(), 2, order);
    std::vector<std::pair<std::string, std::string>> merges;
    for (const auto& [left, right] : learned.merges) {
      merges.emplace_back(learned.tokens[left], learned.tokens[right]);
    }
    ASSERT_EQ(merges, expected) << "round " << round;
    ASSERT_GE(merges.size(), 20u);
  }
}

}  // namespace
}  // namespace fovea
