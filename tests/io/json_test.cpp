#include "fovea/io/json.h"

#include "tests/io/temporary_folder.h"
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "fovea/core/status.h"
#include "fovea/io/file.h"

namespace fovea::io {
namespace {

using test::message_of;
using testing::AllOf;
using testing::HasSubstr;

std::string error_of(const std::string& text) {
  return message_of<InputError>([&] { parse_json(text, "c.json"); });
}

TEST(ParseJson, SaysWhereItBreaks) {
  EXPECT_THAT(error_of("{\"a\": 1,\n \"b\": }"), HasSubstr("c.json:2:7: not valid JSON"));
  EXPECT_THAT(error_of(""), HasSubstr("c.json:1:1: "));
  EXPECT_THAT(error_of("{} x"), HasSubstr("c.json:1:4: "));
  EXPECT_THAT(error_of("{\"a\": \"\xff\"}"), HasSubstr("c.json:1:8: "));
  EXPECT_THAT(error_of("{\"a\": 1e999}"), HasSubstr("not valid JSON"));
  EXPECT_THAT(error_of("// c\n{}"), HasSubstr("not valid JSON"));
}

TEST(ParseJson, RefusesDuplicateKeysAndDepth) {
  EXPECT_THAT(error_of(R"({"a": {"b": 1, "c": 2, "b": 3}})"), HasSubstr("\"b\" is given twice"));
  EXPECT_EQ(error_of(R"([{"a": 1}, {"a": 1, "b": {"a": 2}}])"), "");
  EXPECT_EQ(error_of(std::string(64, '[') + std::string(64, ']')), "");
  EXPECT_THAT(error_of(std::string(65, '[') + std::string(65, ']')), HasSubstr("at most 64 deep"));
  EXPECT_THAT(error_of(std::string(1'000'000, '[')), HasSubstr("at most 64 deep"));
}

TEST(JsonField, ChecksTypes) {
  const Json json = parse_json(
      R"({"n": 3, "x": 2.5, "s": "t", "b": true, "list": ["a", "b"], "ids": [1, 2], "big": 18446744073709551615})",
      "c");
  EXPECT_EQ(json_field<int64_t>(json, "n", "c"), 3);
  EXPECT_EQ(json_field<double>(json, "n", "c"), 3.0);
  EXPECT_EQ(json_field<double>(json, "x", "c"), 2.5);
  EXPECT_EQ(json_field<std::string>(json, "s", "c"), "t");
  EXPECT_TRUE(json_field<bool>(json, "b", "c"));
  EXPECT_THAT(json_field<std::vector<std::string>>(json, "list", "c"),
              testing::ElementsAre("a", "b"));
  EXPECT_THAT(json_field<std::vector<int64_t>>(json, "ids", "c"), testing::ElementsAre(1, 2));
  EXPECT_EQ(json_field_or<int64_t>(json, "none", "c", 7), 7);
  EXPECT_THAT(message_of<InputError>([&] { json_field<int64_t>(json, "x", "c"); }),
              HasSubstr("c: field \"x\": expected an integer, found a number"));
  EXPECT_THAT(message_of<InputError>([&] { json_field<int64_t>(json, "big", "c"); }),
              HasSubstr("expected an integer"));
  EXPECT_THAT(message_of<InputError>([&] { json_field_or<bool>(json, "s", "c", true); }),
              HasSubstr("expected true or false, found a string"));
  EXPECT_THAT(message_of<InputError>([&] { json_field<std::string>(json, "lits", "c"); }),
              AllOf(HasSubstr("\"lits\" is missing"), HasSubstr("\"list\"")));
}

TEST(WriteJson, ReadsBack) {
  const test::TemporaryFolder folder;
  const Json json = {{"z", 1}, {"a", {1.5, "x\n"}}};
  write_json(folder / "a.json", json);
  EXPECT_EQ(read_json(folder / "a.json"), json);
  EXPECT_EQ(dump_json(json), R"({"z":1,"a":[1.5,"x\n"]})");
  EXPECT_EQ(dump_json(Json(std::string("\xff"))), "\"\xEF\xBF\xBD\"");
}

}  // namespace
}  // namespace fovea::io
