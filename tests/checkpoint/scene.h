// Scenes shared by the checkpoint tests: bytes, tensors of known values.
#pragma once
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "checkpoint/safetensors.h"
#include "tests/temporary_folder.h"

namespace qwen3::checkpoint::testing {

using qwen3::tests::TemporaryFolder;

void write_bytes(const std::string& path, const std::string& bytes);
std::string read_bytes(const std::string& path);
std::vector<std::string> names_in(const std::string& folder);  // sorted

// Commits the checkpoint in the folder again, with digests of chunks of so many bytes.
void cut_into_chunks(const std::string& folder, int64_t chunk_bytes);
// What this thread has read so far, as the kernel counts it; 0 where it does not.
int64_t bytes_read();

int64_t count_of(const std::vector<int64_t>& shape);  // elements

// 0.5, 1.5, 2.5, ... from `first`.
std::vector<float> ramp(int64_t count, float first = 0.5F);

template <typename T>
std::span<const std::byte> bytes_of(const std::vector<T>& values) {
  return std::as_bytes(std::span(values));
}

}  // namespace qwen3::checkpoint::testing
