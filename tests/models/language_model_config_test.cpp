#include <functional>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "fovea/core/status.h"
#include "fovea/models/language_model/config.h"

namespace fovea::models {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

LanguageModelConfig example() {
  LanguageModelConfig config;
  config.vocab_size = 300;
  config.layers = 3;
  config.model_dim = 64;
  config.heads = config.kv_heads = 4;
  config.ff_dim = 96;
  config.max_length = 128;
  return config;
}

std::string invalid(const std::function<void(LanguageModelConfig&)>& change) {
  LanguageModelConfig config = example();
  change(config);
  try {
    config.validate("c");
  } catch (const InputError& error) {
    return error.what();
  }
  return "no error";
}

std::string with_attention(const std::string& attention) {
  return invalid([&](LanguageModelConfig& c) { c.attention = attention; });
}

TEST(LanguageModelConfigTest, ReadsWhatItWrites) {
  LanguageModelConfig config = example();
  config.tie_embeddings = false;
  config.attention = "window(16,0)*2, causal";
  EXPECT_EQ(LanguageModelConfig::from_json(config.to_json(), "config.json"), config);
  EXPECT_EQ(model_type_of(config.to_json(), "config.json"), "fovea_language_model");
}

TEST(LanguageModelConfigTest, EveryLayerMustBeCausal) {
  for (const char* text : {"causal", "window(8,0)", "causal & window(8)", "linear(causal), causal",
                           "causal & (window(2)|global(1))", "dilated(8,0,2)",
                           "retnet, gated_deltanet", "moba(16,3,causal)"}) {
    EXPECT_EQ(with_attention(text), "no error") << text;
  }
  EXPECT_THAT(with_attention("full"),
              AllOf(HasSubstr("\"full\" in layer 0"), HasSubstr("use \"causal\"")));
  EXPECT_THAT(with_attention("causal*2, window(8)|global(1)"),
              AllOf(HasSubstr("in layer 2"), HasSubstr("use \"causal & (")));
  EXPECT_THAT(with_attention("linear"), HasSubstr("use \"linear(causal)\""));
  EXPECT_THAT(with_attention("based"), HasSubstr("use \"based(causal)\""));
  EXPECT_THAT(with_attention("moba(16,3)"), HasSubstr("use \"moba(16,3,causal)\""));
  EXPECT_THAT(with_attention("window(8)+linear"), HasSubstr("use \"window(8,0)+linear(causal)\""));
  EXPECT_THAT(with_attention("causal, linear"), HasSubstr("\"linear\" in layer 1"));
}

TEST(LanguageModelConfigTest, RangesAreChecked) {
  using C = LanguageModelConfig;
  EXPECT_THAT(invalid([](C& c) { c.max_length = 1; }), HasSubstr("\"max_length\""));
  EXPECT_THAT(invalid([](C& c) { c.heads = 3; }), HasSubstr("\"heads\""));
}

TEST(LanguageModelConfigTest, ATiedTableCountsOnce) {
  LanguageModelConfig tied = example(), apart = example();
  apart.tie_embeddings = false;
  EXPECT_EQ(apart.parameter_count() - tied.parameter_count(), 300 * 64);
}

TEST(LanguageModelConfigTest, OtherModelsAreRefused) {
  std::string text = example().to_json();
  text.replace(text.find("language_model"), 14, "text_classifier");
  EXPECT_THROW(LanguageModelConfig::from_json(text, "config.json"), InputError);
}

}  // namespace
}  // namespace fovea::models
