#pragma once

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "fovea/models/language_model/config.h"
#include "fovea/train/examples.h"
#include "fovea/train/text_data.h"

namespace fovea::train {

/// The special token that tokenizers made for a language model get.
inline constexpr const char* kEndOfText = "<|endoftext|>";

/// Id of the token that stands between texts: <|endoftext|>, <|end_of_text|>, </s>, <eos> or [EOS],
/// the first that the tokenizer has.
std::optional<int32_t> end_of_text(const Tokenizer& tokenizer);

/// A part of a document: tokens [begin, end) of it, of which those from `first` on (counted from
/// `begin`, at least 1) are to be predicted, each from all before it in the piece.
struct Piece {
  int64_t begin = 0, end = 0, first = 1;
  friend bool operator==(const Piece&, const Piece&) = default;
};

/// Pieces of at most `max_length` (>= 2) tokens, in order, that overlap by one token: each token
/// from max(first, 1) on is predicted in exactly one. Pieces without a target are left out.
std::vector<Piece> cut_pieces(int64_t tokens, int64_t first, int64_t max_length);

/// Tokenized documents of a language model.
struct LanguageExamples {
  explicit LanguageExamples(int64_t vocab_size) : pieces(vocab_size) {}

  Examples pieces;            ///< the label of a piece is Piece::first
  int64_t documents = 0;      ///< that have any token
  int64_t cut = 0;            ///< documents that became several pieces
  int64_t unused_tokens = 0;  ///< of pieces without a target: long prompts
  int64_t targets = 0;
  int64_t bytes = 0;  ///< of the predicted text; 0 where tokens do not spell all of it

  /// Losses of a piece.
  int64_t targets_of(int64_t piece) const {
    return pieces.lengths()[static_cast<size_t>(piece)] - pieces.label(piece);
  }
};

/// How a language model's files are read: texts without labels, a line or a JSONL `text` each; or,
/// where the first record of a JSONL file has the fields, a `prompt` with its `completion`.
struct LanguageReading {
  data::DataOptions options;
  bool completions = false;  ///< the example's text is the prompt, its label the completion
};
LanguageReading language_reading(const std::string& path, const DataSection& data,
                                 std::string_view tokenizer_kind);

/// How prompts are read: a line or a file each, or the field `prompt` or `text` of JSONL.
data::DataOptions prompt_options(const DataSection& data, std::string_view tokenizer_kind);

/// Tokens of a prompt as the model saw texts begin: end-of-text, where the tokenizer has it, and
/// the text's own. Of a prompt as long as `max_length` the last max_length - 1 stay; `removed`
/// tells how many do not. Throws InputError that names the place of a text without tokens.
std::vector<int32_t> encode_prompt(const data::Example& example, const Tokenizer& tokenizer,
                                   int64_t max_length, int64_t& removed);

/// Reads and tokenizes the selected texts of a file. A text becomes end-of-text, its tokens,
/// end-of-text, where the tokenizer has that token, and all but the first are targets; with a
/// completion, only its tokens and the last end-of-text. Throws InputError where no text is found.
LanguageExamples encode_texts(const std::string& path, const LanguageReading& reading,
                              const Tokenizer& tokenizer, const models::LanguageModelConfig& model,
                              const Selection& selected);

}  // namespace fovea::train
