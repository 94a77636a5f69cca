#include <cstdio>
#include <fstream>
#include <iostream>
#include <memory>
#include <string>
#include <vector>

#include "tools/cli/commands.h"
#include <nlohmann/json.hpp>

#include "fovea/core/log.h"
#include "fovea/core/status.h"
#include "fovea/io/atomic_file.h"
#include "fovea/text/tokenizer.h"
#include "fovea/text/utf8.h"

namespace fovea::cli {
namespace {

using nlohmann::json;

// The lines of files, "-" being stdin, one by one; a line keeps its end if `keep_ends`.
class Lines {
 public:
  Lines(std::vector<std::string> files, bool keep_ends)
      : files_(std::move(files)), keep_ends_(keep_ends) {}

  bool next(std::string& line) {
    while (stream_ == nullptr || !std::getline(*stream_, line)) {
      if (stream_ != nullptr && stream_->bad()) throw InputError(where() + ": cannot be read");
      if (!open_next()) return false;
    }
    ++number_;
    if (keep_ends_ && !stream_->eof()) line.push_back('\n');
    return true;
  }

  std::string where() const { return name_ + ":" + std::to_string(number_); }

 private:
  bool open_next() {
    if (file_ == files_.size()) return false;
    const std::string& path = files_[file_++];
    number_ = 0;
    name_ = path == "-" ? "<stdin>" : path;
    stream_ = &std::cin;
    if (path == "-") return true;
    opened_ = std::ifstream(path, std::ios::binary);
    stream_ = &opened_;
    if (!opened_) throw InputError(path + ": cannot be opened; expected a text file");
    return true;
  }

  std::vector<std::string> files_;
  bool keep_ends_;
  size_t file_ = 0;
  std::ifstream opened_;
  std::istream* stream_ = nullptr;
  std::string name_;
  int64_t number_ = 0;
};

json parse_line(const std::string& line, const std::string& where) {
  try {
    return json::parse(line);
  } catch (const json::exception& error) {
    throw InputError(where + ": not valid JSON: " + error.what());
  }
}

// What a text may be: with "replace", broken UTF-8 becomes U+FFFD; otherwise it is an error.
void check_encoding(std::string& text, const std::string& errors, const std::string& where) {
  if (errors == "replace") {
    text = replace_invalid_utf8(text);
  } else {
    require_utf8(text, where);
  }
}

CLI::Option* add_encoding_errors(CLI::App* command, std::string& errors) {
  return command
      ->add_option(
          "--encoding-errors", errors,
          "Broken UTF-8: strict stops, replace reads U+FFFD (byte-level tokenizers take any "
          "bytes)")
      ->check(CLI::IsMember({"strict", "replace"}));
}

struct TrainOptions {
  std::string type = "bpe", out, stop_words, field, errors = "strict";
  std::vector<std::string> inputs, special_tokens;
  int64_t vocab_size = 0, min_count = 0;
  bool lowercase = false, split_whitespace = false;
};

std::vector<std::string> read_stop_words(const std::string& source) {
  if (source.empty()) return {};
  if (source == "english") return english_stop_words();
  std::vector<std::string> words;
  Lines lines({source}, false);
  for (std::string line; lines.next(line);) {
    if (line.ends_with('\r')) line.pop_back();
    if (!line.empty()) words.push_back(line);
  }
  return words;
}

Tokenizer train(const TrainOptions& o) {
  if (o.type != "word" && (o.lowercase || o.split_whitespace || !o.stop_words.empty())) {
    throw InputError(
        "--lowercase, --split-whitespace and --stop-words: only --type word has them, found "
        "--type " +
        o.type);
  }
  if (o.type == "byte") return Tokenizer::byte_level(o.special_tokens);
  if (o.inputs.empty()) throw InputError("--input: expected the files to learn from, found none");
  Lines lines(o.inputs, o.field.empty());
  const TextSource corpus = [&](std::string& text) {
    if (!lines.next(text)) return false;
    if (!o.field.empty()) {
      const json record = parse_line(text, lines.where());
      if (!record.is_object() || !record.contains(o.field) || !record[o.field].is_string()) {
        throw InputError(lines.where() + ": field \"" + o.field + "\": expected a string");
      }
      text = record[o.field].get<std::string>();
    }
    check_encoding(text, o.errors, lines.where());
    return true;
  };
  if (o.type == "word") {
    WordOptions options;
    options.split_punctuation = !o.split_whitespace;
    options.lowercase = o.lowercase;
    options.stop_words = read_stop_words(o.stop_words);
    options.special_tokens = o.special_tokens;
    if (o.vocab_size != 0) options.max_vocab = o.vocab_size;
    if (o.min_count != 0) options.min_count = o.min_count;
    return Tokenizer::train_words(corpus, options);
  }
  BpeOptions options;
  options.special_tokens = o.special_tokens;
  if (o.vocab_size != 0) options.vocab_size = o.vocab_size;
  if (o.min_count != 0) options.min_frequency = o.min_count;
  return Tokenizer::train_bpe(corpus, options);
}

void add_train(CLI::App* tokenizer) {
  CLI::App* command = tokenizer->add_subcommand("train", "Learn a tokenizer from text");
  command->footer(
      "    fovea tokenizer train --type bpe --input a.txt b.txt --vocab-size 16384 "
      "--out tokenizer.json\n"
      "The result is a Hugging Face tokenizer.json.");
  auto o = std::make_shared<TrainOptions>();
  command->add_option("--type", o->type, "byte, word or bpe")
      ->check(CLI::IsMember({"byte", "word", "bpe"}));
  command->add_option("--input", o->inputs, "Text files; - is stdin");
  command->add_option("--jsonl-field", o->field,
                      "The input is JSONL: learn from this field of each line");
  command->add_option("--out", o->out, "File to write")->required();
  command->add_option("--vocab-size", o->vocab_size, "Entries at most")->check(CLI::PositiveNumber);
  command->add_option("--min-count", o->min_count, "Rarer words (bpe: pairs) are left out")
      ->check(CLI::PositiveNumber);
  command->add_flag("--lowercase", o->lowercase, "word: lower-case the text");
  command->add_flag("--split-whitespace", o->split_whitespace,
                    "word: a word ends at white space only, not at punctuation");
  command->add_option("--stop-words", o->stop_words,
                      "word: words to drop: a file with one a line, or english");
  command->add_option("--special-tokens", o->special_tokens, "Tokens with the last ids: [PAD] …");
  add_encoding_errors(command, o->errors);
  command->callback([o] {
    const Tokenizer result = train(*o);
    io::write_file(o->out, result.to_json());
    log_info("wrote " + o->out + ": " + std::string(result.kind()) + ", " +
             std::to_string(result.vocab_size()) + " tokens");
  });
}

struct CodeOptions {
  std::string tokenizer, errors = "strict";
  bool json_strings = false, no_special = false, keep_special = false;
};

void write_line(const std::string& line) {
  if (std::fwrite(line.data(), 1, line.size(), stdout) != line.size() ||
      std::fputc('\n', stdout) == EOF) {
    throw Error(ErrorCode::kFailed, "cannot write to stdout");
  }
}

void encode_lines(const CodeOptions& o) {
  const Tokenizer tokenizer = Tokenizer::load(o.tokenizer);
  Lines lines({"-"}, false);
  for (std::string line; lines.next(line);) {
    if (o.json_strings) {
      const json text = parse_line(line, lines.where());
      if (!text.is_string()) throw InputError(lines.where() + ": expected a JSON string");
      line = text.get<std::string>();
    } else if (!tokenizer.takes_any_bytes()) {
      check_encoding(line, o.errors, lines.where());
    }
    write_line(json{{"ids", tokenizer.encode(line, !o.no_special)}}.dump());
  }
}

std::vector<int32_t> read_ids(const json& value, const std::string& where) {
  const json& list = value.is_object() && value.contains("ids") ? value["ids"] : value;
  if (!list.is_array()) throw InputError(where + ": expected {\"ids\": […]} or […]");
  std::vector<int32_t> ids;
  for (const json& id : list) {
    if (!id.is_number_unsigned() || id.get<uint64_t>() > INT32_MAX) {
      throw InputError(where + ": field \"ids\": expected token ids, found " + id.dump());
    }
    ids.push_back(id.get<int32_t>());
  }
  return ids;
}

void decode_lines(const CodeOptions& o) {
  const Tokenizer tokenizer = Tokenizer::load(o.tokenizer);
  Lines lines({"-"}, false);
  for (std::string line; lines.next(line);) {
    const std::vector<int32_t> ids = read_ids(parse_line(line, lines.where()), lines.where());
    if (o.json_strings) {
      write_line(json(tokenizer.decode(ids, !o.keep_special)).dump());
    } else {
      write_line(tokenizer.decode_bytes(ids, !o.keep_special));
    }
  }
}

void add_tokenizer(CLI::App& app) {
  CLI::App* command = app.add_subcommand("tokenizer", "Train and use tokenizers");
  command->require_subcommand(1);
  add_train(command);

  auto encoding = std::make_shared<CodeOptions>();
  CLI::App* encode = command->add_subcommand("encode", "Lines of stdin to lines {\"ids\": […]}");
  encode->add_option("--tokenizer", encoding->tokenizer, "A tokenizer.json")->required();
  encode->add_flag("--json", encoding->json_strings, "Each line is a JSON string");
  encode->add_flag("--no-special-tokens", encoding->no_special,
                   "Leave out what the post-processor adds");
  add_encoding_errors(encode, encoding->errors);
  encode->callback([encoding] { encode_lines(*encoding); });

  auto decoding = std::make_shared<CodeOptions>();
  CLI::App* decode = command->add_subcommand("decode", "Lines {\"ids\": […]} of stdin to text");
  decode->add_option("--tokenizer", decoding->tokenizer, "A tokenizer.json")->required();
  decode->add_flag("--json", decoding->json_strings, "Write each text as a JSON string");
  decode->add_flag("--special-tokens", decoding->keep_special, "Write special tokens too");
  decode->callback([decoding] { decode_lines(*decoding); });
}

const Registration registration("tokenizer", add_tokenizer);

}  // namespace
}  // namespace fovea::cli
