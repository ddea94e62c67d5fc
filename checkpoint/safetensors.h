// The safetensors file format (8-byte little-endian header length, JSON header, raw data), torch-free.
// Nothing that comes from a file is trusted: sizes, offsets and shapes are checked before anything is allocated.
#pragma once
#include <cstddef>
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "checkpoint/file.h"

namespace qwen3::checkpoint {

enum class Dtype { kFloat64, kFloat32, kFloat16, kBfloat16, kInt64, kInt32, kInt16, kInt8, kUint8, kBool };
int64_t item_size(Dtype dtype);       // bytes
const char* dtype_name(Dtype dtype);  // "F32", "BF16", ...: as in the file
absl::StatusOr<Dtype> parse_dtype(const std::string& name);

// Bytes of a tensor of this dtype and shape. INVALID_ARGUMENT: a negative size, or more than 2^63 - 1 bytes.
absl::StatusOr<int64_t> tensor_bytes(Dtype dtype, std::span<const int64_t> shape);

struct TensorEntry {
  Dtype dtype = Dtype::kFloat32;
  std::vector<int64_t> shape;
  int64_t begin = 0;  // byte offsets into the data section
  int64_t end = 0;
};

struct SafetensorsHeader {
  std::map<std::string, TensorEntry> tensors;
  std::map<std::string, std::string> metadata;
  int64_t data_offset = 0;  // of the data section in the file
};

// A tensor whose data comes later.
struct TensorLayout {
  std::string name;
  Dtype dtype = Dtype::kFloat32;
  std::vector<int64_t> shape;
};

// What comes before the data in a file of these tensors, whose data follows in their order.
struct SafetensorsStart {
  std::string bytes;           // header length and header; the data begins aligned to 8 bytes
  std::vector<int64_t> begin;  // of each tensor's data, in bytes from the begin of the file
  int64_t file_bytes = 0;
};
// INVALID_ARGUMENT: a name twice or a bad shape. `path` is only for messages.
absl::StatusOr<SafetensorsStart> safetensors_start(const std::string& path, std::span<const TensorLayout> tensors,
                                                   const std::map<std::string, std::string>& metadata = {});

// Writes a file whose tensors need not be in memory at once. Nothing appears under `path` before commit().
class SafetensorsWriter {
 public:
  // INVALID_ARGUMENT: a name twice or a bad shape. RESOURCE_EXHAUSTED: no room for the whole file.
  static absl::StatusOr<SafetensorsWriter> create(const std::string& path, std::span<const TensorLayout> tensors,
                                                  const std::map<std::string, std::string>& metadata = {});
  // The tensors' data in the order of the layouts, in pieces of any size.
  absl::Status append(std::span<const std::byte> data) { return file_.append(data); }
  // Temporary name, fsync, rename over `path`, fsync of the folder. INTERNAL: not all of the data was appended.
  absl::StatusOr<FileRecord> commit() { return file_.commit(); }

 private:
  explicit SafetensorsWriter(OutputFile file) : file_(std::move(file)) {}
  OutputFile file_;
};

// One tensor to be written; `data` must stay alive for the call.
struct TensorBytes {
  std::string name;
  Dtype dtype = Dtype::kFloat32;
  std::vector<int64_t> shape;
  std::span<const std::byte> data;
};

// As SafetensorsWriter, all at once.
absl::StatusOr<FileRecord> write_safetensors(const std::string& path, std::span<const TensorBytes> tensors,
                                             const std::map<std::string, std::string>& metadata = {});

// Reads and checks the header only. INVALID_ARGUMENT names the file, the tensor and what is wrong.
absl::StatusOr<SafetensorsHeader> read_safetensors_header(const std::string& path);
absl::StatusOr<SafetensorsHeader> read_safetensors_header(const InputFile& file);

// The little-endian length of the JSON header comes first.
inline constexpr int64_t kHeaderLengthBytes = 8;
// Where the data begins, and the header ends, from these bytes alone. INVALID_ARGUMENT: the file is shorter, or the
// header longer than is allowed.
absl::StatusOr<int64_t> read_data_offset(const InputFile& file);

// Copies `into.size()` bytes that begin `offset` bytes into the tensor's data.
absl::Status read_tensor_bytes(const std::string& path, const SafetensorsHeader& header, const std::string& tensor,
                               int64_t offset, std::span<std::byte> into);

}  // namespace qwen3::checkpoint
