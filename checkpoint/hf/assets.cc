#include "checkpoint/hf/assets.h"

#include <filesystem>
#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "checkpoint/file.h"
#include "checkpoint/hf/config.h"
#include "checkpoint/hf/folder.h"

namespace qwen3::checkpoint {
namespace {

constexpr int64_t kMaxAssetBytes = 64 << 20;  // Qwen3's tokenizer.json has 11 MB
constexpr const char* kAssets[] = {
    "generation_config.json",  "tokenizer.json",    "tokenizer_config.json", "vocab.json",        "merges.txt",
    "special_tokens_map.json", "added_tokens.json", "chat_template.jinja",   "chat_template.json"};

}  // namespace

absl::Status write_text(const std::string& path, const std::string& text) {
  absl::StatusOr<OutputFile> file = OutputFile::create(path, static_cast<int64_t>(text.size()));
  if (!file.ok()) return file.status();
  if (absl::Status status = file->append(text); !status.ok()) return status;
  return file->commit().status();
}

absl::Status copy_assets(const std::string& from, const std::string& to) {
  for (const char* name : kAssets) {
    absl::StatusOr<InputFile> file = open_in_hf_folder(from, name);
    if (absl::IsNotFound(file.status())) continue;
    if (!file.ok()) return file.status();
    absl::StatusOr<std::string> text = file->contents(kMaxAssetBytes);
    if (!text.ok()) return text.status();
    if (absl::Status status = write_text(absl::StrCat(to, "/", name), *text); !status.ok()) return status;
  }
  return absl::OkStatus();
}

absl::StatusOr<std::string> adapt_config(const std::string& text, const spec::ModelShape& model,
                                         const std::string& dtype) try {
  auto config = nlohmann::ordered_json::parse(text);
  const bool new_spelling = config.contains("rope_parameters");
  const char* key = config.contains("torch_dtype") || !config.contains("dtype") ? "torch_dtype" : "dtype";
  if (!new_spelling && config.value(key, "") == dtype) return text;
  config[key] = dtype;
  if (new_spelling) {
    config.erase("rope_parameters");
    config["rope_theta"] = model.rope_theta;
    config["rope_scaling"] = nlohmann::ordered_json::parse(rope_scaling_json(model));
  }
  return config.dump(2) + "\n";
} catch (const nlohmann::json::exception& error) {
  return absl::InvalidArgumentError(absl::StrCat("config.json: ", error.what()));
}

}  // namespace qwen3::checkpoint
