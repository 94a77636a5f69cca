#include "fovea/train/classifier_data.h"

#include <algorithm>
#include <charconv>
#include <set>
#include <unordered_map>

#include "fovea/core/log.h"
#include "fovea/core/parallel.h"
#include "fovea/core/status.h"
#include "fovea/io/suggest.h"
#include "fovea/train/progress.h"

namespace fovea::train {
namespace {

bool parse_integer(const std::string& text, int64_t& value) {
  const char* end = text.data() + text.size();
  const auto [last, status] = std::from_chars(text.data(), end, value);
  return status == std::errc() && last == end;
}

std::string place(const data::Example& example) {
  return example.line > 0 ? example.file + ":" + std::to_string(example.line) : example.file;
}

// Texts that are encoded together: enough to keep all threads busy, little to hold.
struct Chunk {
  static constexpr size_t kExamples = 1024;
  static constexpr size_t kBytes = 8u << 20;
  std::vector<data::Example> examples;
  size_t bytes = 0;
  bool full() const { return examples.size() >= kExamples || bytes >= kBytes; }
};

std::string joined(const std::vector<std::string>& labels) {
  std::string text;
  for (size_t i = 0; i < labels.size() && i < 20; ++i) text += (i ? ", " : "") + labels[i];
  return labels.size() > 20 ? text + ", …" : text;
}

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

std::vector<std::string> read_labels(const std::string& path, const data::DataOptions& options) {
  const auto reader = data::open_examples(path, options);
  std::vector<std::string> labels;
  data::Example example;
  while (reader->next(example)) labels.push_back(example.label);
  return labels;
}

std::vector<std::string> distinct_labels(const std::vector<std::string>& labels,
                                         const std::string& path) {
  const std::set<std::string> distinct(labels.begin(), labels.end());
  std::vector<std::string> sorted(distinct.begin(), distinct.end());
  if (sorted.size() < 2) {
    throw InputError(path + ": expected examples of at least two labels, found " +
                     (sorted.empty() ? "none" : "only \"" + sorted[0] + "\""));
  }
  int64_t a = 0, b = 0;
  const bool integers = std::all_of(sorted.begin(), sorted.end(), [&](const std::string& label) {
    return parse_integer(label, a);
  });
  if (integers) {
    std::stable_sort(sorted.begin(), sorted.end(), [&](const auto& x, const auto& y) {
      return parse_integer(x, a) && parse_integer(y, b) && a < b;
    });
  }
  return sorted;
}

Tokenizer make_tokenizer(const RunConfig& config, const data::DataOptions& options,
                         const Selection& selected) {
  const TokenizerSection& c = config.tokenizer;
  if (!c.file.empty()) return Tokenizer::load(c.file);
  if (c.kind == "byte") return Tokenizer::byte_level();
  log_info("making a " + c.kind + " vocabulary from " + config.data.train);
  const auto reader = data::open_examples(config.data.train, options);
  data::Example example;
  int64_t number = 0;
  const TextSource source = [&](std::string& text) {
    while (reader->next(example)) {
      if (selected && !selected(number++)) continue;
      text.swap(example.text);
      return true;
    }
    return false;
  };
  if (c.kind == "word") {
    WordOptions words;
    words.split_punctuation = c.split == "punctuation";
    words.lowercase = c.lowercase;
    words.min_count = c.min_count;
    if (c.vocab_size > 0) words.max_vocab = c.vocab_size;
    if (c.stop_words == "english") words.stop_words = english_stop_words();
    return Tokenizer::train_words(source, words);
  }
  BpeOptions bpe;
  if (c.vocab_size > 0) bpe.vocab_size = c.vocab_size;
  bpe.min_frequency = c.min_count;
  return Tokenizer::train_bpe(source, bpe);
}

std::vector<int32_t> encode_text(const Tokenizer& tokenizer, const std::string& text,
                                 int64_t max_length, Truncate truncate, const std::string& where,
                                 int64_t& removed) {
  std::vector<int32_t> ids;
  try {
    ids = tokenizer.encode(text);
    if (ids.empty()) ids = tokenizer.encode(" ");
  } catch (const InputError& error) {
    throw InputError(where + ": " + error.what());
  }
  if (ids.empty()) ids.push_back(tokenizer.unk_id().value_or(0));
  removed = truncate_ids(ids, max_length, truncate);
  return ids;
}

Examples encode_examples(const std::string& path, const data::DataOptions& options,
                         const Tokenizer& tokenizer, const models::TextClassifierConfig& model,
                         Truncate truncate, const Selection& selected) {
  std::unordered_map<std::string, int64_t> label_ids;
  for (const std::string& label : model.labels) {
    label_ids.emplace(label, static_cast<int64_t>(label_ids.size()));
  }
  Examples examples(model.vocab_size);
  Progress progress("reading " + path, 0);
  const auto reader = data::open_examples(path, options);
  const auto encode = [&](const Chunk& chunk) {
    std::vector<std::vector<int32_t>> ids(chunk.examples.size());
    std::vector<int64_t> removed(chunk.examples.size());
    parallel_for(static_cast<int64_t>(ids.size()), [&](int64_t i, int) {
      const auto n = static_cast<size_t>(i);
      ids[n] = encode_text(tokenizer, chunk.examples[n].text, model.max_length, truncate,
                           place(chunk.examples[n]), removed[n]);
    });
    for (size_t i = 0; i < ids.size(); ++i) {
      const data::Example& example = chunk.examples[i];
      const auto found = label_ids.find(example.label);
      if (found == label_ids.end()) {
        throw InputError(place(example) + ": label \"" + example.label +
                         "\" is not among the model's labels (" + joined(model.labels) + ")" +
                         io::suggestion(example.label, model.labels));
      }
      examples.add(ids[i], found->second, removed[i]);
    }
    progress.update(0, std::to_string(examples.size()) + " examples, " +
                           format_count(static_cast<double>(examples.tokens())) + " tokens");
  };
  Chunk chunk;
  int64_t number = 0;
  for (data::Example example; reader->next(example);) {
    if (selected && !selected(number++)) continue;
    chunk.bytes += example.text.size();
    chunk.examples.push_back(std::move(example));
    if (chunk.full()) {
      encode(chunk);
      chunk = {};
    }
  }
  encode(chunk);
  return examples;
}

}  // namespace fovea::train
