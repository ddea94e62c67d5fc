// A safetensors file that several processes write at once, each its own pieces. It appears under its name whole and
// durable, or not at all. The processes see one file system and agree among themselves on the order of the calls:
// one creates, then the others open; all write and sync; then the creator commits. Torch-free.
#pragma once
#include <cstddef>
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "checkpoint/file.h"
#include "checkpoint/safetensors.h"

namespace qwen3::checkpoint {

class SharedSafetensors {
 public:
  // Makes PATH.partial-TAG with its full size and removes what an earlier, unfinished writer of PATH left there. `tag`
  // tells writers of one path apart that must not meet. RESOURCE_EXHAUSTED: no room for the whole file.
  static absl::StatusOr<SharedSafetensors> create(const std::string& path, const std::string& tag,
                                                  std::span<const TensorLayout> tensors);
  // Opens what create() made with the same arguments in another process. NOT_FOUND: it is not to be seen from here.
  static absl::StatusOr<SharedSafetensors> open(const std::string& path, const std::string& tag,
                                                std::span<const TensorLayout> tensors);
  SharedSafetensors(SharedSafetensors&& other) noexcept;
  SharedSafetensors& operator=(SharedSafetensors&&) = delete;
  ~SharedSafetensors();

  // Data of tensor `index` of the layouts, from byte `offset` of its data on. Safe for concurrent use.
  absl::Status write(size_t index, int64_t offset, std::span<const std::byte> data) const;
  // What this process wrote is durable.
  absl::Status sync() const;
  // The creator, after everyone's sync(): the file gets its name.
  absl::Status commit();

 private:
  SharedSafetensors(std::string path, std::string partial, bool creator, Descriptor descriptor, SafetensorsStart start);
  absl::Status write_at(int64_t offset, std::span<const std::byte> data) const;

  std::string path_;
  std::string partial_;
  bool creator_;  // and the file has not got its name yet
  Descriptor descriptor_;
  SafetensorsStart start_;
};

}  // namespace qwen3::checkpoint
