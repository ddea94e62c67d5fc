// Reads any part of any tensor of a committed checkpoint, whatever mesh wrote it. Torch-free.
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

  // `box` of `tensor`, row-major, into `into`, whose size must be its. NOT_FOUND: no such tensor; OUT_OF_RANGE: not
  // inside it; DATA_LOSS: a file is not what the manifest says. Reads no other bytes of a slice than asked for.
  absl::Status read_box(const std::string& tensor, const spec::Box& box, std::span<std::byte> into) const;
  // Rows [row_begin, row_begin + rows) of the first dim.
  absl::Status read_rows(const std::string& tensor, int64_t row_begin, int64_t rows, std::span<std::byte> into) const;

 private:
  Reader(std::string folder, Manifest manifest);
  std::string folder_;
  Manifest manifest_;
  std::unique_ptr<FileCache> files_;
};

}  // namespace qwen3::checkpoint
