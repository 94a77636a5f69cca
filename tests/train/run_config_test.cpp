#include "fovea/train/run_config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "fovea/core/status.h"

namespace fovea::train {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

std::string error_of(const std::string& toml) {
  io::Config config = io::Config::parse(toml, "c.toml");
  try {
    read_run_config(config);
  } catch (const InputError& error) {
    return error.what();
  }
  return "no error";
}

TEST(RunConfig, ReadsSectionsAndFlags) {
  io::Config config = io::Config::parse("[train]\nlr = 2e-4\n[model]\nlayers = 6\n", "c.toml");
  config.set("train.lr", "3e-4", "--train.lr");
  config.set("data.text", "[\"title\", \"text\"]", "--data.text");
  config.set("model.attention", "window(64,64)*2, full", "--attention");
  const RunConfig run = read_run_config(config);
  EXPECT_DOUBLE_EQ(run.train.lr, 3e-4);
  EXPECT_EQ(run.model.layers, 6);
  EXPECT_EQ(run.data.text, (std::vector<std::string>{"title", "text"}));
  EXPECT_EQ(run.model.attention, "window(64,64)*2, full");
}

TEST(RunConfig, UnknownKeySuggestsTheNearest) {
  EXPECT_THAT(error_of("[train]\nlearnrate = 1\n[model]\nlayer = 3\n"), HasSubstr("c.toml"));
  EXPECT_THAT(error_of("[model]\nlayer = 3\n"),
              AllOf(HasSubstr("model.layer"), HasSubstr("did you mean \"model.layers\"")));
}

TEST(RunConfig, RangesAndChoicesNamePlaceAndValue) {
  EXPECT_THAT(error_of("[model]\nlayers = 0\n"),
              AllOf(HasSubstr("c.toml:2"), HasSubstr("from 1 to 1024"), HasSubstr("found 0")));
  EXPECT_THAT(error_of("[train]\nschedule = \"cosinus\"\n"),
              AllOf(HasSubstr("linear, cosine"), HasSubstr("did you mean \"cosine\"")));
  EXPECT_THAT(error_of("[train]\nlr = nan\n"), HasSubstr("train.lr"));
  EXPECT_THAT(error_of("[model]\ndropout = 1.0\n"), HasSubstr("model.dropout"));
}

TEST(RunConfig, JsonKeepsEverySetting) {
  RunConfig run;
  run.train.lr = 0.1 + 0.2;
  run.train.seed = 18446744073709551615u;
  run.data.columns = {"label", "text", "id"};
  run.model.attention = "window(3)|global(1)";
  run.train.keep_best = false;
  const io::Json json = to_json(run);
  EXPECT_EQ(
      to_json(run_config_from_json(io::parse_json(io::dump_json(json), "run.json"), "run.json")),
      json);
  EXPECT_DOUBLE_EQ(json["train"]["lr"].get<double>(), 0.1 + 0.2);
}

TEST(RunConfig, JsonWithUnknownSettingIsRefused) {
  io::Json json = to_json(RunConfig());
  json["train"]["lrr"] = 1;
  EXPECT_THROW(run_config_from_json(json, "run.json"), InputError);
}

TEST(RunConfig, DumpReadsBackToTheSame) {
  io::Config config = io::Config::parse("[train]\nlr = 2e-4\nseed = 7\n", "c.toml");
  const io::Json first = to_json(read_run_config(config));
  io::Config again = io::Config::parse(config.dump(), "dump");
  EXPECT_EQ(to_json(read_run_config(again)), first);
}

TEST(RunConfig, AutoIsWhatTheTaskWants) {
  RunConfig run;
  EXPECT_EQ(resolve_model(run, 10, {"a", "b"}).attention, "full");
  EXPECT_EQ(resolve_metric(run.train), "macro_f1");
  run.train.task = "lm";
  EXPECT_EQ(resolve_language_model(run, 10).attention, "causal");
  EXPECT_EQ(resolve_metric(run.train), "loss");
  run.train.metric = "accuracy";
  EXPECT_EQ(resolve_metric(run.train), "accuracy");
  run.train.metric = "mcc";
  EXPECT_THROW(resolve_metric(run.train), InputError);
}

TEST(RunConfig, ModelsBecomeSettingsAndModelsAgain) {
  RunConfig run;
  models::LanguageModelConfig model = resolve_language_model(run, 10);
  model.tie_embeddings = false;
  model.attention = "window(3,0)";
  run.model = model_section(model);
  EXPECT_EQ(resolve_language_model(run, 10), model);
  models::TextClassifierConfig classifier = resolve_model(RunConfig(), 10, {"a", "b"});
  classifier.pooling = "max";
  run.model = model_section(classifier);
  EXPECT_EQ(resolve_model(run, 10, {"a", "b"}), classifier);
}

TEST(RunConfig, EveryFieldHasSectionAndHelp) {
  for (const Field& field : run_config_fields()) {
    EXPECT_NE(std::string(field.key).find('.'), std::string::npos) << field.key;
    EXPECT_FALSE(std::string(field.help).empty()) << field.key;
  }
}

}  // namespace
}  // namespace fovea::train
