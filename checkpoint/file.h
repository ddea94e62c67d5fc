// Files as checkpoints need them: written whole or not at all, read exactly. Every error names the path.
#pragma once
#include <xxhash.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace qwen3::checkpoint {

// Bytes under one digest in files that we write. Who wants less still reads and checks so many; a digest costs 35 bytes
// of the manifest.
inline constexpr int64_t kChunkBytes = int64_t{4} << 20;
// What a reader accepts, since it makes room for one.
inline constexpr int64_t kMaxChunkBytes = int64_t{64} << 20;

// A written file, as a manifest knows it.
struct FileRecord {
  int64_t size_bytes = 0;
  int64_t chunk_bytes = kChunkBytes;
  std::vector<std::string> xxh3_128;  // of each chunk, 32 lower-case hex digits; the last chunk may be shorter
};
// Chunks of a file, the last of which may be shorter. REQUIRES: size_bytes >= 0, chunk_bytes > 0.
int64_t chunk_count(int64_t size_bytes, int64_t chunk_bytes);

// Owns a file descriptor.
class Descriptor {
 public:
  explicit Descriptor(int fd = -1) : fd_(fd) {}
  Descriptor(Descriptor&& other) noexcept;
  Descriptor& operator=(Descriptor&& other) noexcept;
  ~Descriptor();
  int get() const { return fd_; }
  int release();

 private:
  int fd_;
};

enum class Links { kFollow, kRefuse };

// A regular file open for reading. Safe for concurrent use.
class InputFile {
 public:
  // NOT_FOUND, or INVALID_ARGUMENT for anything that is not a regular file.
  static absl::StatusOr<InputFile> open(const std::string& path, Links links = Links::kFollow);
  const std::string& path() const { return path_; }
  int64_t size() const { return size_; }
  // Fills `into` from byte `offset`. DATA_LOSS: the file ends before.
  absl::Status read(int64_t offset, std::span<std::byte> into) const;
  // The whole file; RESOURCE_EXHAUSTED if it has more than `limit` bytes.
  absl::StatusOr<std::string> contents(int64_t limit) const;

 private:
  InputFile(std::string path, Descriptor descriptor, int64_t size);
  std::string path_;
  Descriptor descriptor_;
  int64_t size_;
};

// A file that appears under its name whole and durable, or not at all: written beside it under a temporary name, then
// fsync, rename, fsync of the folder. Without commit() nothing is left behind.
class OutputFile {
 public:
  // Reserves `size_bytes` where the file system can, so that a full disk is found before the writing.
  static absl::StatusOr<OutputFile> create(const std::string& path, int64_t size_bytes);
  OutputFile(OutputFile&& other) noexcept;
  OutputFile& operator=(OutputFile&&) = delete;
  ~OutputFile();
  // RESOURCE_EXHAUSTED: the disk is full.
  absl::Status append(std::span<const std::byte> data);
  absl::Status append(std::string_view text);
  absl::StatusOr<FileRecord> commit();

 private:
  struct FreeHash {
    void operator()(XXH3_state_t* state) const { XXH3_freeState(state); }
  };
  OutputFile(std::string path, std::string temporary, Descriptor descriptor, int64_t size_bytes);
  absl::Status failure(int error) const;
  void hash(std::span<const std::byte> data);
  void end_chunk();

  std::string path_;
  std::string temporary_;  // empty once committed or moved from
  Descriptor descriptor_;
  int64_t expected_;
  int64_t written_ = 0;
  std::unique_ptr<XXH3_state_t, FreeHash> hash_;  // of the chunk that is being written
  std::vector<std::string> digests_;              // of those before it
};

// Makes renames and new names in the folder durable.
absl::Status sync_folder(const std::string& folder);
// The folder part of a path; "." if it has none.
std::string folder_of(const std::string& path);
// XXH3-128 of bytes in memory, 32 lower-case hex digits.
std::string bytes_digest(std::string_view bytes);

}  // namespace qwen3::checkpoint
