// Files that are wrong or made to harm: each must end in an InputError that names the place.
#include <ostream>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "fovea/core/status.h"
#include "fovea/text/tokenizer.h"

namespace fovea {
namespace {

using nlohmann::json;

json good_file() {
  return json::parse(R"({"version":"1.0","truncation":null,"padding":null,
    "added_tokens":[{"id":3,"content":"<s>","single_word":false,"lstrip":false,"rstrip":false,
                     "normalized":false,"special":true}],
    "normalizer":null,"pre_tokenizer":null,"post_processor":null,"decoder":null,
    "model":{"type":"BPE","dropout":null,"unk_token":null,"vocab":{"a":0,"b":1,"ab":2},
             "merges":[["a","b"]]}})");
}

std::string error_of(const std::string& text) {
  try {
    Tokenizer::from_json(text, "t.json");
    return "";
  } catch (const InputError& error) {
    return error.what();
  }
}

TEST(HostileFile, TheGoodOneIsRead) {
  EXPECT_EQ(error_of(good_file().dump()), "");
  const Tokenizer tokenizer = Tokenizer::from_json(good_file().dump(), "t.json");
  EXPECT_EQ(tokenizer.encode("ab<s>ba"), (std::vector<int32_t>{2, 3, 1, 0}));
}

struct Change {
  const char* pointer;  // where in the file
  const char* value;    // what it becomes; "" removes it
  const char* place;    // what the error must name
  const char* reason;
};

void PrintTo(const Change& change, std::ostream* out) {
  *out << change.pointer << " = " << change.value;
}

class HostileChange : public ::testing::TestWithParam<Change> {};

TEST_P(HostileChange, IsRefusedWithItsPlace) {
  const Change& change = GetParam();
  json file = good_file();
  const json::json_pointer pointer(change.pointer);
  if (*change.value == '\0') {
    file[pointer.parent_pointer()].erase(pointer.back());
  } else {
    file[pointer] = json::parse(change.value);
  }
  const std::string error = error_of(file.dump());
  EXPECT_THAT(error, ::testing::HasSubstr(std::string("t.json: ") + change.place));
  EXPECT_THAT(error, ::testing::HasSubstr(change.reason));
}

const Change kChanges[] = {
    {"/version", "\"2.0\"", "version", "expected \"1.0\""},
    {"/version", "1", "version", "expected a string"},
    {"/truncation", "{\"max_length\":5}", "truncation", "expected null"},
    {"/model", "", "model", "found none"},
    {"/model", "[]", "model", "expected an object"},
    {"/model/type", "\"Unigram\"", "model.type", "Unigram"},
    {"/model/type", "\"WordPiece\"", "model.type", "WordPiece"},
    {"/model/vocab", "", "model.vocab", "found none"},
    {"/model/vocab", "{}", "model.merges[0]", "is not in model.vocab"},
    {"/model/vocab", "[\"a\"]", "model.vocab", "expected an object"},
    {"/model/vocab/a", "-1", "model.vocab[\"a\"]", "token id"},
    {"/model/vocab/a", "0.5", "model.vocab[\"a\"]", "token id"},
    {"/model/vocab/a", "\"0\"", "model.vocab[\"a\"]", "token id"},
    {"/model/vocab/a", "18446744073709551615", "model.vocab[\"a\"]", "token id"},
    {"/model/vocab/a", "2147483646", "model.vocab[\"a\"]", "gaps"},
    {"/model/vocab/a", "1", "model.vocab", "id 1 belongs to"},
    {"/model/merges", "", "model.merges", "found none"},
    {"/model/merges", "{}", "model.merges", "expected an array"},
    {"/model/merges/0", "[\"a\"]", "model.merges[0]", "[left, right]"},
    {"/model/merges/0", "\"a b c\"", "model.merges[0]", "one space"},
    {"/model/merges/0", "\"ab\"", "model.merges[0]", "one space"},
    {"/model/merges/0", "[\"a\",\"x\"]", "model.merges[0]", "\"x\" is not in model.vocab"},
    {"/model/merges/0", "[\"b\",\"a\"]", "model.merges[0]", "\"ba\" is not in model.vocab"},
    {"/model/dropout", "0.1", "model.dropout", "dropout"},
    {"/model/unk_token", "\"?\"", "model.unk_token", "a token of model.vocab"},
    {"/model/continuing_subword_prefix", "\"##\"", "model.continuing_subword_prefix", "##"},
    {"/added_tokens/0/id", "7", "added_tokens[0].id", "expected the id 3"},
    {"/added_tokens/0/content", "\"\"", "added_tokens[0].content", "not empty"},
    {"/added_tokens/0/special", "1", "added_tokens[0].special", "true or false"},
    {"/added_tokens", "7", "added_tokens", "expected an array"},
    {"/normalizer", "{\"type\":\"Precompiled\"}", "normalizer.type", "Precompiled"},
    {"/normalizer", "{\"type\":\"Replace\",\"pattern\":{\"Regex\":\"a\"},\"content\":\"\"}",
     "normalizer.pattern", "String"},
    {"/normalizer", "{\"type\":\"Replace\",\"pattern\":{\"String\":\"\"},\"content\":\"\"}",
     "normalizer.pattern", "not empty"},
    {"/pre_tokenizer", "{\"type\":\"Metaspace\"}", "pre_tokenizer.type", "Metaspace"},
    {"/pre_tokenizer", "\"ByteLevel\"", "pre_tokenizer", "expected an object"},
    {"/pre_tokenizer",
     "{\"type\":\"Split\",\"pattern\":{\"Regex\":\"(\"},\"behavior\":\"Removed\",\"invert\":false}",
     "pre_tokenizer.pattern", "regular expression"},
    {"/pre_tokenizer",
     "{\"type\":\"Split\",\"pattern\":{\"String\":\"a\"},\"behavior\":\"Gone\",\"invert\":false}",
     "pre_tokenizer.behavior", "Gone"},
    {"/post_processor", "{\"type\":\"BertProcessing\"}", "post_processor.type", "BertProcessing"},
    {"/post_processor",
     "{\"type\":\"TemplateProcessing\",\"single\":[{\"SpecialToken\":{\"id\":\"x\"}}],"
     "\"special_tokens\":{\"x\":{\"ids\":[99]}}}",
     "post_processor.special_tokens.x.ids[0]", "the id of a token"},
    {"/decoder", "{\"type\":\"WordPiece\"}", "decoder.type", "WordPiece"},
};

INSTANTIATE_TEST_SUITE_P(Fields, HostileChange, ::testing::ValuesIn(kChanges));

TEST(HostileFile, TwoAddedTokensOfOneName) {
  json file = good_file();
  file["added_tokens"].push_back(file["added_tokens"][0]);
  EXPECT_THAT(error_of(file.dump()), ::testing::HasSubstr("added_tokens[1]"));
}

TEST(HostileFile, NotJson) {
  EXPECT_THAT(error_of("{\"model\": 1e400}"), ::testing::HasSubstr("t.json: not valid JSON"));
  EXPECT_THAT(error_of(""), ::testing::HasSubstr("t.json: byte"));
  EXPECT_THAT(error_of("{\"model\": nul"), ::testing::HasSubstr("t.json: byte"));
  EXPECT_THAT(error_of("{\"a\": \"\xFF\"}"), ::testing::HasSubstr("t.json: byte"));
  EXPECT_THAT(error_of("7"), ::testing::HasSubstr("expected an object"));
  EXPECT_THAT(error_of(good_file().dump() + "}"), ::testing::HasSubstr("t.json: byte"));
}

TEST(HostileFile, DeepNesting) {
  std::string deep;
  for (int i = 0; i < 200'000; ++i) deep += "{\"a\":[";
  EXPECT_THAT(error_of(deep), ::testing::HasSubstr("nested deeper"));
  json normalizer = {{"type", "NFC"}};
  for (int i = 0; i < 40; ++i) normalizer = {{"type", "Sequence"}, {"normalizers", {normalizer}}};
  json file = good_file();
  file["normalizer"] = normalizer;
  EXPECT_THAT(error_of(file.dump()), ::testing::HasSubstr("nested deeper"));
}

// 4096^70 bytes are more than there are.
TEST(HostileFile, ReplaceCannotBlowUp) {
  json steps = json::array();
  for (int i = 0; i < 70; ++i) {
    steps.push_back({{"type", "Replace"},
                     {"pattern", {{"String", "a"}}},
                     {"content", std::string(1 << 12, 'a')}});
  }
  json file = good_file();
  file["normalizer"] = {{"type", "Sequence"}, {"normalizers", steps}};
  const Tokenizer tokenizer = Tokenizer::from_json(file.dump(), "t.json");
  EXPECT_THROW(tokenizer.encode("a"), InputError);
}

}  // namespace
}  // namespace fovea
