// Reads and writes tokenizer.json.

#include <algorithm>
#include <set>

#include <nlohmann/json.hpp>

#include "fovea/core/status.h"
#include "fovea/text/byte_alphabet.h"
#include "fovea/text/tokenizer_impl.h"
#include "fovea/text/vocabulary.h"

namespace fovea {
namespace {

using nlohmann::json;
using Impl = Tokenizer::Impl;

json copy_of(const JsonField& root, const char* key) {
  const auto field = root.find(key);
  return field ? field->value() : json(nullptr);
}

void read_model(const JsonField& root, Impl& impl) {
  const JsonField config = root.at("model");
  const auto named = config.find("type");
  // Files of old releases of the package have no type.
  const std::string type = named ? named->string() : config.find("merges") ? "BPE" : "WordLevel";
  if (type == "BPE") {
    impl.model.emplace<BpeModel>(config, impl.pre_tokenizer.byte_level());
    for (const JsonField& merge : config.at("merges").elements()) {
      if (merge.value().is_array()) {
        impl.merges.push_back(merge.value());
      } else {
        const std::string pair = merge.string();
        const size_t space = pair.find(' ');
        impl.merges.push_back({pair.substr(0, space), pair.substr(space + 1)});
      }
    }
    if (impl.merges.is_null()) impl.merges = json::array();
  } else if (type == "WordLevel") {
    impl.model.emplace<WordModel>(config, impl.pre_tokenizer.byte_level());
  } else {
    (named ? *named : config).fail("a model that fovea supports (BPE, WordLevel)");
  }
  for (const auto& [key, value] : config.value().items()) {
    if (key != "vocab" && key != "merges") impl.model_options[key] = value;
  }
  impl.model_options["type"] = type;
}

int32_t model_id(const Impl& impl, const std::string& token) {
  const int32_t number = impl.spellings.find(token);
  return number < 0 ? -1 : impl.spelling_ids[number];
}

// The package numbers added tokens itself: those of the model keep their id, the others follow the
// model's count. A file that says otherwise would mean different ids in different programs.
void read_added_tokens(const JsonField& root, Impl& impl) {
  const auto list = root.find("added_tokens");
  if (!list) return;
  auto next = static_cast<int32_t>(impl.vocab().size());
  std::set<std::string> contents;
  std::set<int32_t> ids;
  for (const JsonField& field : list->elements()) {
    AddedToken token = read_added_token(field, impl.normalizer);
    const int32_t known = model_id(impl, token.content);
    const int32_t expected = known >= 0 ? known : next++;
    if (!contents.insert(token.content).second) field.fail("every content once");
    if (token.id != expected) field.at("id").fail("the id " + std::to_string(expected));
    if (!ids.insert(token.id).second) field.at("id").fail("an id that no other token has");
    impl.added.push_back(std::move(token));
  }
}

void set_finders(Impl& impl) {
  std::vector<AddedToken> raw, normalized;
  for (const AddedToken& token : impl.added) {
    (token.normalized ? normalized : raw).push_back(token);
  }
  impl.raw_finder = TokenFinder(std::move(raw));
  impl.normalized_finder = TokenFinder(std::move(normalized));
}

std::string decoded(const Impl& impl, const std::string& token) {
  if (!impl.byte_level_decoder) return token;
  return from_byte_alphabet(token).value_or(token);
}

void set_token(Impl& impl, int32_t id, const std::string& spelling, const std::string& decoded_from,
               bool skipped) {
  if (static_cast<size_t>(id) >= impl.tokens.size())
    impl.tokens.resize(static_cast<size_t>(id) + 1);
  impl.tokens[id] = {true, skipped, spelling, decoded(impl, decoded_from)};
}

void read_decoder(const JsonField& root, Impl& impl) {
  const auto config = root.find("decoder");
  if (!config) return;
  const JsonField type = config->at("type");
  if (type.string() != "ByteLevel") type.fail("a decoder that fovea supports (ByteLevel, or null)");
  impl.byte_level_decoder = true;
}

void read_template(const JsonField& config, Impl& impl) {
  if (!impl.single_template.empty()) config.fail("one TemplateProcessing at most");
  for (const JsonField& piece : config.at("single").elements()) {
    if (const auto sequence = piece.find("Sequence")) {
      const JsonField id = sequence->at("id");
      if (id.string() != "A") id.fail("\"A\" in the template of a single text");
      impl.single_template.push_back(std::nullopt);
      continue;
    }
    const JsonField name = piece.at("SpecialToken").at("id");
    const JsonField token = config.at("special_tokens").at(name.string().c_str());
    for (const JsonField& id : token.at("ids").elements()) {
      const int32_t value = id.id();
      if (static_cast<size_t>(value) >= impl.tokens.size() || !impl.tokens[value].used) {
        id.fail("the id of a token");
      }
      impl.single_template.push_back(value);
    }
  }
  if (impl.single_template.empty()) config.at("single").fail("at least one piece");
}

void read_post_processor(const JsonField& config, Impl& impl) {
  const JsonField type = config.at("type");
  const std::string name = type.string();
  if (name == "Sequence") {
    for (const JsonField& part : config.at("processors").elements()) {
      read_post_processor(part, impl);
    }
  } else if (name == "TemplateProcessing") {
    read_template(config, impl);
  } else if (name != "ByteLevel") {  // which only trims offsets
    type.fail("a post-processor that fovea supports (ByteLevel, TemplateProcessing, Sequence)");
  }
}

void set_spellings(Impl& impl) {
  const auto add = [&](const std::string& token, int32_t id) {
    if (impl.spellings.add(token) == static_cast<int32_t>(impl.spelling_ids.size())) {
      impl.spelling_ids.push_back(id);
    }
  };
  for (const auto& [token, id] : impl.vocab()) add(token, id);
  for (const AddedToken& token : impl.added) add(token.content, token.id);
}

void set_tokens(Impl& impl) {
  std::set<std::string> special;
  for (const AddedToken& token : impl.added) {
    if (token.special) special.insert(token.content);
  }
  for (const auto& [token, id] : impl.vocab()) {
    set_token(impl, id, token, token, special.contains(token));
  }
  // A normalized token is decoded from its normalized form, as the package does.
  for (const AddedToken& token : impl.added) {
    set_token(impl, token.id, token.content, token.pattern, special.contains(token.pattern));
  }
  for (const char* name : {"[PAD]", "<pad>", "<PAD>", "<|padding|>"}) {
    const int32_t id = special.contains(name) ? model_id(impl, name) : -1;
    if (id >= 0 && !impl.pad_id) impl.pad_id = id;
  }
}

// What follows from the parts.
void set_kind(Impl& impl) {
  impl.takes_any_bytes = impl.normalizer.empty() && impl.pre_tokenizer.takes_any_bytes();
  const auto* bpe = std::get_if<BpeModel>(&impl.model);
  if (bpe == nullptr) {
    impl.kind = "word";
    const int32_t unk_id = std::get<WordModel>(impl.model).unk_id;
    if (unk_id >= 0) impl.unk_id = unk_id;
    return;
  }
  if (bpe->unk_id() >= 0) impl.unk_id = bpe->unk_id();
  const auto& bytes = bpe->byte_ids();
  const bool all_bytes =
      std::all_of(bytes.begin(), bytes.end(), [](int32_t id) { return id >= 0; });
  impl.plain_bytes = impl.pre_tokenizer.whole_bytes() && !bpe->has_merges() && all_bytes &&
                     bpe->vocab().size() == bytes.size();
  impl.kind = impl.plain_bytes ? "byte" : "bpe";
}

}  // namespace

WordModel::WordModel(const JsonField& config, bool bytes)
    : vocab(read_vocabulary(config.at("vocab"))), unk_token(config.at("unk_token").string()) {
  for (const auto& [word, id] : vocab) {
    if (word == unk_token) unk_id = id;
    // With ByteLevel, pieces are bytes; a word outside the byte alphabet can never be met.
    const auto string = bytes ? from_byte_alphabet(word) : word;
    if (!string) continue;
    words.add(*string);
    word_ids.push_back(id);
  }
}

const std::vector<std::pair<std::string, int32_t>>& Tokenizer::Impl::vocab() const {
  if (const auto* bpe = std::get_if<BpeModel>(&model)) return bpe->vocab();
  return std::get<WordModel>(model).vocab;
}

Tokenizer Tokenizer::from_json(std::string_view json, std::string_view source) {
  const nlohmann::json document = parse_json(json, source);
  const JsonField root(document, std::string(source) + ": ");
  if (!document.is_object()) root.fail("an object");
  if (const auto version = root.find("version"); version && version->string() != "1.0") {
    version->fail("\"1.0\"");
  }
  for (const char* name : {"truncation", "padding"}) {
    if (const auto field = root.find(name)) field->fail("null (lengths are the caller's affair)");
  }
  auto impl = std::make_shared<Impl>();
  if (const auto config = root.find("normalizer")) impl->normalizer = Normalizer(*config);
  if (const auto config = root.find("pre_tokenizer")) impl->pre_tokenizer = PreTokenizer(*config);
  impl->normalizer_config = copy_of(root, "normalizer");
  impl->pre_tokenizer_config = copy_of(root, "pre_tokenizer");
  impl->post_processor_config = copy_of(root, "post_processor");
  impl->decoder_config = copy_of(root, "decoder");
  read_model(root, *impl);
  if (impl->vocab().empty()) root.at("model").at("vocab").fail("at least one token");
  set_spellings(*impl);
  read_added_tokens(root, *impl);
  set_spellings(*impl);
  set_finders(*impl);
  read_decoder(root, *impl);
  set_tokens(*impl);
  if (const auto config = root.find("post_processor")) read_post_processor(*config, *impl);
  set_kind(*impl);
  return Tokenizer(std::move(impl));
}

AddedToken special_token(const std::string& content, int32_t id) {
  AddedToken token;
  token.content = token.pattern = content;
  token.id = id;
  token.normalized = false;
  token.special = true;
  return token;
}

std::string write_tokenizer_json(const TokenizerParts& parts) {
  std::string text = "{\n  \"version\": \"1.0\",\n  \"truncation\": null,\n  \"padding\": null,\n";
  text += "  \"added_tokens\": [";
  const char* separator = "\n    ";
  for (const AddedToken& token : parts.added) {
    text += separator + json{{"id", token.id},
                             {"content", token.content},
                             {"single_word", token.single_word},
                             {"lstrip", token.lstrip},
                             {"rstrip", token.rstrip},
                             {"normalized", token.normalized},
                             {"special", token.special}}
                            .dump();
    separator = ",\n    ";
  }
  text += "],\n  \"normalizer\": " + parts.normalizer.dump();
  text += ",\n  \"pre_tokenizer\": " + parts.pre_tokenizer.dump();
  text += ",\n  \"post_processor\": " + parts.post_processor.dump();
  text += ",\n  \"decoder\": " + parts.decoder.dump();
  text += ",\n  \"model\": {\n";
  for (const auto& [key, value] : parts.model.items()) {
    text += "    " + json(key).dump() + ": " + value.dump() + ",\n";
  }
  text += "    \"vocab\": {";
  separator = "\n      ";
  for (const auto& [token, id] : parts.vocab) {
    text += separator + json(token).dump() + ": " + std::to_string(id);
    separator = ",\n      ";
  }
  text += "\n    }";
  if (!parts.merges.is_null()) {
    text += ",\n    \"merges\": [";
    separator = "\n      ";
    for (const json& merge : parts.merges) {
      text += separator + merge.dump();
      separator = ",\n      ";
    }
    text += "]";
  }
  return text + "\n  }\n}\n";
}

std::string Tokenizer::to_json() const {
  TokenizerParts parts;
  parts.normalizer = impl_->normalizer_config;
  parts.pre_tokenizer = impl_->pre_tokenizer_config;
  parts.post_processor = impl_->post_processor_config;
  parts.decoder = impl_->decoder_config;
  parts.model = impl_->model_options;
  parts.vocab = impl_->vocab();
  parts.merges = impl_->merges;
  parts.added = impl_->added;
  return write_tokenizer_json(parts);
}

}  // namespace fovea
