#include "fovea/data/naive_bayes.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include <xxhash.h>

#include "fovea/core/status.h"

namespace fovea::data {
namespace {

bool in_word(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '\'' ||
         static_cast<unsigned char>(c) >= 0x80;
}

void add_word_features(std::string_view text, int ngrams, std::vector<uint64_t>& out) {
  std::vector<uint64_t> words;
  std::string word;
  for (size_t i = 0; i <= text.size(); ++i) {
    if (i < text.size() && in_word(text[i])) {
      word += text[i] >= 'A' && text[i] <= 'Z' ? static_cast<char>(text[i] + 32) : text[i];
    } else if (!word.empty()) {
      words.push_back(XXH3_64bits(word.data(), word.size()));
      word.clear();
    }
  }
  for (size_t i = 0; i < words.size(); ++i) {
    const size_t longest = std::min<size_t>(static_cast<size_t>(ngrams), words.size() - i);
    for (size_t n = 1; n <= longest; ++n) out.push_back(XXH3_64bits(&words[i], n * 8));
  }
}

void add_byte_features(std::string_view text, int ngrams, std::vector<uint64_t>& out) {
  for (size_t i = 0; i < text.size(); ++i) {
    const size_t longest = std::min<size_t>(static_cast<size_t>(ngrams), text.size() - i);
    for (size_t n = 1; n <= longest; ++n) out.push_back(XXH3_64bits(text.data() + i, n));
  }
}

}  // namespace

NaiveBayes::NaiveBayes(const NaiveBayesOptions& options) : options_(options) {
  if (options.ngrams < 1 || options.ngrams > 8) {
    throw InputError("baseline: expected ngrams in [1, 8], found " +
                     std::to_string(options.ngrams));
  }
  if (!(options.smoothing > 0)) throw InputError("baseline: expected a smoothing above 0");
  keys_.resize(1 << 16);
  rows_.resize(keys_.size());
}

std::vector<uint64_t> NaiveBayes::features_of(std::string_view text) const {
  std::vector<uint64_t> features;
  if (options_.features == NaiveBayesOptions::Features::kWords) {
    add_word_features(text, options_.ngrams, features);
  } else {
    add_byte_features(text, options_.ngrams, features);
  }
  for (uint64_t& feature : features) feature |= 1;  // 0 marks a free slot
  std::sort(features.begin(), features.end());
  features.erase(std::unique(features.begin(), features.end()), features.end());
  return features;
}

size_t NaiveBayes::slot_of(uint64_t feature) const {
  const size_t mask = keys_.size() - 1;
  size_t slot = (feature >> 1) & mask;
  while (keys_[slot] != 0 && keys_[slot] != feature) slot = (slot + 1) & mask;
  return slot;
}

void NaiveBayes::grow() {
  std::vector<uint64_t> keys(keys_.size() * 2);
  std::vector<uint32_t> rows(keys.size());
  keys.swap(keys_);
  rows.swap(rows_);
  for (size_t i = 0; i < keys.size(); ++i) {
    if (keys[i] == 0) continue;
    const size_t slot = slot_of(keys[i]);
    keys_[slot] = keys[i];
    rows_[slot] = rows[i];
  }
}

void NaiveBayes::add(std::string_view text, const std::string& label) {
  const auto [position, added] = label_index_.try_emplace(label, labels_.size());
  if (added) {
    labels_.push_back(label);
    documents_.push_back(0);
    counts_.emplace_back();
  }
  const size_t index = position->second;
  ++documents_[index];
  for (const uint64_t feature : features_of(text)) {
    if (2 * used_ >= keys_.size()) grow();
    const size_t slot = slot_of(feature);
    if (keys_[slot] == 0) {
      keys_[slot] = feature;
      rows_[slot] = static_cast<uint32_t>(used_++);
    }
    std::vector<uint32_t>& counts = counts_[index];
    if (counts.size() <= rows_[slot]) counts.resize(rows_[slot] + 1 + rows_[slot] / 2);
    ++counts[rows_[slot]];
  }
}

void NaiveBayes::finish() {
  if (labels_.empty()) throw InputError("baseline: expected at least one training example");
  int64_t all = 0;
  for (const int64_t n : documents_) all += n;
  for (size_t c = 0; c < labels_.size(); ++c) {
    counts_[c].resize(used_);
    double total = options_.smoothing * static_cast<double>(used_);
    for (const uint32_t count : counts_[c]) total += count;
    log_prior_.push_back(std::log(static_cast<double>(documents_[c]) / static_cast<double>(all)));
    log_total_.push_back(std::log(total));
  }
}

const std::string& NaiveBayes::predict(std::string_view text) const {
  std::vector<double> scores = log_prior_;
  for (const uint64_t feature : features_of(text)) {
    const size_t slot = slot_of(feature);
    if (keys_[slot] == 0) continue;
    for (size_t c = 0; c < scores.size(); ++c) {
      scores[c] += std::log(options_.smoothing + counts_[c][rows_[slot]]) - log_total_[c];
    }
  }
  const std::string* best = nullptr;
  double best_score = 0;
  for (const auto& [label, c] : label_index_) {
    if (best == nullptr || scores[c] > best_score) {
      best = &label;
      best_score = scores[c];
    }
  }
  return *best;
}

Scores score(const std::vector<std::string>& truth, const std::vector<std::string>& predicted) {
  struct Counts {
    int64_t both = 0, truth = 0, predicted = 0;
  };
  std::map<std::string, Counts> labels;
  Scores scores;
  scores.examples = static_cast<int64_t>(truth.size());
  int64_t right = 0;
  for (size_t i = 0; i < truth.size(); ++i) {
    ++labels[truth[i]].truth;
    ++labels[predicted[i]].predicted;
    if (truth[i] == predicted[i]) {
      ++right;
      ++labels[truth[i]].both;
    }
  }
  if (truth.empty()) return scores;
  scores.accuracy = static_cast<double>(right) / static_cast<double>(truth.size());
  for (const auto& [label, n] : labels) {
    scores.macro_f1 +=
        2.0 * static_cast<double>(n.both) / static_cast<double>(n.truth + n.predicted);
  }
  scores.macro_f1 /= static_cast<double>(labels.size());
  return scores;
}

}  // namespace fovea::data
