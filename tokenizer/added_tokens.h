// Finds added tokens in a text: the leftmost, and of those at one place the longest.
#pragma once
#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "tokenizer/vocabulary.h"

namespace qwen3::tokenizer {

class AddedTokenFinder {
 public:
  explicit AddedTokenFinder(const std::vector<AddedToken>& tokens);
  struct Match {
    std::size_t begin = 0;
    std::size_t end = 0;
    int32_t id = -1;  // -1: no token from `offset` on
  };
  Match find(std::string_view text, std::size_t offset) const;

 private:
  // A trie over bytes; node 0 is the root.
  absl::flat_hash_map<uint64_t, int32_t> children_;  // (node << 8 | byte) -> node
  std::vector<int32_t> ids_;                         // of the token that ends at the node; -1: none
  std::array<bool, 256> first_byte_{};
  int only_first_byte_ = -1;  // when all tokens begin with the same byte
};

}  // namespace qwen3::tokenizer
