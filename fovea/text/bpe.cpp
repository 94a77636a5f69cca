#include "fovea/text/bpe.h"

#include <algorithm>
#include <atomic>
#include <bit>
#include <cstdio>
#include <cstring>
#include <memory>

#include <nlohmann/json.hpp>

#include "fovea/core/status.h"
#include "fovea/text/byte_alphabet.h"
#include "fovea/text/unicode.h"
#include "fovea/text/vocabulary.h"

namespace fovea {
namespace {

// Pieces of up to this many symbols are merged by scanning, longer ones by a heap.
constexpr size_t kShortPiece = 48;

std::atomic<uint64_t> next_serial{1};

// Remembers the ids of short pieces: most of a text is words seen before. One table a thread,
// direct-mapped, so it neither grows nor needs a lock.
class PieceCache {
 public:
  static constexpr size_t kMaxBytes = 22;
  static constexpr size_t kMaxIds = 8;

  struct Entry {
    uint8_t length = 0;  // 0: empty
    uint8_t count = 0;
    char bytes[kMaxBytes];
    int32_t ids[kMaxIds];

    bool holds(std::string_view piece) const {
      return length == piece.size() && std::memcmp(bytes, piece.data(), length) == 0;
    }
    void set(std::string_view piece, const int32_t* from, size_t id_count) {
      length = static_cast<uint8_t>(piece.size());
      count = static_cast<uint8_t>(id_count);
      std::memcpy(bytes, piece.data(), piece.size());
      std::copy_n(from, id_count, ids);
    }
  };

  static Entry& entry(uint64_t serial, std::string_view piece) {
    static thread_local PieceCache cache;
    if (cache.serial_ != serial) {
      cache.entries_.assign(kEntries, Entry());
      cache.serial_ = serial;
    }
    return cache.entries_[hash_bytes(piece) >> (64 - kEntryBits)];
  }

 private:
  static constexpr int kEntryBits = 14;
  static constexpr size_t kEntries = size_t{1} << kEntryBits;
  uint64_t serial_ = 0;
  std::vector<Entry> entries_;
};

}  // namespace

MergeTable::MergeTable(size_t count) {
  const size_t size = std::bit_ceil(std::max<size_t>(16, count * 2));
  entries_.resize(size);
  mask_ = size - 1;
  shift_ = 64 - std::countr_zero(size);
}

void MergeTable::set(int32_t left, int32_t right, BpeMerge merge) {
  const uint64_t key = key_of(left, right);
  size_t at = key * kMultiplier >> shift_;
  while (entries_[at].key != key && entries_[at].key != kEmpty) at = (at + 1) & mask_;
  entries_[at] = {key, merge};
}

BpeModel::BpeModel(const JsonField& config, bool bytes) : bytes_(bytes), serial_(next_serial++) {
  if (const auto dropout = config.find("dropout")) {
    const auto& value = dropout->value();
    if (!value.is_number() || value.get<double>() != 0.0) {
      dropout->fail("null (dropout of merges is not supported)");
    }
  }
  for (const char* name : {"continuing_subword_prefix", "end_of_word_suffix"}) {
    const auto affix = config.find(name);
    if (affix && !affix->string().empty()) affix->fail("null (affixes of BPE are not supported)");
  }
  fuse_unk_ = config.boolean_or("fuse_unk", false);
  byte_fallback_ = config.boolean_or("byte_fallback", false);
  ignore_merges_ = config.boolean_or("ignore_merges", false);
  vocab_ = read_vocabulary(config.at("vocab"));
  StringTable spellings;
  for (const auto& [token, id] : vocab_) spellings.add(token);
  if (const auto unk = config.find("unk_token")) {
    const int32_t number = spellings.find(unk->string());
    if (number < 0) unk->fail("a token of model.vocab");
    unk_id_ = vocab_[number].second;
  }
  read_merges(config.at("merges"), spellings);
  read_symbols();
}

void BpeModel::read_merges(const JsonField& field, const StringTable& spellings) {
  const nlohmann::json& list = field.value();
  if (!list.is_array()) field.fail("an array of merges");
  merge_count_ = list.size();
  merges_ = MergeTable(merge_count_);
  const auto where = [&](size_t i) { return field.where() + "[" + std::to_string(i) + "]"; };
  for (size_t i = 0; i < list.size(); ++i) {
    std::string left, right;
    if (list[i].is_array() && list[i].size() == 2 && list[i][0].is_string() &&
        list[i][1].is_string()) {
      left = list[i][0].get<std::string>();
      right = list[i][1].get<std::string>();
    } else if (list[i].is_string()) {  // "left right", as older files have it
      const std::string text = list[i].get<std::string>();
      const size_t space = text.find(' ');
      if (space == std::string::npos || text.find(' ', space + 1) != std::string::npos) {
        JsonField(list[i], where(i)).fail("two tokens with one space between them");
      }
      left = text.substr(0, space);
      right = text.substr(space + 1);
    } else {
      JsonField(list[i], where(i)).fail("[left, right] or \"left right\"");
    }
    int32_t ids[3];
    const std::string tokens[3] = {left, right, left + right};
    for (int k = 0; k < 3; ++k) {
      const int32_t number = spellings.find(tokens[k]);
      if (number < 0) {
        throw InputError(where(i) + ": " + shown_token(tokens[k]) +
                         " is not in model.vocab; expected both tokens of a merge and their union");
      }
      ids[k] = vocab_[number].second;
    }
    merges_.set(ids[0], ids[1], {static_cast<int32_t>(i), ids[2]});
  }
}

void BpeModel::read_symbols() {
  byte_ids_.fill(-1);
  fallback_ids_.fill(-1);
  for (const auto& [token, id] : vocab_) {
    std::string string = token;
    if (bytes_) {
      // A token outside the byte alphabet can never be met in a text.
      const auto named = from_byte_alphabet(token);
      if (!named) continue;
      string = *named;
    }
    strings_.add(string);
    string_ids_.push_back(id);
    if (bytes_ && string.size() == 1) byte_ids_[static_cast<uint8_t>(string[0])] = id;
  }
  for (const auto& [token, id] : vocab_) {
    unsigned byte;
    char rest;
    if (token.size() == 6 && std::sscanf(token.c_str(), "<0x%2X%c", &byte, &rest) == 2 &&
        rest == '>') {
      char canonical[8];
      std::snprintf(canonical, sizeof canonical, "<0x%02X>", byte);
      if (token == canonical) fallback_ids_[byte] = id;
    }
  }
}

void BpeModel::encode(std::string_view piece, std::vector<int32_t>& ids) const {
  if (piece.size() > PieceCache::kMaxBytes) return encode_uncached(piece, ids);
  PieceCache::Entry& entry = PieceCache::entry(serial_, piece);
  if (entry.holds(piece)) {
    ids.insert(ids.end(), entry.ids, entry.ids + entry.count);
    return;
  }
  const size_t first = ids.size();
  encode_uncached(piece, ids);
  const size_t count = ids.size() - first;
  if (count <= PieceCache::kMaxIds) entry.set(piece, ids.data() + first, count);
}

void BpeModel::encode_uncached(std::string_view piece, std::vector<int32_t>& ids) const {
  if (ignore_merges_) {
    if (const int32_t number = strings_.find(piece); number >= 0) {
      ids.push_back(string_ids_[number]);
      return;
    }
  }
  const size_t first = ids.size();
  start_symbols(piece, ids);
  if (merge_count_ == 0) return;
  if (ids.size() - first <= kShortPiece) {
    merge_short(ids, first);
  } else {
    merge_long(ids, first);
  }
}

// In a model of bytes the package's "characters" are those of the byte alphabet: two bytes of UTF-8
// for every byte that is not printable ASCII. Only byte_fallback can see that.
void BpeModel::start_symbols(std::string_view piece, std::vector<int32_t>& ids) const {
  bool pending = false;  // an unknown token that the next known character lets out
  const auto known = [&](int32_t id) {
    if (pending) ids.push_back(unk_id_);
    pending = false;
    ids.push_back(id);
  };
  if (bytes_) {
    for (const char byte : piece) {
      const int32_t id = byte_ids_[static_cast<uint8_t>(byte)];
      if (id >= 0) {
        known(id);
      } else {
        add_unknown(to_byte_alphabet({&byte, 1}), ids, pending);
      }
    }
  } else {
    const char* end = piece.data() + piece.size();
    for (const char* p = piece.data(); p < end;) {
      const std::string_view character(p, decode_utf8(p, end).size);
      const int32_t number = strings_.find(character);
      if (number >= 0) {
        known(string_ids_[number]);
      } else {
        add_unknown(character, ids, pending);
      }
      p += character.size();
    }
  }
  if (pending) ids.push_back(unk_id_);
}

// Bytes of a fallback overtake an unknown token that is pending: so does the package.
void BpeModel::add_unknown(std::string_view character, std::vector<int32_t>& ids,
                           bool& pending) const {
  const auto fallback = [this](char byte) { return fallback_ids_[static_cast<uint8_t>(byte)]; };
  if (byte_fallback_ && std::all_of(character.begin(), character.end(),
                                    [&](char byte) { return fallback(byte) >= 0; })) {
    for (const char byte : character) ids.push_back(fallback(byte));
    return;
  }
  if (unk_id_ < 0) return;  // the package drops it
  if (pending && !fuse_unk_) ids.push_back(unk_id_);
  pending = true;
}

void BpeModel::merge_short(std::vector<int32_t>& ids, size_t first) const {
  constexpr BpeMerge kNone{INT32_MAX, -1};
  BpeMerge merges[kShortPiece];
  int32_t* symbols = ids.data() + first;
  size_t count = ids.size() - first;
  const auto look_up = [&](size_t i) {
    const BpeMerge* merge = merges_.find(symbols[i], symbols[i + 1]);
    merges[i] = merge != nullptr ? *merge : kNone;
  };
  for (size_t i = 0; i + 1 < count; ++i) look_up(i);
  while (count > 1) {
    size_t best = 0;
    for (size_t i = 1; i + 1 < count; ++i) {
      if (merges[i].rank < merges[best].rank) best = i;
    }
    if (merges[best].rank == INT32_MAX) break;
    symbols[best] = merges[best].id;
    std::copy(symbols + best + 2, symbols + count, symbols + best + 1);
    if (best + 2 < count) std::copy(merges + best + 2, merges + count - 1, merges + best + 1);
    --count;
    if (best + 1 < count) look_up(best);
    if (best > 0) look_up(best - 1);
  }
  ids.resize(first + count);
}

void BpeModel::merge_long(std::vector<int32_t>& ids, size_t first) const {
  struct Candidate {
    int32_t rank;
    int32_t id;
    uint32_t left;
    uint32_t right;
    int32_t left_id;
    int32_t right_id;
    bool operator<(const Candidate& other) const {  // the heap's top is the largest
      return rank != other.rank ? rank > other.rank : left > other.left;
    }
  };
  constexpr uint32_t kEnd = UINT32_MAX;
  int32_t* symbols = ids.data() + first;  // -1: joined to its left neighbour
  const auto count = static_cast<uint32_t>(ids.size() - first);
  std::vector<uint32_t> previous(count), next(count);
  std::vector<Candidate> heap;
  const auto candidate = [&](uint32_t left, uint32_t right) {
    if (left == kEnd || right == kEnd) return false;
    const BpeMerge* merge = merges_.find(symbols[left], symbols[right]);
    if (merge == nullptr) return false;
    heap.push_back({merge->rank, merge->id, left, right, symbols[left], symbols[right]});
    return true;
  };
  for (uint32_t i = 0; i < count; ++i) {
    previous[i] = i == 0 ? kEnd : i - 1;
    next[i] = i + 1 == count ? kEnd : i + 1;
    candidate(i, next[i]);
  }
  std::make_heap(heap.begin(), heap.end());
  while (!heap.empty()) {
    std::pop_heap(heap.begin(), heap.end());
    const Candidate top = heap.back();
    heap.pop_back();
    if (symbols[top.left] != top.left_id || symbols[top.right] != top.right_id) continue;
    symbols[top.left] = top.id;
    symbols[top.right] = -1;
    next[top.left] = next[top.right];
    if (next[top.left] != kEnd) previous[next[top.left]] = top.left;
    if (candidate(previous[top.left], top.left)) std::push_heap(heap.begin(), heap.end());
    if (candidate(top.left, next[top.left])) std::push_heap(heap.begin(), heap.end());
  }
  ids.erase(std::remove(ids.begin() + static_cast<int64_t>(first), ids.end(), -1), ids.end());
}

}  // namespace fovea
