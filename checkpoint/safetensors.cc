#include "checkpoint/safetensors.h"

#include <algorithm>
#include <array>
#include <limits>
#include <nlohmann/json.hpp>
#include <set>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "checkpoint/safetensors_header.h"

namespace qwen3::checkpoint {
namespace {

struct DtypeRow {
  Dtype dtype;
  const char* name;
  int64_t size;
};
constexpr DtypeRow kDtypes[] = {
    {Dtype::kFloat64, "F64", 8},   {Dtype::kFloat32, "F32", 4}, {Dtype::kFloat16, "F16", 2},
    {Dtype::kBfloat16, "BF16", 2}, {Dtype::kInt64, "I64", 8},   {Dtype::kInt32, "I32", 4},
    {Dtype::kInt16, "I16", 2},     {Dtype::kInt8, "I8", 1},     {Dtype::kUint8, "U8", 1},
    {Dtype::kBool, "BOOL", 1},
};

const DtypeRow& row(Dtype dtype) { return kDtypes[static_cast<int>(dtype)]; }

std::string quoted(const std::string& name) { return absl::StrCat("tensor \"", absl::CEscape(name), "\": "); }

// The tensors' offsets must cut [0, data_size) into pieces without overlap or gap, each as long as its shape says.
absl::Status check_offsets(const std::string& path, const SafetensorsHeader& header, int64_t data_size) {
  using Item = std::map<std::string, TensorEntry>::const_pointer;
  std::vector<Item> order;
  order.reserve(header.tensors.size());
  for (const auto& item : header.tensors) order.push_back(&item);
  std::sort(order.begin(), order.end(), [](Item a, Item b) {
    return std::pair(a->second.begin, a->second.end) < std::pair(b->second.begin, b->second.end);
  });
  const auto fail = [&](const std::string& name, const std::string& what) {
    return absl::InvalidArgumentError(absl::StrCat(path, ": ", quoted(name), what));
  };
  int64_t covered = 0;
  for (const Item item : order) {
    const auto& [name, entry] = *item;
    if (entry.begin > entry.end)
      return fail(name, absl::StrCat("begins at ", entry.begin, ", after its end ", entry.end));
    absl::StatusOr<int64_t> bytes = tensor_bytes(entry.dtype, entry.shape);
    if (!bytes.ok()) return fail(name, std::string(bytes.status().message()));
    if (*bytes != entry.end - entry.begin) {
      return fail(name, absl::StrCat(dtype_name(entry.dtype), " [", absl::StrJoin(entry.shape, ","), "] has ", *bytes,
                                     " bytes, but its data_offsets span ", entry.end - entry.begin));
    }
    if (entry.begin < covered) {
      return fail(name,
                  absl::StrCat("begins at ", entry.begin, " and overlaps the one before, which ends at ", covered));
    }
    if (entry.begin > covered) {
      return fail(name, absl::StrCat("begins at ", entry.begin, ", but the one before ends at ", covered, ": a gap"));
    }
    if (entry.end > data_size) {
      return fail(name,
                  absl::StrCat("ends at ", entry.end, ", but the file has ", data_size, " bytes of data: truncated"));
    }
    covered = entry.end;
  }
  if (covered != data_size) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, ": ", data_size - covered, " trailing bytes after the last tensor"));
  }
  return absl::OkStatus();
}

std::string little_endian(int64_t value) {
  std::string bytes;
  for (int i = 0; i < kHeaderLengthBytes; ++i) {
    bytes.push_back(static_cast<char>(static_cast<uint64_t>(value) >> (8 * i)));
  }
  return bytes;
}

}  // namespace

int64_t item_size(Dtype dtype) { return row(dtype).size; }

const char* dtype_name(Dtype dtype) { return row(dtype).name; }

absl::StatusOr<Dtype> parse_dtype(const std::string& name) {
  for (const DtypeRow& known : kDtypes) {
    if (name == known.name) return known.dtype;
  }
  return absl::InvalidArgumentError(
      absl::StrCat("dtype is \"", absl::CEscape(name), "\", want F64, F32, F16, BF16, I64, I32, I16, I8, U8 or BOOL"));
}

absl::StatusOr<int64_t> tensor_bytes(Dtype dtype, std::span<const int64_t> shape) {
  const auto shape_text = [&] { return absl::StrCat("shape [", absl::StrJoin(shape, ","), "]"); };
  // A zero anywhere makes the tensor empty, but must not hide a product that overflows before it.
  int64_t bytes = item_size(dtype);
  bool empty = false;
  for (const int64_t size : shape) {
    if (size < 0) return absl::InvalidArgumentError(absl::StrCat(shape_text(), " has a negative size"));
    if (size == 0) {
      empty = true;
    } else if (bytes > std::numeric_limits<int64_t>::max() / size) {
      return absl::InvalidArgumentError(absl::StrCat(shape_text(), " has over 2^63 - 1 bytes"));
    } else {
      bytes *= size;
    }
  }
  return empty ? 0 : bytes;
}

absl::StatusOr<SafetensorsStart> safetensors_start(const std::string& path, std::span<const TensorLayout> tensors,
                                                   const std::map<std::string, std::string>& metadata) try {
  SafetensorsStart start;
  std::vector<std::string> members;
  if (!metadata.empty()) members.push_back(absl::StrCat("\"__metadata__\":", nlohmann::json(metadata).dump()));
  std::set<std::string> names;
  int64_t offset = 0;
  for (const TensorLayout& tensor : tensors) {
    const auto fail = [&](absl::string_view what) {
      return absl::InvalidArgumentError(absl::StrCat(path, ": ", quoted(tensor.name), what));
    };
    if (tensor.name.empty() || tensor.name == "__metadata__" || !names.insert(tensor.name).second) {
      return fail("the name is empty, reserved or used twice");
    }
    absl::StatusOr<int64_t> bytes = tensor_bytes(tensor.dtype, tensor.shape);
    if (!bytes.ok()) return fail(bytes.status().message());
    if (*bytes > std::numeric_limits<int64_t>::max() / 2 - offset) return fail("the file would have over 2^62 bytes");
    members.push_back(absl::StrCat(nlohmann::json(tensor.name).dump(), ":{\"dtype\":\"", dtype_name(tensor.dtype),
                                   "\",\"shape\":[", absl::StrJoin(tensor.shape, ","), "],\"data_offsets\":[", offset,
                                   ",", offset + *bytes, "]}"));
    start.begin.push_back(offset);
    offset += *bytes;
  }
  std::string header = absl::StrCat("{", absl::StrJoin(members, ","), "}");
  header.append((8 - header.size() % 8) % 8, ' ');  // so that the data begins aligned
  start.bytes = little_endian(static_cast<int64_t>(header.size())) + header;
  const auto data_offset = static_cast<int64_t>(start.bytes.size());
  for (int64_t& begin : start.begin) begin += data_offset;
  start.file_bytes = data_offset + offset;
  return start;
} catch (const nlohmann::json::exception& error) {  // a name or metadata that is not UTF-8
  return absl::InvalidArgumentError(absl::StrCat(path, ": ", error.what()));
}

absl::StatusOr<SafetensorsWriter> SafetensorsWriter::create(const std::string& path,
                                                            std::span<const TensorLayout> tensors,
                                                            const std::map<std::string, std::string>& metadata) {
  const absl::StatusOr<SafetensorsStart> start = safetensors_start(path, tensors, metadata);
  if (!start.ok()) return start.status();
  absl::StatusOr<OutputFile> file = OutputFile::create(path, start->file_bytes);
  if (!file.ok()) return file.status();
  if (absl::Status status = file->append(start->bytes); !status.ok()) return status;
  return SafetensorsWriter(std::move(*file));
}

absl::StatusOr<FileRecord> write_safetensors(const std::string& path, std::span<const TensorBytes> tensors,
                                             const std::map<std::string, std::string>& metadata) {
  std::vector<TensorLayout> layouts;
  for (const TensorBytes& tensor : tensors) {
    const absl::StatusOr<int64_t> bytes = tensor_bytes(tensor.dtype, tensor.shape);
    if (bytes.ok() && *bytes != static_cast<int64_t>(tensor.data.size())) {  // a bad shape is named by create()
      return absl::InvalidArgumentError(absl::StrCat(path, ": ", quoted(tensor.name), dtype_name(tensor.dtype), " [",
                                                     absl::StrJoin(tensor.shape, ","), "] has ", *bytes, " bytes, got ",
                                                     tensor.data.size()));
    }
    layouts.push_back({tensor.name, tensor.dtype, tensor.shape});
  }
  absl::StatusOr<SafetensorsWriter> writer = SafetensorsWriter::create(path, layouts, metadata);
  if (!writer.ok()) return writer.status();
  for (const TensorBytes& tensor : tensors) {
    if (absl::Status status = writer->append(tensor.data); !status.ok()) return status;
  }
  return writer->commit();
}

absl::StatusOr<SafetensorsHeader> read_safetensors_header(const std::string& path) {
  absl::StatusOr<InputFile> file = InputFile::open(path);
  if (!file.ok()) return file.status();
  return read_safetensors_header(*file);
}

absl::StatusOr<int64_t> read_data_offset(const InputFile& file) {
  const auto fail = [&](const std::string& what) {
    return absl::InvalidArgumentError(absl::StrCat(file.path(), ": ", what));
  };
  if (file.size() < kHeaderLengthBytes) {
    return fail(absl::StrCat("has ", file.size(), " bytes, not even a header length"));
  }
  std::array<unsigned char, kHeaderLengthBytes> length_bytes{};
  if (absl::Status status = file.read(0, std::as_writable_bytes(std::span(length_bytes))); !status.ok()) return status;
  uint64_t length = 0;
  for (size_t i = 0; i < length_bytes.size(); ++i) length |= static_cast<uint64_t>(length_bytes[i]) << (8 * i);
  if (length > static_cast<uint64_t>(kMaxHeaderBytes)) {
    return fail(absl::StrCat("header length ", length, ", want at most ", kMaxHeaderBytes));
  }
  const int64_t header_size = static_cast<int64_t>(length);
  if (header_size > file.size() - kHeaderLengthBytes) {
    return fail(absl::StrCat("header length ", header_size, ", but the file has ", file.size(), " bytes"));
  }
  return kHeaderLengthBytes + header_size;
}

absl::StatusOr<SafetensorsHeader> read_safetensors_header(const InputFile& file) {
  const absl::StatusOr<int64_t> data_offset = read_data_offset(file);
  if (!data_offset.ok()) return data_offset.status();
  SafetensorsHeader header;
  header.data_offset = *data_offset;
  absl::Status status = parse_header_text(file, kHeaderLengthBytes, *data_offset - kHeaderLengthBytes, &header);
  if (status.ok()) status = check_offsets(file.path(), header, file.size() - header.data_offset);
  if (!status.ok()) return status;
  return header;
}

absl::Status read_tensor_bytes(const std::string& path, const SafetensorsHeader& header, const std::string& tensor,
                               int64_t offset, std::span<std::byte> into) {
  const auto found = header.tensors.find(tensor);
  if (found == header.tensors.end()) return absl::NotFoundError(absl::StrCat(path, ": no ", quoted(tensor)));
  const TensorEntry& entry = found->second;
  const int64_t size = entry.end - entry.begin;
  if (offset < 0 || offset > size || static_cast<int64_t>(into.size()) > size - offset) {
    return absl::OutOfRangeError(
        absl::StrCat(path, ": ", quoted(tensor), "has ", size, " bytes, asked for ", into.size(), " from ", offset));
  }
  absl::StatusOr<InputFile> file = InputFile::open(path);
  if (!file.ok()) return file.status();
  return file->read(header.data_offset + entry.begin + offset, into);
}

}  // namespace qwen3::checkpoint
