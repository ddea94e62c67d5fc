// Reads any rows of any tensor of a committed checkpoint, whatever mesh wrote it. Torch-free.
#pragma once
#include <cstddef>
#include <map>
#include <span>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "checkpoint/manifest.h"

namespace qwen3::checkpoint {

class Reader {
 public:
  // Opens a folder with a manifest and verifies the digests of the files it will read from.
  static absl::StatusOr<Reader> open(const std::string& folder);
  const Manifest& manifest() const { return manifest_; }

  // Rows [row_begin, row_begin + rows) of `tensor` into `into`, whose size must be theirs. NOT_FOUND: no such tensor.
  absl::Status read_rows(const std::string& tensor, int64_t row_begin, int64_t rows, std::span<std::byte> into) const;

 private:
  Reader() = default;
  std::string folder_;
  Manifest manifest_;
  std::map<std::string, SafetensorsHeader> headers_;  // by file
};

}  // namespace qwen3::checkpoint
