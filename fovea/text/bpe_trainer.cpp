#include "fovea/text/bpe_trainer.h"

#include <algorithm>
#include <array>
#include <queue>
#include <unordered_map>

#include "fovea/text/byte_alphabet.h"

namespace fovea {
namespace {

constexpr int32_t kEnd = -1;  // behind the last symbol of a word

uint64_t key_of(int32_t left, int32_t right) {
  return static_cast<uint64_t>(left) << 32 | static_cast<uint32_t>(right);
}

struct HashKey {
  size_t operator()(uint64_t key) const {
    key *= 0x9E3779B97F4A7C15u;
    return key ^ key >> 32;
  }
};

class Learner {
 public:
  Learner(const StringTable& words, const std::vector<int64_t>& counts) : counts_(counts) {
    add_bytes();
    read_words(words);
    for (size_t pair = 0; pair < pairs_.size(); ++pair) push(static_cast<int32_t>(pair));
  }

  LearnedBpe run(int64_t vocab_size, int64_t min_frequency) {
    while (static_cast<int64_t>(result_.tokens.size()) < vocab_size && !queue_.empty()) {
      const Candidate top = queue_.top();
      queue_.pop();
      Pair& pair = pairs_[top.pair];
      if (top.count != pair.count) {  // has changed since: the entry is an old one
        if (pair.count < top.count) push(top.pair);
        continue;
      }
      if (top.count < std::max<int64_t>(1, min_frequency)) break;
      merge(top.pair);
    }
    return std::move(result_);
  }

 private:
  struct Pair {
    int32_t left, right;
    int64_t count = 0;
    bool merged = false;
    std::vector<uint32_t> words;  // those that may hold it; may name a word twice
  };
  struct Candidate {
    int64_t count;
    uint64_t key;
    int32_t pair;
    bool operator<(const Candidate& other) const {
      return count != other.count ? count < other.count : key > other.key;
    }
  };

  void add_bytes() {
    std::array<uint8_t, 256> bytes;
    for (int b = 0; b < 256; ++b) bytes[b] = static_cast<uint8_t>(b);
    std::sort(bytes.begin(), bytes.end(),
              [](uint8_t a, uint8_t b) { return byte_character(a) < byte_character(b); });
    for (const uint8_t byte : bytes) {
      byte_id_[byte] =
          token_numbers_.add(std::string_view(reinterpret_cast<const char*>(&byte), 1));
      result_.tokens.emplace_back(1, static_cast<char>(byte));
    }
  }

  void read_words(const StringTable& words) {
    begins_.reserve(static_cast<size_t>(words.size()));
    for (int32_t word = 0; word < words.size(); ++word) {
      begins_.push_back(symbols_.size());
      int32_t last = kEnd;
      for (const char byte : words[word]) {
        const int32_t id = byte_id_[static_cast<uint8_t>(byte)];
        symbols_.push_back(id);
        if (last != kEnd) count(last, id, counts_[word], static_cast<uint32_t>(word));
        last = id;
      }
      symbols_.push_back(kEnd);
    }
  }

  // Adds `change` to the pair's count; a pair that gains remembers the word.
  int32_t count(int32_t left, int32_t right, int64_t change, uint32_t word) {
    const auto [place, added] = pair_of_.try_emplace(key_of(left, right), pairs_.size());
    if (added) pairs_.push_back({left, right, 0, false, {}});
    Pair& pair = pairs_[place->second];
    pair.count += change;
    if (change > 0 && (pair.words.empty() || pair.words.back() != word)) pair.words.push_back(word);
    return place->second;
  }

  void push(int32_t pair) {
    const Pair& p = pairs_[pair];
    if (p.count > 0) queue_.push({p.count, key_of(p.left, p.right), pair});
  }

  void merge(int32_t number) {
    const int32_t left = pairs_[number].left, right = pairs_[number].right;
    const std::string joined = result_.tokens[left] + result_.tokens[right];
    // Two ways to the same string share its id.
    const int32_t id = token_numbers_.add(joined);
    if (id == static_cast<int32_t>(result_.tokens.size())) result_.tokens.push_back(joined);
    // Such a string can bring an old pair back; encoding joins it by the old merge.
    if (!pairs_[number].merged) result_.merges.emplace_back(left, right);
    pairs_[number].merged = true;
    const std::vector<uint32_t> words = std::move(pairs_[number].words);
    pairs_[number].words.clear();
    grown_.clear();
    for (const uint32_t word : words) merge_in_word(word, left, right, id);
    std::sort(grown_.begin(), grown_.end());
    grown_.erase(std::unique(grown_.begin(), grown_.end()), grown_.end());
    for (const int32_t pair : grown_) push(pair);
  }

  // Replaces left, right by id in one word and moves the counts of the neighbouring pairs.
  void merge_in_word(uint32_t word, int32_t left, int32_t right, int32_t id) {
    int32_t* out = symbols_.data() + begins_[word];
    const int32_t* in = out;
    const int64_t times = counts_[word];
    int32_t before = kEnd;
    while (*in != kEnd) {
      if (in[0] != left || in[1] != right) {
        before = *out++ = *in++;
        continue;
      }
      const int32_t after = in[2];
      if (before != kEnd) {
        count(before, left, -times, word);
        grown_.push_back(count(before, id, times, word));
      }
      if (after != kEnd) {
        count(right, after, -times, word);
        grown_.push_back(count(id, after, times, word));
      }
      count(left, right, -times, word);
      before = *out++ = id;
      in += 2;
    }
    *out = kEnd;
  }

  const std::vector<int64_t>& counts_;
  std::array<int32_t, 256> byte_id_;
  StringTable token_numbers_;
  std::vector<int32_t> symbols_;  // of all words, each closed by kEnd
  std::vector<size_t> begins_;
  std::vector<Pair> pairs_;
  std::unordered_map<uint64_t, int32_t, HashKey> pair_of_;
  std::priority_queue<Candidate> queue_;
  std::vector<int32_t> grown_;
  LearnedBpe result_;
};

}  // namespace

LearnedBpe learn_bpe(const StringTable& words, const std::vector<int64_t>& counts,
                     int64_t vocab_size, int64_t min_frequency) {
  return Learner(words, counts).run(vocab_size, min_frequency);
}

}  // namespace fovea
