#include <cmath>
#include <cstring>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "fovea/core/status.h"
#include "fovea/models/text_classifier/config.h"

namespace fovea::models {
namespace {

using ::testing::HasSubstr;

TextClassifierConfig example() {
  TextClassifierConfig config;
  config.vocab_size = 300;
  config.labels = {"ham", "späm \"quoted\""};
  config.layers = 3;
  config.model_dim = 64;
  config.heads = 4;
  config.kv_heads = 2;
  config.ff_dim = 96;
  config.attention = "window(16)*2, full";
  config.positions = "learned";
  config.max_length = 128;
  config.activation = "swiglu";
  config.pooling = "attention";
  config.dropout = 0.25;
  config.token_dropout = 0.125;
  return config;
}

std::string message_of(const std::function<void()>& body) {
  try {
    body();
  } catch (const InputError& error) {
    return error.what();
  }
  return "no error";
}

std::string invalid(const std::function<void(TextClassifierConfig&)>& change) {
  auto config = example();
  change(config);
  return message_of([&] { config.validate("run.toml"); });
}

/// The message for config.json's text with `from` replaced by `to`.
std::string unreadable(const std::string& from, const std::string& to) {
  std::string text = example().to_json();
  const size_t at = text.find(from);
  if (at == std::string::npos) return "nothing to replace";
  text.replace(at, from.size(), to);
  return message_of([&] { TextClassifierConfig::from_json(text, "config.json"); });
}

TEST(TextClassifierConfigTest, ReadsWhatItWrites) {
  EXPECT_EQ(TextClassifierConfig::from_json(example().to_json(), "config.json"), example());
  auto config = example();
  config.position_bias = "t5";
  config.bias_buckets = 16;
  config.bias_max_distance = 64;
  config.softcap = 20;
  config.cosine = config.sinks = true;
  config.summary_tokens = 5;
  EXPECT_EQ(TextClassifierConfig::from_json(config.to_json(), "config.json"), config);
}

TEST(TextClassifierConfigTest, UnknownFieldSuggestsTheNearest) {
  EXPECT_EQ(unreadable("\"dropout\": 0.25", "\"dropuot\": 0.25"),
            "config.json: field \"dropuot\": unknown; did you mean \"dropout\"?");
}

TEST(TextClassifierConfigTest, MissingFieldIsNamed) {
  EXPECT_THAT(unreadable("\"heads\": 4,", ""), HasSubstr("field \"heads\": missing"));
}

TEST(TextClassifierConfigTest, NewerFormatIsRefused) {
  const auto message = unreadable("\"format_version\": 4", "\"format_version\": 5");
  EXPECT_THAT(message, HasSubstr("found 5"));
  EXPECT_THAT(message, HasSubstr("newer fovea"));
  EXPECT_THAT(unreadable("\"format_version\": 4", "\"format_version\": 0"), HasSubstr("found 0"));
}

TEST(TextClassifierConfigTest, Version1HasNoFieldsOfScoresOrSummaryTokens) {
  std::string text = example().to_json();
  const size_t begin = text.find(",\n  \"scores\""), end = text.find(",\n  \"labels\"");
  ASSERT_LT(begin, end);
  text.erase(begin, end - begin);
  const size_t summary = text.find(",\n  \"summary_tokens\": 0");
  ASSERT_NE(summary, std::string::npos);
  text.erase(summary, std::strlen(",\n  \"summary_tokens\": 0"));
  EXPECT_THAT(message_of([&] { TextClassifierConfig::from_json(text, "config.json"); }),
              HasSubstr("field \"scores\": missing"));
  const std::string version = "\"format_version\": ";
  text.replace(text.find(version) + version.size(), 1, "1");
  EXPECT_EQ(TextClassifierConfig::from_json(text, "config.json"), example());
}

TEST(TextClassifierConfigTest, ScoreFieldsAreChecked) {
  using C = TextClassifierConfig;
  EXPECT_THAT(invalid([](C& c) { c.position_bias = "shaw"; }), HasSubstr("none, alibi, t5"));
  EXPECT_THAT(invalid([](C& c) { c.scores = "bahdanau"; }), HasSubstr("dot, additive, leaky"));
  EXPECT_THAT(invalid([](C& c) {
                c.scores = "leaky";
                c.positions = "rotary";
              }),
              HasSubstr("positions learned"));
  EXPECT_THAT(invalid([](C& c) { c.bias_buckets = 6; }), HasSubstr("multiple of 4"));
  EXPECT_THAT(invalid([](C& c) { c.bias_max_distance = 8; }), HasSubstr("9 to"));
  EXPECT_THAT(invalid([](C& c) { c.softcap = -1; }), HasSubstr("\"softcap\""));
  EXPECT_THAT(invalid([](C& c) { c.softcap = NAN; }), HasSubstr("\"softcap\""));
  const std::vector<std::pair<std::string, std::function<void(C&)>>> changes = {
      {"position_bias", [](C& c) { c.position_bias = "alibi"; }},
      {"scores",
       [](C& c) {
         c.scores = "additive";
         c.positions = "none";
       }},
      {"softcap", [](C& c) { c.softcap = 30; }},
      {"cosine", [](C& c) { c.cosine = true; }},
      {"sinks", [](C& c) { c.sinks = true; }}};
  for (const auto& [field, change] : changes) {
    EXPECT_EQ(invalid(change), "no error");
    EXPECT_THAT(invalid([&](C& c) {
                  change(c);
                  c.attention = "full, linear";
                }),
                HasSubstr("field \"" + field + "\": expected none with linear layers"));
  }
}

TEST(TextClassifierConfigTest, WrongTypesAreNamed) {
  EXPECT_THAT(unreadable("\"heads\": 4", "\"heads\": 4.5"),
              HasSubstr("field \"heads\": expected an integer, found 4.5"));
  EXPECT_THAT(unreadable("\"heads\": 4", "\"heads\": 18446744073709551615"),
              HasSubstr("expected an integer"));
  EXPECT_THAT(unreadable("\"dropout\": 0.25", "\"dropout\": \"0.25\""),
              HasSubstr("expected a number"));
  EXPECT_THAT(unreadable("\"sinks\": false", "\"sinks\": 0"), HasSubstr("expected true or false"));
  EXPECT_THAT(unreadable("\"ham\"", "7"), HasSubstr("expected a list of texts"));
  EXPECT_THAT(unreadable("\"attention\": \"window(16)*2, full\"", "\"attention\": null"),
              HasSubstr("expected a text"));
}

TEST(TextClassifierConfigTest, WhatIsNoConfigIsRefused) {
  for (const char* text : {"", "{", "[]", "7", "{}", "{\"model_type\": \"bert\"}", "\xff\xfe"}) {
    EXPECT_THAT(message_of([&] { TextClassifierConfig::from_json(text, "m/config.json"); }),
                HasSubstr("m/config.json: "))
        << text;
  }
}

TEST(TextClassifierConfigTest, RangesAreChecked) {
  using C = TextClassifierConfig;
  EXPECT_THAT(invalid([](C& c) { c.vocab_size = 0; }), HasSubstr("run.toml: field \"vocab_size\""));
  EXPECT_THAT(invalid([](C& c) { c.vocab_size = int64_t{1} << 40; }), HasSubstr("\"vocab_size\""));
  EXPECT_THAT(invalid([](C& c) { c.layers = 0; }), HasSubstr("\"layers\""));
  EXPECT_THAT(invalid([](C& c) { c.heads = 3; }), HasSubstr("\"heads\""));
  EXPECT_THAT(invalid([](C& c) { c.heads = 16; }), HasSubstr("\"heads\""));
  EXPECT_THAT(invalid([](C& c) { c.kv_heads = 3; }), HasSubstr("\"kv_heads\""));
  EXPECT_THAT(invalid([](C& c) { c.ff_dim = -1; }), HasSubstr("\"ff_dim\""));
  EXPECT_THAT(invalid([](C& c) { c.max_length = 0; }), HasSubstr("\"max_length\""));
  EXPECT_THAT(invalid([](C& c) { c.labels = {"one"}; }), HasSubstr("at least 2"));
  EXPECT_THAT(invalid([](C& c) { c.labels = {"one", "one"}; }), HasSubstr("\"one\" twice"));
  EXPECT_THAT(invalid([](C& c) { c.dropout = 1; }), HasSubstr("found 1"));
  EXPECT_THAT(invalid([](C& c) { c.token_dropout = -0.1; }), HasSubstr("\"token_dropout\""));
  EXPECT_THAT(invalid([](C& c) { c.attention_dropout = NAN; }), HasSubstr("\"attention_dropout\""));
  EXPECT_THAT(invalid([](C& c) { c.rope_theta = 1; }), HasSubstr("\"rope_theta\""));
  EXPECT_THAT(invalid([](C& c) { c.positions = "alibi"; }), HasSubstr("rotary, learned"));
  EXPECT_THAT(invalid([](C& c) { c.norm = "both"; }), HasSubstr("\"norm\""));
  EXPECT_THAT(invalid([](C& c) { c.norm_type = "batch"; }), HasSubstr("layer, rms"));
  EXPECT_THAT(invalid([](C& c) { c.activation = "tanh"; }), HasSubstr("swiglu"));
  EXPECT_THAT(invalid([](C& c) { c.pooling = "median"; }), HasSubstr("found \"median\""));
  EXPECT_EQ(invalid([](C&) {}), "no error");
}

TEST(TextClassifierConfigTest, AttentionIsParsed) {
  using C = TextClassifierConfig;
  EXPECT_THAT(invalid([](C& c) { c.attention = "windw(3)"; }), HasSubstr("field \"attention\""));
  EXPECT_THAT(invalid([](C& c) { c.attention = "key_lengths"; }), HasSubstr("per-batch"));
  EXPECT_THAT(invalid([](C& c) { c.attention = ""; }), HasSubstr("field \"attention\""));
  EXPECT_THAT(
      invalid([](C& c) { c.attention = "full, per_head(full, causal, window(3))"; }),
      HasSubstr("run.toml: field \"attention\": expected heads that are a multiple of the 3 "
                "patterns of per_head, found 4 heads in \"per_head(full,causal,"));
  EXPECT_EQ(invalid([](C& c) { c.attention = "per_head(full, causal)"; }), "no error");
  EXPECT_EQ(invalid([](C& c) { c.attention = "moba(16,2), hmatrix, full"; }), "no error");
  EXPECT_THAT(invalid([](C& c) { c.attention = "moba(16)"; }), HasSubstr("moba(block,blocks)"));
  EXPECT_THAT(invalid([](C& c) {
                c.attention = "moba";
                c.softcap = 30;
              }),
              HasSubstr("field \"softcap\": expected none with layers over blocks"));
}

TEST(TextClassifierConfigTest, CountsParameters) {
  TextClassifierConfig c = example();
  c.positions = "rotary";
  c.pooling = "mean";
  c.activation = "gelu";
  c.kv_heads = c.heads;
  const int64_t e = 64, f = 96;
  const int64_t layer = 4 * e * e + 4 * e + 2 * e * f + f + e + 4 * e;
  EXPECT_EQ(c.parameter_count(), 300 * e + 2 * e + 3 * layer + 2 * e + 2 * e + 2);
}

}  // namespace
}  // namespace fovea::models
