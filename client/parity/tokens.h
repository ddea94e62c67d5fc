// Tokens for a parity check that brings none.
#pragma once
#include <string>

#include "absl/status/status.h"

namespace qwen3::client {

// Writes a tokens file (`ids` [2, 64]) of pseudo-random ids below the vocab_size of config.json in `model`; the same
// for the same vocabulary.
absl::Status write_random_tokens(const std::string& model, const std::string& path);

}  // namespace qwen3::client
