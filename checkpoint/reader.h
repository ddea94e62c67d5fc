// Reads any rows of any tensor of a committed checkpoint, whatever mesh wrote it. Torch-free.
#pragma once
#include <cstddef>
#include <memory>
#include <span>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "checkpoint/manifest.h"

namespace qwen3::checkpoint {

class FileCache;

// Safe for concurrent use.
class Reader {
 public:
  // Opens a folder with a manifest. A file is opened when the first of its rows is read, and its XXH3-128 is compared
  // with the manifest's before anything of it is used. NOT_FOUND: not committed.
  static absl::StatusOr<Reader> open(const std::string& folder);
  Reader(Reader&&) noexcept;
  Reader& operator=(Reader&&) noexcept;
  ~Reader();

  const Manifest& manifest() const { return manifest_; }
  const std::string& folder() const { return folder_; }

  // Rows [row_begin, row_begin + rows) of `tensor` into `into`, whose size must be theirs. NOT_FOUND: no such tensor;
  // DATA_LOSS: a file is not what the manifest says.
  absl::Status read_rows(const std::string& tensor, int64_t row_begin, int64_t rows, std::span<std::byte> into) const;

 private:
  Reader(std::string folder, Manifest manifest);
  std::string folder_;
  Manifest manifest_;
  std::unique_ptr<FileCache> files_;
};

}  // namespace qwen3::checkpoint
