// Sequences that someone else made: a safetensors file with `ids` and, optionally, `labels` and `positions`.
#pragma once
#include <cstdint>
#include <memory>
#include <string>

#include "worker/rank/data/dataset.h"

namespace qwen3::data {

// What the ids and sequences are for.
struct TokensLimits {
  int64_t vocab = 0;
  int64_t longest = 0;  // sequence; 0: any
};

// int64 `ids` [B, S]; `labels` [B, S], each the target of its position or -100 for none (default: the next id, also
// where that begins a document; the last position has none); `positions` [B, S], each one more than the one before or
// 0, where a new document starts (default: one document a sequence). Everything is checked here: throws
// std::runtime_error that names the file, the tensor, the place, what it got and what it wants. Memory is bounded by a
// few rows.
std::shared_ptr<const Dataset> open_tokens_file(const std::string& path, const TokensLimits& limits);

}  // namespace qwen3::data
