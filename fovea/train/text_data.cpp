#include "fovea/train/text_data.h"

#include "fovea/core/log.h"
#include "fovea/core/parallel.h"
#include "fovea/train/progress.h"

namespace fovea::train {
namespace {

// Texts that are encoded together: enough to keep all threads busy, little to hold.
struct Chunk {
  static constexpr size_t kExamples = 1024;
  static constexpr size_t kBytes = 8u << 20;
  std::vector<data::Example> examples;
  size_t bytes = 0;
  bool full() const { return examples.size() >= kExamples || bytes >= kBytes; }
};

}  // namespace

data::DataOptions reader_options(const DataSection& data, std::string_view tokenizer_kind) {
  data::DataOptions options;
  options.format = data::parse_format(data.format);
  options.text_fields = data.text;
  options.label_field = data.label;
  options.columns = data.columns;
  std::string errors = data.encoding_errors;
  if (errors == "auto") errors = tokenizer_kind == "byte" ? "bytes" : "strict";
  options.encoding_errors = data::parse_encoding_errors(errors);
  return options;
}

std::string tokenizer_kind(const TokenizerSection& config) {
  if (config.file.empty()) return config.kind;
  return std::string(Tokenizer::load(config.file).kind());
}

Tokenizer make_tokenizer(const TokenizerSection& c, const std::string& name,
                         const TextSource& source, std::vector<std::string> special_tokens) {
  if (!c.file.empty()) return Tokenizer::load(c.file);
  if (c.kind == "byte") return Tokenizer::byte_level(std::move(special_tokens));
  log_info("making a " + c.kind + " vocabulary from " + name);
  if (c.kind == "word") {
    WordOptions words;
    words.split_punctuation = c.split == "punctuation";
    words.lowercase = c.lowercase;
    words.min_count = c.min_count;
    if (c.vocab_size > 0) words.max_vocab = c.vocab_size;
    if (c.stop_words == "english") words.stop_words = english_stop_words();
    words.special_tokens = std::move(special_tokens);
    return Tokenizer::train_words(source, words);
  }
  BpeOptions bpe;
  if (c.vocab_size > 0) bpe.vocab_size = c.vocab_size;
  bpe.min_frequency = c.min_count;
  bpe.special_tokens = std::move(special_tokens);
  return Tokenizer::train_bpe(source, bpe);
}

void encode_in_order(const std::string& path, const data::DataOptions& options,
                     const Selection& selected,
                     const std::function<Encoded(const data::Example&)>& encode,
                     const std::function<void(const data::Example&, const Encoded&)>& take) {
  Progress progress("reading " + path, 0);
  int64_t examples = 0, tokens = 0;
  const auto hand_over = [&](const Chunk& chunk) {
    std::vector<Encoded> encoded(chunk.examples.size());
    parallel_for(static_cast<int64_t>(encoded.size()), [&](int64_t i, int) {
      encoded[static_cast<size_t>(i)] = encode(chunk.examples[static_cast<size_t>(i)]);
    });
    for (size_t i = 0; i < encoded.size(); ++i) {
      take(chunk.examples[i], encoded[i]);
      tokens += static_cast<int64_t>(encoded[i].ids.size());
    }
    examples += static_cast<int64_t>(encoded.size());
    progress.update(0, std::to_string(examples) + " examples, " +
                           format_count(static_cast<double>(tokens)) + " tokens");
  };
  const auto reader = data::open_examples(path, options);
  Chunk chunk;
  int64_t number = 0;
  for (data::Example example; reader->next(example);) {
    if (selected && !selected(number++)) continue;
    chunk.bytes += example.text.size() + example.label.size();
    chunk.examples.push_back(std::move(example));
    if (chunk.full()) {
      hand_over(chunk);
      chunk = {};
    }
  }
  hand_over(chunk);
}

std::string place_of(const data::Example& example) {
  return example.line > 0 ? example.file + ":" + std::to_string(example.line) : example.file;
}

}  // namespace fovea::train
