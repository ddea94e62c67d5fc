// Tokens of a parity check.
#pragma once
#include <string>

#include "absl/status/status.h"

namespace qwen3::client {

// Writes a tokens file (`ids` [2, 64]) of pseudo-random ids below the vocab_size of config.json in `model`; the same
// for the same vocabulary.
absl::Status write_random_tokens(const std::string& model, const std::string& path);

// Writes the `ids`, `labels` and `positions` of a reference to `path`: a tokens file holds nothing else.
// INVALID_ARGUMENT: there are no ids, or one of them is not int64.
absl::Status extract_tokens(const std::string& reference, const std::string& path);

}  // namespace qwen3::client
