#include "fovea/train/classifier_data.h"

#include <algorithm>
#include <charconv>
#include <set>
#include <unordered_map>

#include "fovea/core/status.h"
#include "fovea/io/suggest.h"

namespace fovea::train {
namespace {

bool parse_integer(const std::string& text, int64_t& value) {
  const char* end = text.data() + text.size();
  const auto [last, status] = std::from_chars(text.data(), end, value);
  return status == std::errc() && last == end;
}

std::string joined(const std::vector<std::string>& labels) {
  std::string text;
  for (size_t i = 0; i < labels.size() && i < 20; ++i) text += (i ? ", " : "") + labels[i];
  return labels.size() > 20 ? text + ", …" : text;
}

}  // namespace

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
  const auto encode = [&](const data::Example& example) {
    Encoded encoded;
    encoded.ids = encode_text(tokenizer, example.text, model.max_length, truncate,
                              place_of(example), encoded.note);
    return encoded;
  };
  const auto take = [&](const data::Example& example, const Encoded& encoded) {
    const auto found = label_ids.find(example.label);
    if (found == label_ids.end()) {
      throw InputError(place_of(example) + ": label \"" + example.label +
                       "\" is not among the model's labels (" + joined(model.labels) + ")" +
                       io::suggestion(example.label, model.labels));
    }
    examples.add(encoded.ids, found->second, encoded.note);
  };
  encode_in_order(path, options, selected, encode, take);
  return examples;
}

}  // namespace fovea::train
