#include "fovea/train/trainer.h"

#include <csignal>
#include <filesystem>
#include <fstream>
#include <limits>

#include <ATen/Parallel.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "fovea/core/parallel.h"
#include "fovea/core/status.h"
#include "fovea/data/random.h"
#include "fovea/io/atomic_file.h"
#include "fovea/io/file.h"
#include "fovea/train/classifier_objective.h"
#include "fovea/train/evaluate.h"
#include "fovea/train/interrupt.h"
#include "fovea/train/model_folder.h"

namespace fovea::train {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

models::TextClassifierConfig tiny_model() {
  models::TextClassifierConfig c;
  c.vocab_size = 20;
  c.labels = {"a", "b", "c"};
  c.layers = 1;
  c.model_dim = 16;
  c.heads = c.kv_heads = 2;
  c.ff_dim = 32;
  c.max_length = 64;
  c.attention = "window(4)|global(1)";
  return c;
}

// The label is which of the tokens 1, 2, 3 occurs; all others are noise.
Examples toy(int n, uint64_t seed) {
  data::Random random(seed);
  Examples examples(20);
  for (int i = 0; i < n; ++i) {
    const int64_t label = random.below(3);
    std::vector<int32_t> ids(5 + random.below(20));
    for (int32_t& id : ids) id = static_cast<int32_t>(4 + random.below(16));
    ids[random.below(static_cast<uint32_t>(ids.size()))] = static_cast<int32_t>(1 + label);
    examples.add(ids, label, 0);
  }
  return examples;
}

TrainSection tiny_run() {
  TrainSection c;
  c.lr = 0.01;
  c.epochs = 3;
  c.batch_tokens = 200;
  c.micro_tokens = 80;
  c.eval_every = 7;
  c.save_every = 5;
  c.log_every = 2;
  return c;
}

// A trainer of a classifier, with the objective that it borrows.
class ClassifierTrainer : private ClassifierObjective, public Trainer {
 public:
  ClassifierTrainer(const TrainSection& c, models::TextClassifier model, const Examples& train,
                    const Examples& valid, const std::string& out, const io::Json& provenance)
      : ClassifierObjective(std::move(model), train, valid, false, c.label_smoothing),
        Trainer(c, static_cast<ClassifierObjective&>(*this), out, provenance) {}
};

class TrainerTest : public ::testing::Test {
 protected:
  void SetUp() override {
    // These models are too small to gain from threads, and lose much where others use the machine.
    set_num_threads(1);
    at::set_num_threads(1);
    catch_interrupts();
    root_ =
        fs::path(::testing::TempDir()) /
        ("trainer_" + std::string(::testing::UnitTest::GetInstance()->current_test_info()->name()));
    fs::remove_all(root_);
  }
  void TearDown() override { fs::remove_all(root_); }

  std::string folder(const std::string& name) {
    const fs::path path = root_ / name;
    fs::create_directories(path);
    return path.string();
  }

  // What the log says about each step, without speeds.
  static std::vector<std::string> course(const std::string& out) {
    std::vector<std::string> lines;
    std::ifstream in(out + "/log.jsonl");
    for (std::string line; std::getline(in, line);) {
      io::Json json = io::Json::parse(line);
      json.erase("tokens_per_second");
      json.erase("seconds");
      lines.push_back(json.dump());
    }
    return lines;
  }

  static std::string weights(const std::string& out) {
    return io::read_file(out + "/model.safetensors");
  }

  Examples train_ = toy(150, 1), valid_ = toy(60, 2);
  fs::path root_;
};

TEST_F(TrainerTest, LearnsAToy) {
  TrainSection c = tiny_run();
  c.epochs = 40;
  c.eval_every = 0;
  models::TextClassifier model = make_model(tiny_model(), 1);
  ClassifierTrainer trainer(c, model, train_, valid_, folder("out"), {});
  EXPECT_EQ(trainer.run(), Outcome::kFinished);
  EXPECT_GT(evaluate(model, valid_, 200, false).confusion.accuracy(), 0.95);
  EXPECT_GT(trainer.state().best["accuracy"].get<double>(), 0.95);
}

// Gradients of one batch computed at once and in passes of few tokens, dropout off.
TEST_F(TrainerTest, AccumulationEqualsOneBigBatch) {
  models::TextClassifierConfig config = tiny_model();
  config.dropout = 0;
  std::vector<std::vector<at::Tensor>> results;
  for (const int64_t micro_tokens : {int64_t{100'000}, int64_t{30}}) {
    TrainSection c = tiny_run();
    c.batch_tokens = 100'000;
    c.micro_tokens = micro_tokens;
    c.max_steps = 1;
    c.keep_best = false;
    c.clip = 0;
    c.beta1 = c.beta2 = 0;
    c.eps = 1;  // the update is then nearly the gradient itself, not its sign
    c.weight_decay = 0;
    c.lr = 1;
    c.warmup = 0;
    models::TextClassifier model = make_model(config, 1);
    ClassifierTrainer trainer(c, model, train_, valid_, folder(std::to_string(micro_tokens)), {});
    trainer.run();
    results.emplace_back();
    for (const auto& p : model->parameters()) results.back().push_back(p.detach().clone());
  }
  models::TextClassifier start = make_model(config, 1);
  const auto before = start->parameters();
  double largest_update = 0;
  for (size_t i = 0; i < before.size(); ++i) {
    const double update = (results[0][i] - before[i]).abs().max().item<double>();
    const double difference = (results[0][i] - results[1][i]).abs().max().item<double>();
    largest_update = std::max(largest_update, update);
    // Sums of 150 float32 terms in another order, and weights near 1 that round.
    EXPECT_LE(difference, 150 * 6e-8 * update + 4 * 6e-8) << i;
  }
  EXPECT_GT(largest_update, 1e-3);
}

TEST_F(TrainerTest, ResumedRunEndsWithTheSameBits) {
  TrainSection c = tiny_run();
  models::TextClassifier whole = make_model(tiny_model(), 1);
  const std::string uninterrupted = folder("whole");
  ClassifierTrainer(c, whole, train_, valid_, uninterrupted, {{"isa", "x"}}).run();

  // Interrupted after every single step; each process starts from other weights.
  const std::string out = folder("resumed");
  int64_t processes = 0;
  for (Outcome outcome = Outcome::kInterrupted; outcome != Outcome::kFinished; ++processes) {
    models::TextClassifier model = make_model(tiny_model(), processes == 0 ? 1 : 99);
    ClassifierTrainer trainer(c, model, train_, valid_, out, {{"isa", "x"}});
    EXPECT_EQ(trainer.resume(false), processes > 0);
    catch_interrupts();
    std::raise(SIGTERM);
    outcome = trainer.run();
  }
  EXPECT_GT(processes, 20);
  EXPECT_EQ(weights(out), weights(uninterrupted));
  EXPECT_EQ(course(out), course(uninterrupted));
}

TEST_F(TrainerTest, ResumeRefusesAnotherMachineUnlessToldTo) {
  TrainSection c = tiny_run();
  c.max_steps = 5;
  const std::string out = folder("out");
  models::TextClassifier model = make_model(tiny_model(), 1);
  ClassifierTrainer(c, model, train_, valid_, out, {{"isa", "avx2"}, {"threads", 2}}).run();
  ClassifierTrainer other(c, model, train_, valid_, out, {{"isa", "avx512"}, {"threads", 2}});
  try {
    other.resume(false);
    FAIL() << "no error";
  } catch (const InputError& error) {
    EXPECT_THAT(error.what(), HasSubstr("isa: then \"avx2\", now \"avx512\""));
    EXPECT_THAT(error.what(), HasSubstr("--resume-anyway"));
  }
  EXPECT_TRUE(other.resume(true));
}

TEST_F(TrainerTest, NothingToResume) {
  models::TextClassifier model = make_model(tiny_model(), 1);
  EXPECT_FALSE(
      ClassifierTrainer(tiny_run(), model, train_, valid_, folder("out"), {}).resume(false));
}

TEST_F(TrainerTest, NonFiniteLossStopsWithTheStepAndKeepsTheCheckpoint) {
  TrainSection c = tiny_run();
  c.save_every = 1;
  const std::string out = folder("out");
  models::TextClassifier model = make_model(tiny_model(), 1);
  ClassifierTrainer trainer(c, model, train_, valid_, out, {});
  c.max_steps = 2;
  {
    ClassifierTrainer first(c, model, train_, valid_, out, {});
    first.run();
  }
  {
    // One broken weight: the loss of the next step is not a number.
    const at::NoGradGuard no_grad;
    model->parameters().back().fill_(std::numeric_limits<float>::quiet_NaN());
  }
  try {
    trainer.run();
    FAIL() << "no error";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kFailed);
    EXPECT_THAT(error.what(), HasSubstr("step 1: the loss is nan"));
    EXPECT_THAT(error.what(), HasSubstr("checkpoints/step-2"));
  }
  EXPECT_TRUE(fs::exists(out + "/checkpoints/step-2/model.safetensors"));
}

TEST_F(TrainerTest, PatienceStopsEarlyAndTheBestModelStays) {
  TrainSection c = tiny_run();
  c.lr = 0;  // nothing changes, so nothing gets better
  c.epochs = 50;
  c.eval_every = 1;
  c.patience = 3;
  models::TextClassifier model = make_model(tiny_model(), 1);
  ClassifierTrainer trainer(c, model, train_, valid_, folder("out"), {});
  trainer.run();
  EXPECT_EQ(trainer.state().step, 4);
  EXPECT_EQ(trainer.state().best_step, 1);
}

TEST_F(TrainerTest, KeepsAsManyCheckpointsAsAsked) {
  TrainSection c = tiny_run();
  c.save_every = 1;
  c.keep = 2;
  c.max_steps = 6;
  const std::string out = folder("out");
  models::TextClassifier model = make_model(tiny_model(), 1);
  ClassifierTrainer(c, model, train_, valid_, out, {}).run();
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(out + "/checkpoints")) {
    names.push_back(entry.path().filename().string());
  }
  EXPECT_THAT(names, ::testing::UnorderedElementsAre("step-5", "step-6"));
}

TEST_F(TrainerTest, LabelSmoothingAndCheckpointingTrain) {
  TrainSection c = tiny_run();
  c.label_smoothing = 0.1;
  c.max_steps = 4;
  std::vector<std::string> results;
  for (const bool checkpointing : {false, true}) {
    c.checkpointing = checkpointing;
    models::TextClassifier model = make_model(tiny_model(), 1);
    const std::string out = folder(checkpointing ? "twice" : "once");
    ClassifierTrainer(c, model, train_, valid_, out, {}).run();
    results.push_back(weights(out));
  }
  EXPECT_EQ(results[0], results[1]) << "computing activations again changes no bit";
}

}  // namespace
}  // namespace fovea::train
