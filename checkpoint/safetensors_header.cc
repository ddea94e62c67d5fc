#include "checkpoint/safetensors_header.h"

#include <string>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "checkpoint/json_stream.h"

namespace qwen3::checkpoint {
namespace {

constexpr int64_t kEntryCost = 160;  // bytes of an entry's nodes besides its name

class HeaderParser {
 public:
  HeaderParser(const InputFile& file, int64_t begin, int64_t size, SafetensorsHeader* header)
      : json_(file, begin, size, "header"), header_(*header) {}

  void parse() {
    json_.members(kMaxNameBytes, [&](std::string name) {
      if (name == "__metadata__") {
        metadata();
      } else {
        tensor(std::move(name));
      }
    });
    json_.end();
  }

 private:
  void keep(int64_t size) {
    kept_ += size;
    if (kept_ > kMaxKeptBytes) {
      json_.fail(absl::StrCat("too many tensors or metadata: after ", header_.tensors.size(),
                              " tensors the header needs over ", kMaxKeptBytes, " bytes of memory"));
    }
  }

  void metadata() {
    json_.where = "__metadata__: ";
    if (std::exchange(has_metadata_, true)) json_.fail("named twice");
    json_.members(kMaxNameBytes, [&](std::string key) {
      std::string value = json_.string(kMaxMetadataBytes);
      keep(kEntryCost + static_cast<int64_t>(key.size() + value.size()));
      if (!header_.metadata.emplace(std::move(key), std::move(value)).second) json_.fail("a key is named twice");
    });
    json_.where.clear();
  }

  void tensor(std::string name) {
    json_.where = absl::StrCat("tensor \"", absl::CEscape(name), "\": ");
    if (name.empty()) json_.fail("a tensor without a name");
    keep(kEntryCost + static_cast<int64_t>(name.size()));
    if (header_.tensors.contains(name)) json_.fail("named twice");
    TensorEntry entry;
    bool has_dtype = false, has_shape = false, has_offsets = false;
    json_.members(kMaxNameBytes, [&](const std::string& key) {
      if (key == "dtype" && !std::exchange(has_dtype, true)) {
        absl::StatusOr<Dtype> dtype = parse_dtype(json_.string(64));
        if (!dtype.ok()) json_.fail(std::string(dtype.status().message()));
        entry.dtype = *dtype;
      } else if (key == "shape" && !std::exchange(has_shape, true)) {
        entry.shape = json_.numbers(kMaxDims);
      } else if (key == "data_offsets" && !std::exchange(has_offsets, true)) {
        const std::vector<int64_t> offsets = json_.numbers(2);
        if (offsets.size() != 2) json_.fail("data_offsets are not two numbers");
        entry.begin = offsets[0];
        entry.end = offsets[1];
      } else {
        json_.fail(absl::StrCat("key \"", absl::CEscape(key), "\" is unknown or named twice"));
      }
    });
    if (!has_dtype || !has_shape || !has_offsets) json_.fail("needs dtype, shape and data_offsets");
    json_.where.clear();
    header_.tensors.emplace(std::move(name), std::move(entry));
  }

  JsonStream json_;
  SafetensorsHeader& header_;
  bool has_metadata_ = false;
  int64_t kept_ = 0;
};

}  // namespace

absl::Status parse_header_text(const InputFile& file, int64_t begin, int64_t size, SafetensorsHeader* header) try {
  HeaderParser(file, begin, size, header).parse();
  return absl::OkStatus();
} catch (const JsonStreamError& error) {
  return error.status;
}

}  // namespace qwen3::checkpoint
