#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace fovea {

/// Gives the texts of a corpus one by one: stores the next into `text` and returns true, or
/// returns false at the end. Called from one thread.
using TextSource = std::function<bool(std::string& text)>;

/// What `Tokenizer::train_words` keeps and drops.
struct WordOptions {
  bool split_punctuation = true;        ///< false: words are what stands between white space
  bool lowercase = false;               ///< each character by itself: capital sigma gives U+03C3
  std::vector<std::string> stop_words;  ///< dropped from the text; also "The", "THE" for "the"
  int64_t min_count = 1;                ///< rarer words become [UNK]
  int64_t max_vocab = 50'000;           ///< entries at most, [UNK] and special tokens included
  std::vector<std::string> special_tokens;  ///< get the last ids, in this order
};

/// How many merges `Tokenizer::train_bpe` learns.
struct BpeOptions {
  int64_t vocab_size = 16'384;  ///< entries at most: 256 bytes, merges, special tokens; >= 256
  int64_t min_frequency = 2;    ///< a pair seen less often is not merged
  std::vector<std::string> special_tokens;  ///< get the last ids, in this order
};

/// Turns text into token ids and back, exactly as the `tokenizers` package does for the same
/// `tokenizer.json`.
///
/// Ids are in [0, vocab_size()). Supported parts of `tokenizer.json`: models BPE and WordLevel;
/// normalizers NFC, NFD, NFKC, NFKD, Lowercase, StripAccents, Strip, Replace (of a string),
/// Sequence; pre-tokenizers ByteLevel, Whitespace, WhitespaceSplit, Punctuation, Digits, Split,
/// Sequence; post-processors ByteLevel and TemplateProcessing; decoder ByteLevel or none; added
/// tokens. Anything else is refused by name when the file is read.
/// Cost: encoding is linear in the text. Threads: a loaded tokenizer is immutable; every member
/// may be called from any number of threads. A copy shares the tables.
///
///     Tokenizer tokenizer = Tokenizer::load("model/tokenizer.json");
///     std::vector<int32_t> ids = tokenizer.encode("long text");
class Tokenizer {
 public:
  /// Reads a `tokenizer.json` file. Throws InputError naming the file and the field at fault.
  static Tokenizer load(const std::filesystem::path& file);

  /// Reads the content of a `tokenizer.json`; `source` names it in errors. Throws InputError.
  static Tokenizer from_json(std::string_view json, std::string_view source);

  /// One token for each byte: id = byte value, vocab_size() = 256 + special tokens. Takes any
  /// bytes; `decode_bytes` gives them back. Mind that a special token's name inside a text is read
  /// as that token.
  static Tokenizer byte_level(std::vector<std::string> special_tokens = {});

  /// Words: runs of letters and digits; every punctuation mark and every Han character is a word
  /// of its own. Id 0 is [UNK]; then words by falling count, equal counts by their bytes.
  /// Throws InputError on invalid UTF-8, on min_count < 1, on a max_vocab with no room.
  static Tokenizer train_words(const TextSource& corpus, const WordOptions& options);

  /// Byte-level BPE with GPT-2's pre-tokenizer: no text is unknown. Ids 0..255 are the bytes in
  /// GPT-2's order, then merges in the order learned; the most frequent pair first, equal counts
  /// by smaller ids, so the result depends on the corpus only. Takes any bytes.
  /// Sennrich et al. 2016, "Neural Machine Translation of Rare Words with Subword Units".
  static Tokenizer train_bpe(const TextSource& corpus, const BpeOptions& options);

  /// The tokenizer as the content of a `tokenizer.json`; reading it gives an equal tokenizer.
  std::string to_json() const;

  /// Token ids of `text`. With `add_special_tokens`, those that the file's TemplateProcessing puts
  /// around a single text ([CLS], [SEP], …); without such a post-processor there are none.
  /// Throws InputError with the byte offset on invalid UTF-8, unless takes_any_bytes().
  std::vector<int32_t> encode(std::string_view text, bool add_special_tokens = true) const;

  /// Text of `ids` as valid UTF-8 (bytes that are none become U+FFFD, as Python's `replace` does);
  /// words are joined by spaces. Throws InputError on an id outside [0, vocab_size()).
  std::string decode(std::span<const int32_t> ids, bool skip_special_tokens = true) const;

  /// As `decode`, but with byte-level models the bytes themselves, valid UTF-8 or not.
  std::string decode_bytes(std::span<const int32_t> ids, bool skip_special_tokens = true) const;

  /// One more than the largest id: the rows an embedding needs.
  int64_t vocab_size() const;

  /// The string of an id as `tokenizer.json` spells it; nothing for an id without a token.
  std::optional<std::string> id_to_token(int32_t id) const;

  /// The id of a token as `tokenizer.json` spells it; nothing if there is none.
  std::optional<int32_t> token_to_id(std::string_view token) const;

  /// Id of the unknown token, if the model has one (byte-level models have none).
  std::optional<int32_t> unk_id() const;

  /// Id of the padding token: the special token [PAD], <pad>, <PAD> or <|padding|>, if any.
  std::optional<int32_t> pad_id() const;

  /// True if every string of bytes can be encoded (byte-level without normalizer), false if texts
  /// must be valid UTF-8.
  bool takes_any_bytes() const;

  /// "byte" (no merges, 256 bytes), "bpe" or "word".
  std::string_view kind() const;

  struct Impl;

 private:
  explicit Tokenizer(std::shared_ptr<const Impl> impl) : impl_(std::move(impl)) {}
  std::shared_ptr<const Impl> impl_;
};

/// Common English function words, in lower case and as pieces ("don", "t"), for
/// `WordOptions::stop_words`.
std::vector<std::string> english_stop_words();

}  // namespace fovea
