// config.json of a Hugging Face Qwen3 folder, as the sizes of a model. Nothing is guessed: what the text does not say
// has the default of transformers' Qwen3Config or Qwen3MoeConfig, and what this project cannot compute is refused.
#pragma once
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "spec/flavor.h"

namespace qwen3::spec {

inline constexpr size_t kMaxHfConfigBytes = 64 << 10;  // published ones have 1 to 2 KB

// INVALID_ARGUMENT: every mistake at once, one line each, with the key, its value and what is wanted. `flavor` of the
// shape is the row of the table with the same sizes (base and 2507 releases differ from it in max_seq_len and
// rope_theta), else empty.
absl::StatusOr<ModelShape> parse_hf_config(std::string_view text);

}  // namespace qwen3::spec
