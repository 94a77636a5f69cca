#include "fovea/train/language_data.h"

#include <algorithm>
#include <filesystem>

#include "fovea/core/status.h"

namespace fovea::train {
namespace {

const std::vector<std::string> kTextField = {"text"};

// Whether the first record is JSON with a prompt and a completion. Standard input cannot be read
// twice.
bool has_completions(const std::string& path, data::DataOptions options) {
  const bool json = options.format == data::Format::kAuto || options.format == data::Format::kJsonl;
  if (!json || path == "-" || options.text_fields != kTextField ||
      std::filesystem::is_directory(path)) {
    return false;
  }
  options.format = data::Format::kJsonl;
  options.text_fields = {"prompt"};
  options.label_field = "completion";
  try {
    data::Example example;
    return data::open_examples(path, options)->next(example) && example.has_label;
  } catch (const InputError&) {
    return false;  // another format, or a fault that the real reader will tell
  }
}

std::vector<int32_t> tokens_of(const Tokenizer& tokenizer, const std::string& text,
                               const std::string& where) {
  try {
    return tokenizer.encode(text, /*add_special_tokens=*/false);
  } catch (const InputError& error) {
    throw InputError(where + ": " + error.what());
  }
}

}  // namespace

std::optional<int32_t> end_of_text(const Tokenizer& tokenizer) {
  for (const char* name : {kEndOfText, "<|end_of_text|>", "</s>", "<eos>", "[EOS]"}) {
    if (const auto id = tokenizer.token_to_id(name)) return id;
  }
  return std::nullopt;
}

std::vector<Piece> cut_pieces(int64_t tokens, int64_t first, int64_t max_length) {
  std::vector<Piece> pieces;
  for (int64_t begin = 0; begin + 1 < tokens; begin += max_length - 1) {
    const Piece piece = {begin, std::min(begin + max_length, tokens),
                         std::max<int64_t>(first - begin, 1)};
    if (piece.first < piece.end - piece.begin) pieces.push_back(piece);
  }
  return pieces;
}

LanguageReading language_reading(const std::string& path, const DataSection& data,
                                 std::string_view tokenizer_kind) {
  LanguageReading reading;
  reading.options = reader_options(data, tokenizer_kind);
  reading.options.require_label = false;
  reading.completions = has_completions(path, reading.options);
  if (reading.completions) {
    reading.options.format = data::Format::kJsonl;
    reading.options.text_fields = {"prompt"};
    reading.options.label_field = "completion";
    reading.options.require_label = true;
  }
  return reading;
}

data::DataOptions prompt_options(const DataSection& data, std::string_view tokenizer_kind) {
  data::DataOptions options = reader_options(data, tokenizer_kind);
  options.require_label = false;
  if (options.text_fields == kTextField) options.text_alias = "prompt";
  return options;
}

std::vector<int32_t> encode_prompt(const data::Example& example, const Tokenizer& tokenizer,
                                   int64_t max_length, int64_t& removed) {
  std::vector<int32_t> ids = tokens_of(tokenizer, example.text, place_of(example));
  if (ids.empty()) {
    throw InputError(place_of(example) +
                     ": expected a prompt of at least one token, found none; give the model a " +
                     "text to continue");
  }
  if (const auto end = end_of_text(tokenizer)) ids.insert(ids.begin(), *end);
  removed = std::max<int64_t>(static_cast<int64_t>(ids.size()) - (max_length - 1), 0);
  ids.erase(ids.begin(), ids.begin() + removed);
  return ids;
}

LanguageExamples encode_texts(const std::string& path, const LanguageReading& reading,
                              const Tokenizer& tokenizer, const models::LanguageModelConfig& model,
                              const Selection& selected) {
  const std::optional<int32_t> end = end_of_text(tokenizer);
  const bool spells_all = end.has_value() && tokenizer.takes_any_bytes();
  const auto encode = [&](const data::Example& example) {
    Encoded encoded;
    std::vector<int32_t>& ids = encoded.ids;
    ids = tokens_of(tokenizer, example.text, place_of(example));
    if (reading.completions) {
      encoded.note = static_cast<int64_t>(ids.size());
      const auto completion = tokens_of(tokenizer, example.label, place_of(example));
      ids.insert(ids.end(), completion.begin(), completion.end());
    }
    if (end && !ids.empty()) {
      ids.insert(ids.begin(), *end);
      ids.push_back(*end);
      ++encoded.note;
    }
    return encoded;
  };
  LanguageExamples examples(model.vocab_size);
  const auto take = [&](const data::Example& example, const Encoded& encoded) {
    if (encoded.ids.empty()) return;
    const auto tokens = static_cast<int64_t>(encoded.ids.size());
    const std::span<const int32_t> ids = encoded.ids;
    const int64_t first = std::max<int64_t>(encoded.note, 1);
    const std::vector<Piece> pieces = cut_pieces(tokens, first, model.max_length);
    for (const Piece& piece : pieces) {
      examples.pieces.add(ids.subspan(static_cast<size_t>(piece.begin),
                                      static_cast<size_t>(piece.end - piece.begin)),
                          piece.first, 0);
    }
    ++examples.documents;
    if (tokens > model.max_length) ++examples.cut;
    examples.targets += tokens - std::min(first, tokens);
    examples.unused_tokens += pieces.empty() ? tokens : pieces.front().begin;
    if (spells_all) {
      const std::string& predicted = reading.completions ? example.label : example.text;
      examples.bytes += static_cast<int64_t>(predicted.size());
    }
  };
  encode_in_order(path, reading.options, selected, encode, take);
  if (examples.targets == 0) {
    throw InputError(path + ": expected texts with tokens to be predicted, found " +
                     (examples.documents == 0
                          ? std::string("no text")
                          : std::to_string(examples.documents) + " of a single token each"));
  }
  return examples;
}

}  // namespace fovea::train
