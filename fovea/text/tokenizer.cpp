#include "fovea/text/tokenizer.h"

#include <algorithm>
#include <fstream>
#include <sstream>

#include "fovea/core/status.h"
#include "fovea/text/tokenizer_impl.h"
#include "fovea/text/utf8.h"
#include "fovea/text/vocabulary.h"

namespace fovea {

Tokenizer Tokenizer::load(const std::filesystem::path& file) {
  std::ifstream stream(file, std::ios::binary);
  std::ostringstream content;
  if (stream) content << stream.rdbuf();
  if (!stream || !content) {
    throw InputError(file.string() + ": cannot be read; expected a tokenizer.json");
  }
  return from_json(content.view(), file.string());
}

std::vector<int32_t> Tokenizer::encode(std::string_view text, bool add_special_tokens) const {
  const Impl& impl = *impl_;
  if (!impl.takes_any_bytes) require_utf8(text, "text to encode");
  std::vector<int32_t> ids;
  const auto add_text = [&] {
    impl.raw_finder.scan(
        text,
        [&](size_t begin, size_t end) {
          impl.encode_normalized(text.substr(begin, end - begin), ids);
        },
        [&](int32_t id) { ids.push_back(id); });
  };
  if (!add_special_tokens || impl.single_template.empty()) {
    add_text();
    return ids;
  }
  for (const std::optional<int32_t>& id : impl.single_template) {
    if (id) {
      ids.push_back(*id);
    } else {
      add_text();
    }
  }
  return ids;
}

int32_t WordModel::id(std::string_view piece) const {
  const int32_t number = words.find(piece);
  if (number >= 0) return word_ids[number];
  if (unk_id >= 0) return unk_id;
  throw InputError("text to encode: " + shown_token(piece) + " is not in the vocabulary, nor is " +
                   shown_token(unk_token) + " for unknown words; add that token and train again");
}

void Tokenizer::Impl::encode_normalized(std::string_view text, std::vector<int32_t>& ids) const {
  std::string normalized;
  if (!normalizer.empty()) {
    normalized = normalizer(text);
    text = normalized;
  }
  normalized_finder.scan(
      text, [&](size_t begin, size_t end) { encode_pieces(text.substr(begin, end - begin), ids); },
      [&](int32_t id) { ids.push_back(id); });
}

void Tokenizer::Impl::encode_pieces(std::string_view text, std::vector<int32_t>& ids) const {
  if (plain_bytes) {
    const auto& byte_ids = std::get<BpeModel>(model).byte_ids();
    ids.reserve(ids.size() + text.size());
    for (const char byte : text) ids.push_back(byte_ids[static_cast<uint8_t>(byte)]);
    return;
  }
  const SplitText split = pre_tokenizer(text);
  ids.reserve(ids.size() + split.pieces.size());
  if (const auto* bpe = std::get_if<BpeModel>(&model)) {
    for (const std::string_view piece : split.pieces) bpe->encode(piece, ids);
    return;
  }
  const WordModel& words = std::get<WordModel>(model);
  for (const std::string_view piece : split.pieces) ids.push_back(words.id(piece));
}

std::string Tokenizer::decode(std::span<const int32_t> ids, bool skip_special_tokens) const {
  return replace_invalid_utf8(decode_bytes(ids, skip_special_tokens));
}

std::string Tokenizer::decode_bytes(std::span<const int32_t> ids, bool skip_special_tokens) const {
  const Impl& impl = *impl_;
  std::string text;
  bool first = true;
  for (const int32_t id : ids) {
    if (id < 0 || id >= vocab_size()) {
      throw InputError("token id " + std::to_string(id) + ": expected one from 0 to " +
                       std::to_string(vocab_size() - 1) + "; is it another tokenizer's?");
    }
    const Impl::Token& token = impl.tokens[id];
    if (!token.used || (skip_special_tokens && token.skipped)) continue;
    if (!impl.byte_level_decoder && !first) text += ' ';
    first = false;
    text += token.decoded;
  }
  return text;
}

int64_t Tokenizer::vocab_size() const { return static_cast<int64_t>(impl_->tokens.size()); }

std::optional<std::string> Tokenizer::id_to_token(int32_t id) const {
  if (id < 0 || id >= vocab_size() || !impl_->tokens[id].used) return std::nullopt;
  return impl_->tokens[id].spelling;
}

std::optional<int32_t> Tokenizer::token_to_id(std::string_view token) const {
  const int32_t number = impl_->spellings.find(token);
  if (number < 0) return std::nullopt;
  return impl_->spelling_ids[number];
}

std::optional<int32_t> Tokenizer::unk_id() const { return impl_->unk_id; }
std::optional<int32_t> Tokenizer::pad_id() const { return impl_->pad_id; }
bool Tokenizer::takes_any_bytes() const { return impl_->takes_any_bytes; }
std::string_view Tokenizer::kind() const { return impl_->kind; }

}  // namespace fovea
