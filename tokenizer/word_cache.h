// Remembers the ids of short words: most words of a text have been seen before.
#pragma once
#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <functional>
#include <span>
#include <string_view>
#include <vector>

namespace qwen3::tokenizer {

// A direct-mapped table: a word has one place, and the last word put there wins. Fixed memory (about 2 MiB).
class WordCache {
 public:
  WordCache() : entries_(kEntries) {}

  // Appends the ids of `word` if it is here.
  bool append_to(std::string_view word, std::vector<int32_t>& ids) const {
    if (word.size() > kWordBytes) return false;
    const Entry& entry = entries_[place(word)];
    if (entry.size != word.size() || std::memcmp(entry.word.data(), word.data(), word.size()) != 0) return false;
    ids.insert(ids.end(), entry.ids.begin(), entry.ids.begin() + entry.count);
    return true;
  }

  void put(std::string_view word, std::span<const int32_t> ids) {
    if (word.size() > kWordBytes || ids.size() > kWordIds) return;
    Entry& entry = entries_[place(word)];
    entry.size = static_cast<uint8_t>(word.size());
    entry.count = static_cast<uint8_t>(ids.size());
    std::memcpy(entry.word.data(), word.data(), word.size());
    std::copy(ids.begin(), ids.end(), entry.ids.begin());
  }

 private:
  static constexpr std::size_t kEntries = 1 << 15;
  static constexpr std::size_t kWordBytes = 30;
  static constexpr std::size_t kWordIds = 8;
  struct Entry {
    uint8_t size = 0;  // 0: empty; no word is
    uint8_t count = 0;
    std::array<char, kWordBytes> word;
    std::array<int32_t, kWordIds> ids;
  };
  static std::size_t place(std::string_view word) { return std::hash<std::string_view>{}(word) % kEntries; }

  std::vector<Entry> entries_;
};

}  // namespace qwen3::tokenizer
