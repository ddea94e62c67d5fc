// A file of a checkpoint, of which no byte is used before the XXH3-128 of its chunk was compared with the manifest's.
// Only chunks that are needed are read. Torch-free.
#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "checkpoint/file.h"

namespace qwen3::checkpoint {

// Safe for concurrent use: a chunk is checked once, also when that fails, and who comes meanwhile waits for it.
class VerifiedFile {
 public:
  // A chunk of which only a part was wanted when it was checked; reads in it that follow are served from here. For
  // reads of one file by one thread.
  class Buffer {
   private:
    friend class VerifiedFile;
    int64_t chunk_ = -1;  // whose bytes these are; -1: nobody's
    std::unique_ptr<std::byte[]> bytes_;
  };

  // Opens it; reads nothing. DATA_LOSS: it is not there or has another size. REQUIRES: as many digests as chunks;
  // `record` outlives this.
  static absl::StatusOr<VerifiedFile> open(const std::string& path, const FileRecord& record);
  const InputFile& file() const { return file_; }

  // Fills `into` from byte `offset`. DATA_LOSS names a chunk that is not what the manifest says; `into` then holds
  // nothing that may be used. REQUIRES: inside the file.
  absl::Status read(int64_t offset, std::span<std::byte> into, Buffer& buffer) const;
  // Checks the chunks that hold the first `bytes` bytes, or all of a shorter file. They may then be read from file().
  absl::Status check_first(int64_t bytes) const;

 private:
  struct Chunk {
    std::once_flag once;
    absl::Status status;  // set by `once`
  };

  VerifiedFile(InputFile file, const FileRecord& record);
  int64_t chunk_size(int64_t chunk) const;
  absl::Status read_in_chunk(int64_t chunk, int64_t from, std::span<std::byte> into, Buffer& buffer) const;
  absl::Status read_and_check(int64_t chunk, std::span<std::byte> whole) const;

  InputFile file_;
  const FileRecord* record_;
  std::unique_ptr<Chunk[]> chunks_;
};

}  // namespace qwen3::checkpoint
