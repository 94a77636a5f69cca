#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "fovea/text/json_field.h"
#include "fovea/text/string_table.h"

namespace fovea {

/// A merge of two neighbouring tokens: the lower rank is done first.
struct BpeMerge {
  int32_t rank;
  int32_t id;  ///< of the joined token
};

/// Pairs of token ids and their merges; an open-addressing table.
class MergeTable {
 public:
  /// Room for `count` pairs.
  explicit MergeTable(size_t count = 0);

  /// The merge of (left, right), or null.
  const BpeMerge* find(int32_t left, int32_t right) const {
    const uint64_t key = key_of(left, right);
    for (size_t at = key * kMultiplier >> shift_;; at = (at + 1) & mask_) {
      if (entries_[at].key == key) return &entries_[at].merge;
      if (entries_[at].key == kEmpty) return nullptr;
    }
  }

  /// Stores a merge; the pair's earlier one, if any, is replaced.
  void set(int32_t left, int32_t right, BpeMerge merge);

 private:
  static constexpr uint64_t kEmpty = ~uint64_t{0};
  static constexpr uint64_t kMultiplier = 0x9E3779B97F4A7C15u;
  static uint64_t key_of(int32_t left, int32_t right) {
    return static_cast<uint64_t>(static_cast<uint32_t>(left)) << 32 | static_cast<uint32_t>(right);
  }
  struct Entry {
    uint64_t key = kEmpty;
    BpeMerge merge{};
  };
  std::vector<Entry> entries_;
  int shift_;
  size_t mask_;
};

/// The model BPE of a `tokenizer.json`: starts from characters (or bytes) and joins neighbours, the
/// merge of the lowest rank first, the leftmost of equal ones.
class BpeModel {
 public:
  /// Reads the model's object; `bytes`: pieces come as bytes, and tokens are spelt in GPT-2's byte
  /// alphabet. Throws InputError naming the entry at fault.
  BpeModel(const JsonField& config, bool bytes);

  /// Appends the ids of a piece. Threads: any number; each has its own cache of short pieces.
  /// Cost: O(n log n) in the piece's length.
  void encode(std::string_view piece, std::vector<int32_t>& ids) const;

  /// Spelling and id of every token, as in the file.
  const std::vector<std::pair<std::string, int32_t>>& vocab() const { return vocab_; }

  int32_t unk_id() const { return unk_id_; }  ///< -1 if there is none
  bool has_merges() const { return merge_count_ > 0; }

  /// Id of each byte's token, -1 where there is none; for models of bytes.
  const std::array<int32_t, 256>& byte_ids() const { return byte_ids_; }

 private:
  void read_merges(const JsonField& field, const StringTable& spellings);
  void read_symbols();
  void start_symbols(std::string_view piece, std::vector<int32_t>& ids) const;
  void add_unknown(std::string_view character, std::vector<int32_t>& ids, bool& pending) const;
  void encode_uncached(std::string_view piece, std::vector<int32_t>& ids) const;
  void merge_short(std::vector<int32_t>& ids, size_t first) const;
  void merge_long(std::vector<int32_t>& ids, size_t first) const;

  std::vector<std::pair<std::string, int32_t>> vocab_;
  StringTable strings_;                    // what a token stands for: bytes or characters
  std::vector<int32_t> string_ids_;        // ids of strings_
  std::array<int32_t, 256> byte_ids_;      // of the one-byte strings
  std::array<int32_t, 256> fallback_ids_;  // of <0x00> … <0xFF>
  MergeTable merges_;
  size_t merge_count_ = 0;
  int32_t unk_id_ = -1;
  bool bytes_;
  bool fuse_unk_;
  bool byte_fallback_;
  bool ignore_merges_;
  uint64_t serial_;  // tells the caches of different models apart
};

}  // namespace fovea
