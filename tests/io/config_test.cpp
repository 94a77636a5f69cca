#include "fovea/io/config.h"

#include <cstdint>

#include "tests/io/temporary_folder.h"
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "fovea/core/status.h"

namespace fovea::io {
namespace {

using test::message_of;
using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;

constexpr const char* kToml = R"toml(seed = 7
[train]
lr = 3e-4
epochs = 5
best = true
[model]
attention = "window(128)|global(1)"
pattern.layers = [1, 2]
[data]
text = ["title", "text"]
)toml";

TEST(Config, ReadsValuesAndKeepsDefaults) {
  Config config = Config::parse(kToml, "c.toml");
  uint64_t seed = 0;
  double lr = 0, epochs = 0, decay = 0.25;
  bool best = false;
  std::string attention;
  std::vector<int64_t> layers;
  std::vector<double> wide;
  std::vector<std::string> text;
  config.read("seed", seed);
  config.read("train.lr", lr);
  config.read("train.epochs", epochs);
  config.read("train.decay", decay);
  config.read("train.best", best);
  config.read("model.attention", attention);
  config.read("model.pattern.layers", layers);
  config.read("model.pattern.layers", wide);
  config.read("data.text", text);
  config.refuse_unknown();
  EXPECT_EQ(seed, 7u);
  EXPECT_EQ(lr, 3e-4);
  EXPECT_EQ(epochs, 5);
  EXPECT_EQ(decay, 0.25);
  EXPECT_TRUE(best);
  EXPECT_EQ(attention, "window(128)|global(1)");
  EXPECT_THAT(layers, ElementsAre(1, 2));
  EXPECT_THAT(wide, ElementsAre(1.0, 2.0));
  EXPECT_THAT(text, ElementsAre("title", "text"));
}

TEST(Config, FlagsWinAndNeedNoQuotes) {
  Config config = Config::parse("[train]\nlr = 1.0\n", "c.toml");
  config.set("train.lr", "2e-3", "--train.lr");
  config.set("name", "123", "--name");
  config.set("attention", "window(128)|global(1)", "--attention");
  config.set("fields", "title,text", "--fields");
  config.set("sizes", "1,2", "--sizes");
  config.set("widths", "[3]", "--widths");
  config.set("one", "text", "--one");
  double lr = 0;
  std::string name, attention;
  std::vector<std::string> fields, one;
  std::vector<int64_t> sizes, widths;
  config.read("train.lr", lr);
  config.read("name", name);
  config.read("attention", attention);
  config.read("fields", fields);
  config.read("one", one);
  config.read("sizes", sizes);
  config.read("widths", widths);
  EXPECT_EQ(lr, 2e-3);
  EXPECT_EQ(name, "123");
  EXPECT_EQ(attention, "window(128)|global(1)");
  EXPECT_THAT(fields, ElementsAre("title", "text"));
  EXPECT_THAT(one, ElementsAre("text"));
  EXPECT_THAT(sizes, ElementsAre(1, 2));
  EXPECT_THAT(widths, ElementsAre(3));
}

TEST(Config, ErrorsNamePlaceKeyAndNearestKey) {
  Config config = Config::parse("[train]\n  epcohs = 5\n", "c.toml");
  int epochs = 3;
  config.read("train.epochs", epochs);
  EXPECT_EQ(epochs, 3);
  EXPECT_THAT(
      message_of<InputError>([&] { config.refuse_unknown(); }),
      AllOf(HasSubstr("c.toml:2:12: train.epcohs"), HasSubstr("did you mean \"train.epochs\"")));
  Config wrong = Config::parse("a = \"x\"\nb = 99999999999\nc = -1\n", "c.toml");
  wrong.set("d", "abc", "--d");
  int64_t a = 0;
  int b = 0;
  uint64_t c = 0;
  double d = 0;
  EXPECT_THAT(message_of<InputError>([&] { wrong.read("a", a); }),
              HasSubstr("c.toml:1:5: a: expected an integer, found \"x\""));
  EXPECT_THAT(message_of<InputError>([&] { wrong.read("b", b); }), HasSubstr("99999999999"));
  EXPECT_THAT(message_of<InputError>([&] { wrong.read("c", c); }), HasSubstr("at least 0"));
  EXPECT_THAT(message_of<InputError>([&] { wrong.read("d", d); }),
              HasSubstr("--d: d: expected a number, found \"abc\""));
}

TEST(Config, RefusesBadToml) {
  const auto error_of = [](const std::string& text) {
    return message_of<InputError>([&] { Config::parse(text, "c.toml"); });
  };
  EXPECT_THAT(error_of("a = 1\nb = \n"), HasSubstr("c.toml:2:"));
  EXPECT_THAT(error_of("a = 1\na = 2\n"), HasSubstr("c.toml:2:"));
  EXPECT_THAT(error_of("a = 2020-01-01\n"), HasSubstr("c.toml:1:5: a: expected"));
  EXPECT_THAT(error_of("a = [1, \"x\"]\n"), HasSubstr("c.toml:1:5: a: expected"));
  EXPECT_THAT(error_of("[[a]]\nb = 1\n"), HasSubstr("a: expected"));
  EXPECT_THAT(error_of("\"a.b\" = 1\n[a]\nb = 2\n"), HasSubstr("a.b is given twice"));
}

// toml++ 3.3's tables say "unreachable" here; see config.cpp.
TEST(Config, RefusesLettersOutsideStringsWithTheirPlace) {
  for (const char* text : {"a = [1, \u00e9]\n", "a = \u048c\n", "\u00e9 = 1\n"}) {
    EXPECT_THAT(message_of<InputError>([&] { Config::parse(text, "c.toml"); }),
                HasSubstr("c.toml:1:"));
  }
  Config config = Config::parse("a = \"\u00e9\u048c\" # \u00e9\u048c\n", "c.toml");
  std::string a;
  config.read("a", a);
  EXPECT_EQ(a, "\u00e9\u048c");
}

TEST(Config, DumpReadsBackToTheSameValues) {
  Config config;
  bool flag = true;
  int64_t count = -5;
  double lr = 0.1 + 0.2, whole = 3, huge = 1e300;
  std::string text = "a\"b\\c\n\x7f é";
  std::vector<double> list = {1, 0.5};
  std::vector<std::string> none;
  const auto read_all = [&](Config& c) {
    c.read("flag", flag);
    c.read("a.count", count);
    c.read("a.b.lr", lr);
    c.read("a.whole", whole);
    c.read("huge", huge);
    c.read("text", text);
    c.read("list", list);
    c.read("none", none);
  };
  read_all(config);
  const std::string toml = config.dump();
  flag = false;
  count = 0;
  lr = whole = huge = 0;
  text = "";
  list = {};
  none = {"x"};
  Config again = Config::parse(toml, "dump");
  read_all(again);
  again.refuse_unknown();
  EXPECT_TRUE(flag);
  EXPECT_EQ(count, -5);
  EXPECT_EQ(lr, 0.1 + 0.2);
  EXPECT_EQ(whole, 3);
  EXPECT_EQ(huge, 1e300);
  EXPECT_EQ(text, "a\"b\\c\n\x7f é");
  EXPECT_THAT(list, ElementsAre(1, 0.5));
  EXPECT_TRUE(none.empty());
  EXPECT_EQ(again.dump(), toml);
}

}  // namespace
}  // namespace fovea::io
