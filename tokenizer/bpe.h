// Byte-pair encoding of one word: merge the pair of lowest rank, the leftmost first, until no pair is left.
#pragma once
#include <array>
#include <cstdint>
#include <string_view>
#include <vector>

#include "tokenizer/vocabulary.h"

namespace qwen3::tokenizer {

// A hash table from a pair of tokens to its merge; open addressing, filled once.
class MergeTable {
 public:
  struct Entry {
    uint64_t pair = kEmpty;
    int32_t rank = kNoRank;
    int32_t result = 0;
  };
  static constexpr int32_t kNoRank = INT32_MAX;

  explicit MergeTable(std::size_t capacity);
  // False if the pair is there already.
  bool insert(int32_t left, int32_t right, int32_t rank, int32_t result);
  // rank is kNoRank if the pair does not merge.
  const Entry& find(int32_t left, int32_t right) const {
    const uint64_t pair = key(left, right);
    for (uint64_t slot = hash(pair);; ++slot) {
      const Entry& entry = entries_[slot & mask_];
      if (entry.pair == pair || entry.pair == kEmpty) return entry;
    }
  }

 private:
  static constexpr uint64_t kEmpty = ~uint64_t{0};
  static uint64_t key(int32_t left, int32_t right) {
    return static_cast<uint64_t>(static_cast<uint32_t>(left)) << 32 | static_cast<uint32_t>(right);
  }
  uint64_t hash(uint64_t pair) const { return (pair * 0x9E3779B97F4A7C15u) >> shift_; }

  std::vector<Entry> entries_;
  uint64_t mask_ = 0;
  int shift_ = 0;
};

// Tokens of a word in a linked list over its bytes; reused from word to word.
class Bpe {
 public:
  Bpe(const MergeTable& merges, const std::array<int32_t, 256>& byte_ids) : merges_(merges), byte_ids_(byte_ids) {}
  // Appends the ids of `word`. Time is O(n log n) in its bytes, O(n^2) below 64 bytes where that is faster.
  void encode(std::string_view word, std::vector<int32_t>& ids);

 private:
  struct Node {
    int32_t id;
    int32_t previous;  // -1: none
    int32_t next;      // -1: none
  };
  struct Candidate {
    int32_t rank;
    int32_t position;     // of the left token
    int32_t left, right;  // ids when it was found; the candidate is stale if they changed
    int32_t result;
  };
  void encode_short(std::string_view word, std::vector<int32_t>& ids);
  void encode_long(std::string_view word, std::vector<int32_t>& ids);
  void push(int32_t left_position);

  const MergeTable& merges_;
  const std::array<int32_t, 256>& byte_ids_;
  std::vector<Node> nodes_;
  std::vector<Candidate> heap_;
};

}  // namespace qwen3::tokenizer
