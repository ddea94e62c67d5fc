// The JSON header of a safetensors file, parsed straight from the file by a parser that knows its grammar: what is kept
// in memory is bounded by kMaxKeptBytes before it is kept, whatever the file says. A general JSON parser buffers whole
// tokens first, so a hostile file chooses how much is allocated.
#pragma once
#include <cstdint>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "checkpoint/file.h"
#include "checkpoint/safetensors.h"

namespace qwen3::checkpoint {

inline constexpr int64_t kMaxHeaderBytes = 100'000'000;  // the limit of the reference implementation
inline constexpr int64_t kMaxKeptBytes = 8 << 20;        // names, shapes and metadata; about 40,000 tensors
inline constexpr int64_t kMaxMetadataBytes = 1 << 20;    // of one value
inline constexpr int64_t kMaxNameBytes = 1024;           // of a tensor's name
inline constexpr int64_t kMaxDims = 8;

// The tensors and metadata of the header text in bytes [begin, begin + size) of the file. Only the grammar is checked,
// not the offsets.
absl::Status parse_header_text(const InputFile& file, int64_t begin, int64_t size, SafetensorsHeader* header);

}  // namespace qwen3::checkpoint
