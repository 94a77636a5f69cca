#include <algorithm>
#include <cmath>
#include <filesystem>
#include <iterator>
#include <map>
#include <set>
#include <sstream>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "fovea/core/status.h"
#include "fovea/data/example.h"
#include "fovea/data/listops.h"
#include "fovea/data/naive_bayes.h"
#include "fovea/data/recall.h"
#include "fovea/data/sequences.h"

namespace fovea::data {
namespace {

// An evaluator of another kind than the generator: tokens, a stack of argument lists.
int evaluate(const std::string& text) {
  std::vector<std::pair<std::string, std::vector<int>>> stack = {{"", {}}};
  std::istringstream in(text);
  for (std::string token; in >> token;) {
    if (token[0] == '[') {
      stack.push_back({token.substr(1), {}});
    } else if (token == "]") {
      auto [name, args] = stack.back();
      stack.pop_back();
      std::sort(args.begin(), args.end());
      int value = 0;
      if (name == "MIN") value = args.front();
      if (name == "MAX") value = args.back();
      if (name == "MED") value = (args[(args.size() - 1) / 2] + args[args.size() / 2]) / 2;
      if (name == "SM") {
        for (const int arg : args) value = (value + arg) % 10;
      }
      stack.back().second.push_back(value);
    } else {
      stack.back().second.push_back(std::stoi(token));
    }
  }
  EXPECT_EQ(stack.size(), 1u);
  EXPECT_EQ(stack[0].second.size(), 1u);
  return stack[0].second.at(0);
}

TEST(ListOps, EvaluatorKnowsTheRules) {
  EXPECT_EQ(evaluate("[MED 1 2 ]"), 1);
  EXPECT_EQ(evaluate("[MED 9 0 4 ]"), 4);
  EXPECT_EQ(evaluate("[SM 9 [MAX 3 4 ] 8 ]"), 1);
  EXPECT_EQ(evaluate("[MIN 5 [MED 1 8 3 6 ] 7 ]"), 4);
}

// Facts of 20,000 accepted trees of the Long Range Arena's rules: median length 951, mean 1,035,
// class shares in per cent. Bounds are five standard errors of a sample of 4,000.
TEST(ListOps, HasTheDistributionOfTheLongRangeArena) {
  constexpr int kCount = 4000;
  constexpr double kShares[10] = {17.0, 8.7, 8.0, 8.3, 8.9, 8.8, 7.6, 7.2, 8.6, 17.1};
  ListOpsGenerator generator({.seed = 3});
  std::vector<int64_t> lengths;
  std::map<std::string, int> roots;
  int classes[10] = {};
  double sum = 0;
  std::set<std::string> texts;
  for (int i = 0; i < kCount; ++i) {
    const ListOps item = generator.next();
    ASSERT_EQ(item.tokens, 1 + std::count(item.text.begin(), item.text.end(), ' '));
    ASSERT_GT(item.tokens, 500);
    ASSERT_LT(item.tokens, 2000);
    ASSERT_EQ(item.value, evaluate(item.text));
    EXPECT_TRUE(texts.insert(item.text).second);
    lengths.push_back(item.tokens);
    sum += static_cast<double>(item.tokens);
    ++classes[item.value];
    ++roots[item.text.substr(0, item.text.find(' '))];
  }
  std::nth_element(lengths.begin(), lengths.begin() + kCount / 2, lengths.end());
  // Standard deviation of the lengths about 390; of a median 1.25 times a mean's error, and the
  // facts are rounded samples themselves.
  EXPECT_NEAR(sum / kCount, 1035, 5 * 390 / std::sqrt(4000.0) + 5 * 390 / std::sqrt(20000.0));
  EXPECT_NEAR(static_cast<double>(lengths[kCount / 2]), 951,
              1.25 * (5 * 390 / std::sqrt(4000.0) + 5 * 390 / std::sqrt(20000.0)));
  for (int c = 0; c < 10; ++c) {
    const double p = kShares[c] / 100;
    const double error = std::sqrt(p * (1 - p)) * (1 / std::sqrt(4000.0) + 1 / std::sqrt(20000.0));
    EXPECT_NEAR(static_cast<double>(classes[c]) / kCount, p, 5 * error) << c;
  }
  ASSERT_EQ(roots.size(), 4u);
  for (const auto& [root, count] : roots) EXPECT_NEAR(count, kCount / 4, 5 * 27.4) << root;
}

TEST(ListOps, KeepsTheLimits) {
  ListOpsGenerator generator({.min_length = 16, .max_length = 128, .max_depth = 3, .max_args = 5});
  for (int i = 0; i < 500; ++i) {
    const ListOps item = generator.next();
    EXPECT_GT(item.tokens, 16);
    EXPECT_LT(item.tokens, 128);
    int depth = 0, deepest = 0;
    for (const char c : item.text) {
      depth += (c == '[') - (c == ']');
      deepest = std::max(deepest, depth);
    }
    EXPECT_LE(deepest, 2);
  }
  EXPECT_THROW(ListOpsGenerator({.min_length = 10, .max_length = 11}), InputError);
  EXPECT_THROW(ListOpsGenerator({.max_args = 1}), InputError);
  ListOpsGenerator digits({.min_length = 0, .max_length = 2, .max_depth = 1});
  for (int i = 0; i < 10; ++i) digits.next();
  EXPECT_THROW(digits.next(), InputError);
}

// Samples of another implementation, where the shared data lie beside the checkout.
TEST(ListOps, AgreesWithTheSamples) {
  const std::string folder = std::string(FOVEA_SOURCE_DIR) + "/../shared/data/listops/";
  if (!std::filesystem::exists(folder)) GTEST_SKIP() << "no " << folder << ": samples not compared";
  for (const char* name : {"sample_lra", "sample_mid", "sample_short"}) {
    for (const Example& example : read_examples(folder + name + ".tsv.gz")) {
      EXPECT_EQ(std::to_string(evaluate(example.text)), example.label);
    }
  }
}

class RecallAtEnd : public testing::TestWithParam<bool> {};

TEST_P(RecallAtEnd, TheQueryDecidesAndNothingElse) {
  const size_t query = GetParam() ? 299 : 0;
  RecallGenerator generator(
      {.length = 300, .min_distance = 100, .pairs = 8, .classes = 4, .query_last = GetParam()});
  std::map<std::string, int> labels;
  std::set<size_t> places;
  constexpr int kCount = 4000;
  for (int n = 0; n < kCount; ++n) {
    const Recall item = generator.next();
    std::istringstream in(item.text);
    const std::vector<std::string> words{std::istream_iterator<std::string>(in), {}};
    ASSERT_EQ(words.size(), 300u);
    ASSERT_EQ(words[query].size(), 2u);
    ASSERT_EQ(words[query][0], '?');
    std::map<char, char> pairs;
    std::map<char, int> values;
    for (size_t i = 0; i < words.size(); ++i) {
      if (words[i] == "." || i == query) continue;
      ASSERT_GE(i, 100u);
      ASSERT_LE(i, 299u - 100u);
      ASSERT_EQ(words[i].size(), 2u);
      ASSERT_TRUE(pairs.emplace(words[i][0], words[i][1]).second);
      ++values[words[i][1]];
      places.insert(i);
    }
    ASSERT_EQ(pairs.size(), 8u);
    ASSERT_EQ(values.size(), 4u);
    for (const auto& [value, count] : values) EXPECT_EQ(count, 2);
    ASSERT_EQ(item.label, std::string(1, pairs.at(words[query][1])));
    ++labels[item.label];
  }
  for (const auto& [label, count] : labels) EXPECT_NEAR(count, kCount / 4, 5 * 27.4) << label;
  EXPECT_EQ(places.size(), 100u);  // 100 to 199: every place is used
}

INSTANTIATE_TEST_SUITE_P(Recall, RecallAtEnd, testing::Bool());

TEST(Recall, RefusesWhatDoesNotFit) {
  EXPECT_THROW(RecallGenerator({.length = 203, .min_distance = 100, .pairs = 4}), InputError);
  RecallGenerator({.length = 204, .min_distance = 100, .pairs = 4}).next();
  EXPECT_THROW(RecallGenerator({.pairs = 27}), InputError);
  EXPECT_THROW(RecallGenerator({.classes = 1}), InputError);
}

// By hand: classes a = {"x y"}, b = {"x z", "z"}; features x, y, z (binarised), add-one.
// P(a) = 1/3, P(x|a) = 2/5, P(y|a) = 2/5, P(z|a) = 1/5; P(b) = 2/3, P(x|b) = P(z|b)-ish:
// counts x 1, y 0, z 2 of 3, so 2/6, 1/6, 3/6. "y": a 2/15 > b 1/9. "x": a 2/15 < b 2/9.
TEST(NaiveBayes, ComputesByHand) {
  NaiveBayes model({.ngrams = 1});
  model.add("X y, x", "a");
  model.add("x z z z", "b");
  model.add("z", "b");
  model.finish();
  EXPECT_EQ(model.predict("y"), "a");
  EXPECT_EQ(model.predict("x"), "b");
  EXPECT_EQ(model.predict("y x"), "a");  // 1/3 * 4/25 > 2/3 * 2/36
  EXPECT_EQ(model.predict("y z"), "b");  // 1/3 * 2/25 < 2/3 * 3/36
  EXPECT_EQ(model.predict("unseen words"), "b");
}

TEST(NaiveBayes, NeedsBigramsForOrder) {
  for (const int ngrams : {1, 2}) {
    NaiveBayes model({.ngrams = ngrams});
    model.add("not good but bad", "-");
    model.add("not bad but good", "+");
    model.finish();
    EXPECT_EQ(model.predict("not good") + model.predict("not bad"), ngrams == 1 ? "++" : "-+");
  }
}

TEST(Score, ComputesByHand) {
  const Scores scores = score({"a", "a", "a", "b"}, {"a", "a", "b", "c"});
  EXPECT_DOUBLE_EQ(scores.accuracy, 0.5);
  EXPECT_DOUBLE_EQ(scores.macro_f1, 0.8 / 3);  // a: 4/5, b and c: 0
}

TEST(Sequences, EveryPairIsAskedOnceAndAnsweredByItsValue) {
  Random random(3);
  for (int n = 0; n < 50; ++n) {
    const MarkedSequence s = recall_sequence({40, 5, 32}, random);
    ASSERT_EQ(s.tokens.size(), 40u);
    std::map<int32_t, int32_t> pairs;
    for (size_t i = 0; i < 10; i += 2) {
      EXPECT_GE(s.tokens[i], 1);
      EXPECT_LT(s.tokens[i], 16);
      EXPECT_GE(s.tokens[i + 1], 16);
      EXPECT_LT(s.tokens[i + 1], 32);
      pairs[s.tokens[i]] = s.tokens[i + 1];
    }
    ASSERT_EQ(pairs.size(), 5u) << "keys differ";
    std::set<int32_t> asked;
    for (size_t i = 0; i < 40; ++i) {
      if (i >= 10 && !s.marked[i]) {
        EXPECT_TRUE(s.tokens[i] == kBlank || s.marked[i + 1]) << i;
      }
      if (!s.marked[i]) continue;
      asked.insert(s.tokens[i - 1]);
      EXPECT_EQ(s.tokens[i], pairs.at(s.tokens[i - 1]));
    }
    EXPECT_EQ(asked.size(), 5u);
  }
  EXPECT_THROW(recall_sequence({40, 11, 32}, random), InputError) << "no room";
  EXPECT_THROW(recall_sequence({40, 5, 10}, random), InputError) << "too few keys";
}

TEST(Sequences, CopiesAndCircles) {
  Random random(4);
  const MarkedSequence copy = copy_sequence(7, 12, random);
  ASSERT_EQ(copy.tokens.size(), 15u);
  EXPECT_EQ(copy.tokens[7], kBlank);
  for (size_t i = 0; i < 7; ++i) {
    EXPECT_EQ(copy.tokens[8 + i], copy.tokens[i]);
    EXPECT_TRUE(copy.marked[8 + i] && !copy.marked[i]);
  }
  for (int n = 0; n < 20; ++n) {
    const MarkedSequence circle = induction_sequence(9, 12, random);
    ASSERT_EQ(circle.tokens.size(), 18u);
    EXPECT_EQ(std::set<int32_t>(circle.tokens.begin(), circle.tokens.begin() + 9).size(), 9u);
    for (size_t i = 0; i < 18; ++i) {
      EXPECT_EQ(circle.marked[i], i > 9 && circle.tokens[i] != circle.tokens[0]);
      if (!circle.marked[i]) continue;
      // What stands where the token before was seen the last time is the answer.
      const auto before =
          std::find(circle.tokens.begin(), circle.tokens.begin() + 9, circle.tokens[i - 1]);
      const size_t at = static_cast<size_t>(before - circle.tokens.begin());
      EXPECT_EQ(circle.tokens[i], circle.tokens[at + 1]);
    }
  }
  EXPECT_THROW(induction_sequence(12, 12, random), InputError);
}

}  // namespace
}  // namespace fovea::data
