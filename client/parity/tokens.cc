#include "client/parity/tokens.h"

#include <fstream>
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

}  // namespace qwen3::client
