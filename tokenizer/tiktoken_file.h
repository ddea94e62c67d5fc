// The .tiktoken format: one token a line, "base64(bytes) rank", ranks from 0 in order.
#pragma once
#include <string_view>

#include "absl/status/statusor.h"
#include "tokenizer/vocabulary.h"

namespace qwen3::tokenizer {

// The format has no merges: the merge of a token is the pair it falls into when the merges before it are applied to
// its bytes. Qwen3's 26 added tokens follow the last rank. Errors name the line.
absl::StatusOr<Vocabulary> parse_tiktoken(std::string_view text);

}  // namespace qwen3::tokenizer
