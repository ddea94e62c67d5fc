// What a tokenizer file says, however it is written: tokens as bytes, merges, added tokens.
#pragma once
#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"

namespace qwen3::tokenizer {

struct AddedToken {
  int32_t id = 0;
  std::string content;   // UTF-8, found in the text before anything else is done to it
  bool special = false;  // left out by decode(skip_special)
};

// Tokens `left` and `right`, side by side, become `result`.
struct Merge {
  int32_t left = 0;
  int32_t right = 0;
  int32_t result = 0;
};

// Limits on what a file may hold: a hostile file is refused before it costs memory or time.
inline constexpr int64_t kMaxFileBytes = int64_t{64} << 20;
inline constexpr int64_t kMaxTokens = int64_t{1} << 20;
inline constexpr int64_t kMaxTokenBytes = 4096;
inline constexpr int64_t kMaxAddedTokens = 4096;
inline constexpr int64_t kMaxAddedTokenBytes = 256;

struct Vocabulary {
  std::vector<std::string> tokens;      // bytes of token id, ids dense from 0, added tokens not included
  std::vector<Merge> merges;            // in order of priority
  std::vector<AddedToken> added;        // in order of id
  std::array<int32_t, 256> byte_ids{};  // the token of a single byte
};

// The 26 tokens that Qwen3 adds, in order of id, the first at `first_id`.
std::vector<AddedToken> qwen3_added_tokens(int32_t first_id);

// Checks what every tokenizer must satisfy (unique tokens within the limits, a token for each byte, added tokens with
// free ids) and fills byte_ids. Messages name the token or id.
absl::Status finish(Vocabulary& vocabulary);

// A token for messages: printable ASCII as it is, other bytes as \xNN, cut after 40 bytes.
std::string printable(std::string_view token);

}  // namespace qwen3::tokenizer
