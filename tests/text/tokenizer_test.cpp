#include "fovea/text/tokenizer.h"

#include <random>
#include <thread>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "fovea/core/status.h"

namespace fovea {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using Ids = std::vector<int32_t>;

TextSource texts(std::vector<std::string> list) {
  return [list = std::move(list), next = size_t{0}](std::string& text) mutable {
    if (next == list.size()) return false;
    text = list[next++];
    return true;
  };
}

std::string random_bytes(uint32_t seed, size_t length) {
  std::mt19937 random(seed);
  std::string bytes(length, '\0');
  for (char& byte : bytes) byte = static_cast<char>(random());
  return bytes;
}

Tokenizer small_bpe() {
  BpeOptions options;
  options.vocab_size = 300;
  return Tokenizer::train_bpe(texts({"the cat sat on the mat, the cats sat"}), options);
}

TEST(ByteLevel, IdsAreBytes) {
  const Tokenizer tokenizer = Tokenizer::byte_level();
  EXPECT_EQ(tokenizer.vocab_size(), 256);
  EXPECT_EQ(tokenizer.kind(), "byte");
  EXPECT_TRUE(tokenizer.takes_any_bytes());
  const std::string bytes = random_bytes(1, 5000);
  const Ids ids = tokenizer.encode(bytes);
  ASSERT_EQ(ids.size(), bytes.size());
  for (size_t i = 0; i < ids.size(); ++i) {
    ASSERT_EQ(ids[i], static_cast<uint8_t>(bytes[i]));
  }
  EXPECT_EQ(tokenizer.decode_bytes(ids), bytes);
  EXPECT_EQ(tokenizer.decode(Ids{'a', 0xFF, 'b'}),
            "a\xEF\xBF\xBD"
            "b");
}

TEST(ByteLevel, SpecialTokensFollow) {
  const Tokenizer tokenizer = Tokenizer::byte_level({"[CLS]", "[PAD]"});
  EXPECT_EQ(tokenizer.vocab_size(), 258);
  EXPECT_EQ(tokenizer.pad_id(), 257);
  EXPECT_EQ(tokenizer.token_to_id("[CLS]"), 256);
  EXPECT_EQ(tokenizer.encode("a[CLS]b"), (Ids{'a', 256, 'b'}));
  EXPECT_EQ(tokenizer.decode(Ids{'a', 256, 'b'}), "ab");
  EXPECT_EQ(tokenizer.decode(Ids{'a', 256, 'b'}, false), "a[CLS]b");
  EXPECT_THROW(Tokenizer::byte_level({"x", "x"}), InputError);
  EXPECT_THROW(Tokenizer::byte_level({""}), InputError);
}

TEST(TrainWords, CountsOrdersAndDrops) {
  WordOptions options;
  options.lowercase = true;
  options.stop_words = {"The"};
  options.min_count = 2;
  options.special_tokens = {"[PAD]"};
  const Tokenizer tokenizer = Tokenizer::train_words(
      texts({"The dog, the cat. DOG!", "a cat, a dog [PAD]", "once 漢字字"}), options);
  // dog 3; ",", a, cat, 字 2 each, by bytes; the stop word and what occurs once are out.
  EXPECT_THAT(*tokenizer.id_to_token(0), "[UNK]");
  EXPECT_THAT(*tokenizer.id_to_token(1), "dog");
  EXPECT_THAT(*tokenizer.id_to_token(2), ",");
  EXPECT_THAT(*tokenizer.id_to_token(3), "a");
  EXPECT_THAT(*tokenizer.id_to_token(4), "cat");
  EXPECT_THAT(*tokenizer.id_to_token(5), "字");
  EXPECT_EQ(tokenizer.pad_id(), 6);
  EXPECT_EQ(tokenizer.vocab_size(), 7);
  EXPECT_EQ(tokenizer.unk_id(), 0);
  EXPECT_EQ(tokenizer.encode("The CAT, tHe bird"), (Ids{4, 2, 0}));
  EXPECT_EQ(tokenizer.decode(Ids{4, 2, 0}), "cat , [UNK]");
}

TEST(TrainWords, StopWordsWithoutLowerCasingHaveTheirSpellings) {
  WordOptions options;
  options.stop_words = {"über"};
  const Tokenizer tokenizer = Tokenizer::train_words(texts({"über Über ÜBER übers x"}), options);
  EXPECT_EQ(tokenizer.decode(tokenizer.encode("über Über ÜBER übers x")), "übers x");
}

TEST(TrainWords, CanEndWordsAtWhiteSpaceOnly) {
  WordOptions options;
  options.split_punctuation = false;
  const Tokenizer tokenizer = Tokenizer::train_words(texts({"[MAX 2 [MIN 1 ] ]\n[MAX"}), options);
  // [MAX and ] twice, by bytes; then 1, 2, [MIN.
  EXPECT_EQ(tokenizer.encode("[MAX [MIN 1 ] ]"), (Ids{1, 5, 3, 2, 2}));
  EXPECT_EQ(tokenizer.encode("[MAX]"), (Ids{0}));
}

TEST(TrainWords, VocabularyHasARoof) {
  WordOptions options;
  options.max_vocab = 3;
  const Tokenizer tokenizer = Tokenizer::train_words(texts({"a a a b b c"}), options);
  EXPECT_EQ(tokenizer.vocab_size(), 3);
  EXPECT_EQ(tokenizer.encode("a b c"), (Ids{1, 2, 0}));
}

TEST(TrainWords, RefusesBadOptionsAndText) {
  WordOptions options;
  options.stop_words = {"don't"};
  EXPECT_THROW(Tokenizer::train_words(texts({"a"}), options), InputError);
  options.stop_words = {};
  options.min_count = 0;
  EXPECT_THROW(Tokenizer::train_words(texts({"a"}), options), InputError);
  options.min_count = 1;
  EXPECT_THROW(Tokenizer::train_words(texts({"a", "b\xFF"}), options), InputError);
  EXPECT_THROW(Tokenizer::train_words(texts({"a"}), options).encode("b\xFF"), InputError);
}

TEST(EnglishStopWords, AreOneWordEach) {
  WordOptions options;
  options.stop_words = english_stop_words();
  const Tokenizer tokenizer = Tokenizer::train_words(texts({"cat"}), options);
  EXPECT_THAT(tokenizer.encode("The cat and a cat is not there"),
              ElementsAre(1, 1, 0));  // "not" carries meaning
}

TEST(TrainBpe, TakesAnyBytesWithoutLoss) {
  const Tokenizer tokenizer = small_bpe();
  EXPECT_TRUE(tokenizer.takes_any_bytes());
  EXPECT_FALSE(tokenizer.unk_id().has_value());
  for (uint32_t seed = 0; seed < 50; ++seed) {
    const std::string bytes = random_bytes(seed, 300) + " the cat \n\xE4\xBD";
    const Ids ids = tokenizer.encode(bytes);
    EXPECT_EQ(tokenizer.decode_bytes(ids), bytes);
  }
}

TEST(TrainBpe, LearnsTheFrequentAndIsDeterministic) {
  const Tokenizer tokenizer = small_bpe();
  EXPECT_TRUE(tokenizer.token_to_id("\xC4\xA0the").has_value());  // Ġthe, twice; "the" starts once
  EXPECT_EQ(tokenizer.to_json(), small_bpe().to_json());
  EXPECT_LT(tokenizer.encode("the cat sat").size(), 5u);
  BpeOptions options;
  options.vocab_size = 255;
  EXPECT_THROW(Tokenizer::train_bpe(texts({"a"}), options), InputError);
}

TEST(TrainBpe, LearnsNothingFromSpecialTokens) {
  BpeOptions options;
  options.special_tokens = {"[MASK]"};
  std::string text;
  for (int i = 0; i < 100; ++i) text += "[MASK]x ";
  const Tokenizer tokenizer = Tokenizer::train_bpe(texts({text}), options);
  EXPECT_EQ(tokenizer.token_to_id("[MASK]"), tokenizer.vocab_size() - 1);
  EXPECT_FALSE(tokenizer.token_to_id("MASK").has_value());
}

TEST(Tokenizer, EmptyTextHasNoTokens) {
  EXPECT_TRUE(Tokenizer::byte_level().encode("").empty());
  EXPECT_TRUE(small_bpe().encode("").empty());
  EXPECT_EQ(small_bpe().decode({}), "");
}

TEST(Tokenizer, ReadsWhatItWrites) {
  WordOptions words;
  words.lowercase = true;
  words.stop_words = english_stop_words();
  words.special_tokens = {"[PAD]"};
  for (const Tokenizer& tokenizer :
       {Tokenizer::byte_level({"[PAD]"}), small_bpe(),
        Tokenizer::train_words(texts({"a cat and \"another\" \\ cat"}), words)}) {
    const Tokenizer again = Tokenizer::from_json(tokenizer.to_json(), "again");
    EXPECT_EQ(again.to_json(), tokenizer.to_json());
    EXPECT_EQ(again.encode("Another CAT [PAD] \\"), tokenizer.encode("Another CAT [PAD] \\"));
  }
}

TEST(Tokenizer, DecodeRefusesForeignIds) {
  EXPECT_THROW(Tokenizer::byte_level().decode(Ids{256}), InputError);
  EXPECT_THROW(Tokenizer::byte_level().decode(Ids{-1}), InputError);
}

TEST(Tokenizer, ThreadsAgree) {
  const Tokenizer tokenizer = small_bpe();
  std::string text;
  for (int i = 0; i < 2000; ++i) text += "the cats sat " + std::to_string(i * i) + "\n";
  const Ids expected = tokenizer.encode(text);
  std::vector<std::thread> threads;
  std::vector<Ids> found(4);
  for (Ids& ids : found) {
    threads.emplace_back([&] { ids = tokenizer.encode(text); });
  }
  for (std::thread& thread : threads) thread.join();
  for (const Ids& ids : found) EXPECT_EQ(ids, expected);
}

TEST(Tokenizer, LoadNamesTheFile) {
  try {
    Tokenizer::load("no/such/tokenizer.json");
    FAIL();
  } catch (const InputError& error) {
    EXPECT_THAT(error.what(), HasSubstr("no/such/tokenizer.json"));
  }
}

}  // namespace
}  // namespace fovea
