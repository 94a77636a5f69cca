#include "fovea/text/pre_tokenizer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "fovea/core/status.h"
#include "fovea/text/byte_alphabet.h"

namespace fovea {
namespace {

using ::testing::ElementsAre;

std::vector<std::string> gpt2(std::string_view text) {
  std::vector<std::string_view> pieces;
  split_gpt2(text, pieces);
  return {pieces.begin(), pieces.end()};
}

std::vector<std::string> split(const char* config, std::string_view text) {
  const nlohmann::json json = nlohmann::json::parse(config);
  const SplitText result = PreTokenizer(JsonField(json, "test"))(text);
  return {result.pieces.begin(), result.pieces.end()};
}

std::vector<std::string> split_hyphen(const std::string& behavior) {
  const std::string config =
      R"({"type":"Split","pattern":{"String":"-"},"invert":false,"behavior":")" + behavior + "\"}";
  return split(config.c_str(), "the-final--countdown");
}

// What the pattern says, worked out by hand.
TEST(SplitGpt2, ContractionsAreLowerCaseOnly) {
  EXPECT_THAT(gpt2("don't he'll WE'LL I'm"),
              ElementsAre("don", "'t", " he", "'ll", " WE", "'", "LL", " I", "'m"));
  EXPECT_THAT(gpt2("'sss"), ElementsAre("'s", "ss"));
  EXPECT_THAT(gpt2("!'s"), ElementsAre("!'", "s"));
  EXPECT_THAT(gpt2("'"), ElementsAre("'"));
  EXPECT_THAT(gpt2("'r"), ElementsAre("'", "r"));
}

TEST(SplitGpt2, ASpaceGoesWithTheWordBehindIt) {
  EXPECT_THAT(gpt2("a  b"), ElementsAre("a", " ", " b"));
  EXPECT_THAT(gpt2("a   "), ElementsAre("a", "   "));
  EXPECT_THAT(gpt2("a\n\nb"), ElementsAre("a", "\n", "\n", "b"));
  EXPECT_THAT(gpt2("a \r\n 1.5"), ElementsAre("a", " \r\n", " 1", ".", "5"));
  EXPECT_THAT(gpt2("\xC2\xA0\xC2\xA0x"), ElementsAre("\xC2\xA0", "\xC2\xA0", "x"));
}

TEST(SplitGpt2, LettersNumbersAndTheRest) {
  EXPECT_THAT(gpt2("abc123!?"), ElementsAre("abc", "123", "!?"));
  EXPECT_THAT(gpt2("e\xCC\x81"), ElementsAre("e", "\xCC\x81"));  // a combining mark is no letter
  EXPECT_THAT(gpt2("x\xC2\xBD"), ElementsAre("x", "\xC2\xBD"));  // ½ is a number
}

TEST(SplitGpt2, KeepsEveryByte) {
  const std::string text = "\xFF\x80 a\xC3 \xE4\xBD";
  std::string joined;
  for (const std::string& piece : gpt2(text)) joined += piece;
  EXPECT_EQ(joined, text);
}

// The examples in the documentation of the package.
TEST(PreTokenizer, SplitBehaviors) {
  EXPECT_THAT(split_hyphen("Removed"), ElementsAre("the", "final", "countdown"));
  EXPECT_THAT(split_hyphen("Isolated"), ElementsAre("the", "-", "final", "-", "-", "countdown"));
  EXPECT_THAT(split_hyphen("MergedWithPrevious"), ElementsAre("the-", "final-", "-", "countdown"));
  EXPECT_THAT(split_hyphen("MergedWithNext"), ElementsAre("the", "-final", "-", "-countdown"));
  EXPECT_THAT(split_hyphen("Contiguous"), ElementsAre("the", "-", "final", "--", "countdown"));
}

TEST(PreTokenizer, WordsAndPunctuation) {
  EXPECT_THAT(split(R"({"type":"Whitespace"})", "Hey man! a_b ...c"),
              ElementsAre("Hey", "man", "!", "a_b", "...", "c"));
  EXPECT_THAT(split(R"({"type":"Punctuation"})", "Hey friend?!"),
              ElementsAre("Hey friend", "?", "!"));
  EXPECT_THAT(split(R"({"type":"Digits","individual_digits":false})", "a12b"),
              ElementsAre("a", "12", "b"));
}

TEST(PreTokenizer, PrefixSpaceOfAShortTextStaysAlive) {
  EXPECT_THAT(split(R"({"type":"ByteLevel","add_prefix_space":true,"use_regex":true})", "ab c"),
              ElementsAre(" ab", " c"));
}

TEST(PreTokenizer, RefusesByName) {
  try {
    split(R"({"type":"Metaspace"})", "");
    FAIL();
  } catch (const InputError& error) {
    EXPECT_THAT(error.what(), ::testing::HasSubstr("Metaspace"));
  }
  EXPECT_THROW(split(R"({"type":"Sequence","pretokenizers":[
      {"type":"ByteLevel","add_prefix_space":false},{"type":"Whitespace"}]})",
                     ""),
               InputError);
}

TEST(WholeWordPattern, GivesItsWordsBack) {
  const std::vector<std::string> words = {"the", "c++", "a|b", "\\", "(x)", "\xC3\xA9"};
  EXPECT_EQ(words_of_pattern(whole_word_pattern(words)), words);
  EXPECT_TRUE(words_of_pattern("\\A(?:a.b)\\z").empty());
  EXPECT_TRUE(words_of_pattern("\\A(?:a\\w)\\z").empty());
  EXPECT_TRUE(words_of_pattern("\\A(?:)z").empty());
}

// GPT-2's encoder.json spells a space U+0120 and a line feed U+010A.
TEST(ByteAlphabet, IsGpt2s) {
  EXPECT_EQ(byte_character(' '), 0x120u);
  EXPECT_EQ(byte_character('\n'), 0x10Au);
  EXPECT_EQ(byte_character('A'), 0x41u);
  EXPECT_EQ(byte_character(0xAD), 0x143u);
  EXPECT_EQ(byte_character(0xFF), 0xFFu);
  std::string all;
  for (int b = 0; b < 256; ++b) all.push_back(static_cast<char>(b));
  EXPECT_EQ(from_byte_alphabet(to_byte_alphabet(all)), all);
  EXPECT_FALSE(from_byte_alphabet("\xE4\xBD\xA0").has_value());
}

}  // namespace
}  // namespace fovea
