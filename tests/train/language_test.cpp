#include <cmath>
#include <fstream>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "fovea/core/status.h"
#include "fovea/train/language_objective.h"
#include "fovea/train/model_folder.h"

namespace fovea::train {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

models::LanguageModelConfig tiny() {
  models::LanguageModelConfig c;
  c.vocab_size = 257;
  c.layers = 1;
  c.model_dim = 16;
  c.heads = c.kv_heads = 2;
  c.ff_dim = 32;
  c.max_length = 16;
  c.dropout = 0;
  return c;
}

std::string file_with(const std::string& content, const std::string& name = "texts.txt") {
  const std::string path = ::testing::TempDir() + "/language_" + name;
  std::ofstream(path) << content;
  return path;
}

LanguageExamples encode(const std::string& path, const models::LanguageModelConfig& config,
                        const Tokenizer& tokenizer, const DataSection& data = {}) {
  return encode_texts(path, language_reading(path, data, tokenizer.kind()), tokenizer, config, {});
}

LanguageExamples encode(const std::string& path, const models::LanguageModelConfig& config) {
  return encode(path, config, Tokenizer::byte_level({kEndOfText}));
}

models::PackedBatch batch_of(const LanguageExamples& examples, int64_t piece) {
  const std::vector<int64_t> alone = {piece};
  return examples.pieces.pack(alone);
}

std::vector<int64_t> ids(const LanguageExamples& examples, int64_t piece) {
  const at::Tensor tokens = batch_of(examples, piece).tokens;
  const int64_t* begin = tokens.const_data_ptr<int64_t>();
  return {begin, begin + tokens.numel()};
}

TEST(CutPieces, EachTokenIsPredictedOnce) {
  for (int64_t tokens = 0; tokens < 30; ++tokens) {
    for (int64_t first = 1; first < 30; ++first) {
      for (const int64_t max_length : {2, 3, 7, 29, 100}) {
        std::vector<int> predicted(static_cast<size_t>(tokens));
        for (const Piece& piece : cut_pieces(tokens, first, max_length)) {
          EXPECT_LE(piece.end - piece.begin, max_length);
          EXPECT_GE(piece.first, 1);
          for (int64_t t = piece.begin + piece.first; t < piece.end; ++t) {
            ++predicted[static_cast<size_t>(t)];
          }
        }
        for (int64_t t = 0; t < tokens; ++t) {
          EXPECT_EQ(predicted[static_cast<size_t>(t)], t >= first ? 1 : 0);
        }
      }
    }
  }
  EXPECT_THAT(cut_pieces(10, 7, 4), ElementsAre(Piece{6, 10, 1}));
}

TEST(LanguageData, ALineIsATextBetweenEnds) {
  const auto examples = encode(file_with("ab\n\nc\n"), tiny());
  EXPECT_EQ(examples.documents, 2);
  EXPECT_EQ(examples.targets, 5);
  EXPECT_EQ(examples.bytes, 3);
  EXPECT_THAT(ids(examples, 0), ElementsAre(256, 'a', 'b', 256));
  EXPECT_THAT(ids(examples, 1), ElementsAre(256, 'c', 256));
}

TEST(LanguageData, LongTextsAreCutAndNothingIsLost) {
  std::string text(41, 'x');
  text.back() = '\n';
  const auto examples = encode(file_with(text), tiny());
  EXPECT_EQ(examples.cut, 1);
  EXPECT_EQ(examples.targets, 41);
  EXPECT_EQ(examples.unused_tokens, 0);
  EXPECT_THAT(examples.pieces.lengths(), ElementsAre(16, 16, 12));
}

TEST(LanguageData, OnlyCompletionsAreTargets) {
  const std::string path = file_with(
      "{\"prompt\": \"2+2=\", \"completion\": \"4\"}\n"
      "{\"prompt\": \"a prompt of more than sixteen bytes \", \"completion\": \"ok\"}\n",
      "prompts.jsonl");
  const auto examples = encode(path, tiny());
  EXPECT_THAT(ids(examples, 0), ElementsAre(256, '2', '+', '2', '=', '4', 256));
  EXPECT_EQ(examples.pieces.label(0), 5);
  EXPECT_EQ(examples.targets, 2 + 3);
  EXPECT_EQ(examples.bytes, 3);
  EXPECT_EQ(examples.unused_tokens, 30) << "two pieces of the long prompt";
  EXPECT_THAT(ids(examples, 1), ElementsAre(' ', 'b', 'y', 't', 'e', 's', ' ', 'o', 'k', 256));
}

TEST(LanguageData, WithoutAnEndTheFirstTokenIsGiven) {
  const auto examples = encode(file_with("ab\nc\n"), tiny(), Tokenizer::byte_level());
  EXPECT_EQ(examples.targets, 1);
  EXPECT_EQ(examples.bytes, 0) << "not all bytes are predicted";
}

TEST(LanguageData, WholeFilesAndEmptyOnes) {
  DataSection data;
  data.format = "file";
  const Tokenizer tokenizer = Tokenizer::byte_level({kEndOfText});
  EXPECT_EQ(encode(file_with("a\nb\n"), tiny(), tokenizer, data).documents, 1);
  try {
    encode(file_with("\n\n"), tiny());
    FAIL() << "no error";
  } catch (const InputError& error) {
    EXPECT_THAT(error.what(), HasSubstr("found no text"));
  }
}

// Mean loss by hand: logits of the model, softmax in double, over the targets alone.
double loss_by_hand(models::LanguageModel& model, const LanguageExamples& examples,
                    int64_t& correct) {
  double sum = 0;
  correct = 0;
  for (int64_t piece = 0; piece < examples.pieces.size(); ++piece) {
    const models::PackedBatch batch = batch_of(examples, piece);
    const at::Tensor logits = model->forward(batch).to(at::kDouble).contiguous();
    const int64_t* token = batch.tokens.const_data_ptr<int64_t>();
    const int64_t vocab = logits.size(1);
    for (int64_t t = examples.pieces.label(piece); t < batch.tokens.numel(); ++t) {
      const double* row = logits.const_data_ptr<double>() + (t - 1) * vocab;
      double total = 0, highest = row[0];
      for (int64_t v = 0; v < vocab; ++v) {
        total += std::exp(row[v]);
        highest = std::max(highest, row[v]);
      }
      sum += std::log(total) - row[token[t]];
      correct += row[token[t]] == highest;
    }
  }
  return sum;
}

TEST(LanguageObjectiveTest, LossIsThatOfTheTargetsByHand) {
  for (const bool completions : {false, true}) {
    const std::string path =
        completions ? file_with(
                          "{\"prompt\": \"ab\", \"completion\": \"cd\"}\n"
                          "{\"prompt\": \"long enough to be cut\", \"completion\": \"xyz\"}\n",
                          "by_hand.jsonl")
                    : file_with("some text\nanother one that is to be cut\nx\n");
    const auto examples = encode(path, tiny());
    models::LanguageModel model = make_model(tiny(), 1);
    int64_t correct = 0;
    const at::NoGradGuard no_grad;
    const double by_hand = loss_by_hand(model, examples, correct);
    const LanguageEvaluation evaluation = evaluate(model, examples, 20, false);
    // A loss in float32 from logits of size 1.
    const double tolerance = static_cast<double>(examples.targets) * 8 * 6e-8 * std::log(257.0);
    EXPECT_NEAR(evaluation.loss_sum, by_hand, tolerance);
    EXPECT_EQ(evaluation.correct, correct);
    LanguageObjective objective(model, examples, examples, false, 0);
    std::vector<int64_t> all;
    int64_t targets = 0;
    for (int64_t i = 0; i < examples.pieces.size(); ++i) {
      all.push_back(i);
      targets += objective.targets(i);
    }
    EXPECT_EQ(targets, examples.targets);
    EXPECT_NEAR(objective.loss(all).item<double>(), by_hand, tolerance);
    const io::Json metrics = objective.evaluate(1000);
    EXPECT_DOUBLE_EQ(metrics["perplexity"].get<double>(), std::exp(metrics["loss"].get<double>()));
    EXPECT_NEAR(metrics["bits_per_byte"].get<double>(),
                by_hand / std::log(2.0) / static_cast<double>(examples.bytes), 1e-5);
  }
}

// A vocabulary so large that the logits of a pass are made in several runs.
TEST(LanguageObjectiveTest, RunsOfLogitsAddUpToTheWhole) {
  auto config = tiny();
  config.vocab_size = 1 << 21;  // 8 rows a run
  config.model_dim = 8;
  config.heads = config.kv_heads = 1;
  const auto examples = encode(file_with("twelve bytes\n"), config);
  models::LanguageModel model = make_model(config, 1);
  LanguageObjective objective(model, examples, examples, false, 0);
  const at::Tensor loss = objective.loss(std::vector<int64_t>{0});
  loss.backward();
  const at::Tensor in_runs = model->output_weight().grad().clone();
  model->zero_grad();
  const models::PackedBatch batch = batch_of(examples, 0);
  const at::Tensor log_p = model->forward(batch).slice(0, 0, 13).log_softmax(-1);
  const at::Tensor whole = log_p.gather(1, batch.tokens.slice(0, 1).unsqueeze(1)).sum().neg();
  whole.backward();
  EXPECT_NEAR(loss.item<double>(), whole.item<double>(), 13 * 16 * 6e-8 * std::log(2e6));
  const at::Tensor expected = model->output_weight().grad();
  EXPECT_LE((in_runs - expected).abs().max().item<double>(),
            64 * 6e-8 * expected.abs().max().item<double>());
}

}  // namespace
}  // namespace fovea::train
