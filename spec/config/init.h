// `[model] init`: where a run's first weights come from.
#pragma once
#include <string>

#include "absl/status/statusor.h"
#include "spec/flavor.h"

namespace qwen3::spec::config {

// FOLDER of "hf:FOLDER"; empty: the weights are random.
std::string hf_folder(const std::string& init);

// What the folder's config.json says. The message is one line for each mistake, each with the file's path.
absl::StatusOr<ModelShape> hf_model(const std::string& folder);

}  // namespace qwen3::spec::config
