#include "client/parity/tokens.h"

#include <cstddef>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <random>
#include <span>
#include <vector>

#include "absl/strings/str_cat.h"
#include "checkpoint/safetensors.h"

namespace qwen3::client {
namespace {

constexpr int64_t kSequences = 2;
constexpr int64_t kLength = 64;

}  // namespace

absl::Status write_random_tokens(const std::string& model, const std::string& path) {
  const std::string config = model + "/config.json";
  std::ifstream file(config);
  const auto json = nlohmann::json::parse(file, nullptr, /*allow_exceptions=*/false);
  if (!json.is_object() || !json.contains("vocab_size") || !json["vocab_size"].is_number_integer() ||
      json["vocab_size"].get<int64_t>() < 1) {
    return absl::InvalidArgumentError(absl::StrCat(config, " has no vocab_size of at least 1"));
  }
  const auto vocab = static_cast<uint64_t>(json["vocab_size"].get<int64_t>());
  std::mt19937_64 random(1);
  std::vector<int64_t> ids(kSequences * kLength);
  for (int64_t& id : ids) id = static_cast<int64_t>(random() % vocab);
  const checkpoint::TensorBytes tensor{
      "ids", checkpoint::Dtype::kInt64, {kSequences, kLength}, std::as_bytes(std::span(ids))};
  return checkpoint::write_safetensors(path, std::span(&tensor, 1)).status();
}

absl::Status extract_tokens(const std::string& reference, const std::string& path) {
  const auto header = checkpoint::read_safetensors_header(reference);
  if (!header.ok()) return header.status();
  if (!header->tensors.contains("ids")) {
    return absl::InvalidArgumentError(
        absl::StrCat(reference, " has no tensor \"ids\" [B, S]: on what was it computed?"));
  }
  std::map<std::string, std::vector<std::byte>> data;
  std::vector<checkpoint::TensorBytes> tensors;
  for (const char* name : {"ids", "labels", "positions"}) {
    const auto found = header->tensors.find(name);
    if (found == header->tensors.end()) continue;
    const checkpoint::TensorEntry& entry = found->second;
    if (entry.dtype != checkpoint::Dtype::kInt64) {
      return absl::InvalidArgumentError(
          absl::StrCat(reference, ": \"", name, "\" is ", checkpoint::dtype_name(entry.dtype), "; it must be I64"));
    }
    std::vector<std::byte>& bytes = data[name];
    bytes.resize(entry.end - entry.begin);
    const auto status = checkpoint::read_tensor_bytes(reference, *header, name, 0, bytes);
    if (!status.ok()) return status;
    tensors.push_back({name, entry.dtype, entry.shape, bytes});
  }
  return checkpoint::write_safetensors(path, tensors).status();
}

}  // namespace qwen3::client
