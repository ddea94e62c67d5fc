// What a Hugging Face folder holds beside its weights: config.json, tokenizer and chat template. A native checkpoint
// made of such a folder keeps them in its subfolder "hf", so that the folder can be written again.
#pragma once
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "spec/flavor.h"

namespace qwen3::checkpoint {

inline constexpr const char* kAssetsFolder = "hf";

// Copies tokenizer, chat template and generation_config.json as they are, as far as they are there. config.json not.
absl::Status copy_assets(const std::string& from, const std::string& to);

// `text`, the config.json of a folder with this model, for weights of another dtype and in the spelling of transformers
// 4: rope_theta and rope_scaling instead of rope_parameters. All other keys stay.
absl::StatusOr<std::string> adapt_config(const std::string& text, const spec::ModelShape& model,
                                         const std::string& dtype);

absl::Status write_text(const std::string& path, const std::string& text);

}  // namespace qwen3::checkpoint
