// Is there room for what is about to be written?
#pragma once
#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace qwen3::checkpoint {

// Bytes that an unprivileged process may still write to the file system of `folder`.
absl::StatusOr<int64_t> free_bytes(const std::string& folder);

// RESOURCE_EXHAUSTED names the folder, what is free, and what `what` needs.
absl::Status require_space(const std::string& folder, int64_t bytes, const std::string& what);

}  // namespace qwen3::checkpoint
