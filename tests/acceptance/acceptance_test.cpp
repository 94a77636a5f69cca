// What published results say that mechanisms can and cannot learn, on toy languages: assertions
// with margins, from fixed seeds. Each training takes up to half a minute of one core.

#include <cstdio>

#include "tests/acceptance/learning.h"
#include <gtest/gtest.h>

#include "fovea/core/parallel.h"

namespace fovea {
namespace {

// Two programs of one thread are faster side by side than one of two after another.
class Acceptance : public ::testing::Test {
 protected:
  void SetUp() override {
    set_num_threads(1);
    at::set_num_threads(1);
  }
};

// ---- multi-query associative recall (Arora et al. 2023, Zoology) -------------------------------

// Pairs and queries without blanks between them.
Task recall(int pairs) {
  return {64, [=](data::Random& random) {
            return data::recall_sequence({4 * int64_t{pairs}, pairs, 64}, random);
          }};
}

// Accuracies with 4, 8 and 16 pairs of a model trained with 8. Its first layer joins each token
// with the one before it, a key with its value; the second finds the pair of a key. Order is in the
// window alone, so that any length will do.
struct Recalled {
  explicit Recalled(const std::string& second_layer) {
    models::LanguageModel model =
        trained(recall(8), {"window(1,0), " + second_layer, 2, 2, 1000, "none"});
    four = accuracy(model, recall(4));
    eight = accuracy(model, recall(8));
    sixteen = accuracy(model, recall(16));
    std::printf("%s: %.3f of 4 pairs, %.3f of 8, %.3f of 16\n", second_layer.c_str(), four, eight,
                sixteen);
  }
  double four, eight, sixteen;
};

TEST_F(Acceptance, SoftmaxRecallsWhatItHasSeen) {
  const Recalled softmax("causal");
  EXPECT_GE(softmax.four, 0.99);
  EXPECT_GE(softmax.eight, 0.99);
  EXPECT_GE(softmax.sixteen, 0.95);
}

// Two heads of linear attention have 32 x 32 numbers each to add pairs to: what few pairs leave
// apart runs together with many. The delta rule overwrites, and holds more (Yang et al. 2024,
// §5.1).
TEST_F(Acceptance, LinearAttentionForgetsWhatTheDeltaRuleHolds) {
  const Recalled linear("linear(causal)"), delta("deltanet");
  EXPECT_GE(linear.four, linear.sixteen + 0.1);
  EXPECT_GE(delta.sixteen, linear.sixteen + 0.1);
}

// ---- copying and induction ---------------------------------------------------------------------

constexpr int kSymbols = 16, kVocab = 32;

TEST_F(Acceptance, AttentionCopies) {
  const Task copy = {
      kVocab, [](data::Random& random) { return data::copy_sequence(kSymbols, kVocab, random); }};
  EXPECT_GE(accuracy_after_training(copy, {"causal"}), 0.99);
  // Two windows of 4 reach 8 tokens back of the 17 that lie between a symbol and its copy: chance.
  Learner near = {"window(4,0)"};
  near.steps = 200;
  EXPECT_LE(accuracy_after_training(copy, near), 2.0 / (kVocab - 1));
}

// Olsson et al. 2022: heads that find what followed the last time are made of two layers; one layer
// cannot (Sanford et al. 2024).
TEST_F(Acceptance, InductionTakesTwoLayers) {
  const Task induction = {kVocab, [](data::Random& random) {
                            return data::induction_sequence(kSymbols / 2, kVocab, random);
                          }};
  EXPECT_GE(accuracy_after_training(induction, {"window(1,0), causal"}), 0.99);
  EXPECT_LE(accuracy_after_training(induction, {"causal", 1, 1, 300}), 0.6);
}

}  // namespace
}  // namespace fovea
