// The bytes of a file, decompressed on the way (.gz, .zst), in bounded memory.
#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

namespace qwen3::data {

class ByteSource {
 public:
  virtual ~ByteSource() = default;
  // Reads up to `size` bytes; 0 at the end only. Throws std::runtime_error that names the file: it cannot be read, is
  // not what its name says, or ends too early.
  virtual std::size_t read(char* to, std::size_t size) = 0;
  // Bytes of the file itself (compressed) read so far.
  virtual int64_t consumed() const = 0;
};

// The name's ending decides: .gz is gzip, .zst is zstd, everything else plain.
std::unique_ptr<ByteSource> open_bytes(const std::string& path);

}  // namespace qwen3::data
