#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "fovea/text/json_field.h"

namespace fovea {

/// A text on its way through the steps of a pre-tokenizer.
struct SplitText {
  std::vector<std::string_view> pieces;  ///< none is empty
  std::vector<char> with_spaces;         ///< holds the pieces once ByteLevel put spaces before them
};

/// One step of a pre-tokenizer: splits every piece into none, one or more.
class SplitStep {
 public:
  virtual ~SplitStep() = default;
  virtual void apply(SplitText& text) const = 0;
};

/// The pre-tokenizer of a `tokenizer.json`: splits a text into the pieces that the model reads.
class PreTokenizer {
 public:
  /// The whole text is one piece.
  PreTokenizer() = default;

  /// Reads a pre-tokenizer's object. Throws InputError naming what is not supported.
  explicit PreTokenizer(const JsonField& config);

  /// Splits `text`, which must be valid UTF-8 unless takes_any_bytes().
  SplitText operator()(std::string_view text) const;

  /// True if the model reads bytes in GPT-2's byte alphabet instead of characters.
  bool byte_level() const { return byte_level_; }

  /// True if ByteLevel is the only step.
  bool takes_any_bytes() const { return byte_level_ && step_count_ == 1; }

  /// True if all of a text reaches the model as one piece of bytes.
  bool whole_bytes() const { return takes_any_bytes() && steps_.empty(); }

 private:
  void add(const JsonField& config);
  void add_byte_level(const JsonField& config);
  void add_split(const JsonField& config);
  std::vector<std::shared_ptr<const SplitStep>> steps_;
  int step_count_ = 0;
  bool byte_level_ = false;
};

/// Splits a text as GPT-2's pattern does and appends the pieces:
/// 's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
/// Bytes that are no UTF-8 count as characters that are neither letter, number nor space.
void split_gpt2(std::string_view text, std::vector<std::string_view>& pieces);

/// The pattern of a Split step that drops the pieces equal to one of `words`.
std::string whole_word_pattern(const std::vector<std::string>& words);

/// The words of a pattern made by whole_word_pattern (or written like it); empty if `pattern` is
/// another one.
std::vector<std::string> words_of_pattern(std::string_view pattern);

/// GPT-2's pattern, and a set of the Han characters: steps with these have scanners of their own.
extern const char kGpt2Pattern[];
extern const char kHanPattern[];

}  // namespace fovea
