#include "tokenizer/added_tokens.h"

#include <algorithm>
#include <cstring>

namespace qwen3::tokenizer {

AddedTokenFinder::AddedTokenFinder(const std::vector<AddedToken>& tokens) : ids_(1, -1) {
  for (const AddedToken& token : tokens) {
    uint64_t node = 0;
    for (const char c : token.content) {
      const auto [child, added] =
          children_.try_emplace(node << 8 | static_cast<unsigned char>(c), static_cast<int32_t>(ids_.size()));
      if (added) ids_.push_back(-1);
      node = child->second;
    }
    ids_[node] = token.id;
    first_byte_[static_cast<unsigned char>(token.content[0])] = true;
  }
  if (std::count(first_byte_.begin(), first_byte_.end(), true) == 1) {
    only_first_byte_ = static_cast<int>(std::find(first_byte_.begin(), first_byte_.end(), true) - first_byte_.begin());
  }
}

AddedTokenFinder::Match AddedTokenFinder::find(std::string_view text, std::size_t offset) const {
  for (; offset < text.size(); ++offset) {
    if (only_first_byte_ >= 0) {
      const void* found = std::memchr(text.data() + offset, only_first_byte_, text.size() - offset);
      if (!found) break;
      offset = static_cast<std::size_t>(static_cast<const char*>(found) - text.data());
    } else if (!first_byte_[static_cast<unsigned char>(text[offset])]) {
      continue;
    }
    Match match;
    uint64_t node = 0;
    for (std::size_t i = offset; i < text.size(); ++i) {
      const auto child = children_.find(node << 8 | static_cast<unsigned char>(text[i]));
      if (child == children_.end()) break;
      node = static_cast<uint64_t>(child->second);
      if (ids_[node] >= 0) match = {offset, i + 1, ids_[node]};
    }
    if (match.id >= 0) return match;
  }
  return {};
}

}  // namespace qwen3::tokenizer
