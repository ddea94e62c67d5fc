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
  // Opens a folder with a manifest. A file is opened when the first of its rows is read; of it only the chunks are read
  // that hold its header or something that was asked for, and each is compared with the manifest's XXH3-128 before it
  // is used. NOT_FOUND: not committed.
  static absl::StatusOr<Reader> open(const std::string& folder);
  Reader(Reader&&) noexcept;
  Reader& operator=(Reader&&) noexcept;
  ~Reader();

  const Manifest& manifest() const { return manifest_; }
  const std::string& folder() const { return folder_; }

  // `box` of `tensor`, row-major, into `into`, whose size must be its. NOT_FOUND: no such tensor; OUT_OF_RANGE: not
  // inside it; DATA_LOSS: a file is not what the manifest says. A chunk is read whole once, then only what is asked
  // for.
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
