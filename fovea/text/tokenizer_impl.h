#pragma once

#include <memory>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include <nlohmann/json.hpp>

#include "fovea/text/added_tokens.h"
#include "fovea/text/bpe.h"
#include "fovea/text/normalizer.h"
#include "fovea/text/pre_tokenizer.h"
#include "fovea/text/string_table.h"
#include "fovea/text/tokenizer.h"

namespace fovea {

/// The model WordLevel of a `tokenizer.json`: a piece is a token or unknown.
struct WordModel {
  std::vector<std::pair<std::string, int32_t>> vocab;  // by id
  StringTable words;                                   // what pieces are compared with
  std::vector<int32_t> word_ids;                       // ids of words
  std::string unk_token;
  int32_t unk_id = -1;  // -1: the vocabulary has no such token

  WordModel(const JsonField& config, bool bytes);

  /// Throws InputError if the piece is unknown and there is no unknown token.
  int32_t id(std::string_view piece) const;
};

/// Everything a Tokenizer knows. Made by one reader, then never changed.
struct Tokenizer::Impl {
  struct Token {
    bool used = false;
    bool skipped = false;  // is special, so decode may leave it out
    std::string spelling;
    std::string decoded;  // its bytes (byte-level) or characters
  };

  Normalizer normalizer;
  PreTokenizer pre_tokenizer;
  std::variant<std::monostate, BpeModel, WordModel> model;
  std::vector<AddedToken> added;  // by id
  TokenFinder raw_finder;         // searched in the text
  TokenFinder normalized_finder;  // searched in the normalized text
  bool byte_level_decoder = false;
  std::vector<std::optional<int32_t>> single_template;  // ids; nothing = the text; empty = none
  std::vector<Token> tokens;                            // by id
  StringTable spellings;
  std::vector<int32_t> spelling_ids;
  std::optional<int32_t> unk_id, pad_id;
  std::string_view kind;
  bool takes_any_bytes = false;
  bool plain_bytes = false;  // a byte's token is all there is to know
  // Parts of the file that are written back as they were read.
  nlohmann::json normalizer_config, pre_tokenizer_config, post_processor_config, decoder_config;
  nlohmann::json model_options;  // the model without vocab and merges
  nlohmann::json merges;         // [[left, right], …]

  void encode_normalized(std::string_view text, std::vector<int32_t>& ids) const;
  void encode_pieces(std::string_view text, std::vector<int32_t>& ids) const;
  const std::vector<std::pair<std::string, int32_t>>& vocab() const;
};

/// The parts of a `tokenizer.json`; those that are absent are null.
struct TokenizerParts {
  nlohmann::json normalizer, pre_tokenizer, post_processor, decoder;
  nlohmann::json model;  // options, without vocab and merges
  std::vector<std::pair<std::string, int32_t>> vocab;
  nlohmann::json merges;  // null if the model has none
  std::vector<AddedToken> added;
};

/// The content of a `tokenizer.json`.
std::string write_tokenizer_json(const TokenizerParts& parts);

/// A special token as the trainers add them.
AddedToken special_token(const std::string& content, int32_t id);

}  // namespace fovea
