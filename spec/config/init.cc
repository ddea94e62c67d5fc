#include "spec/config/init.h"

#include <absl/strings/str_cat.h>
#include <absl/strings/str_replace.h>
#include <absl/strings/strip.h>

#include <filesystem>
#include <fstream>

#include "spec/hf_config.h"

namespace qwen3::spec::config {

std::string hf_folder(const std::string& init) {
  absl::string_view rest = init;
  return absl::ConsumePrefix(&rest, "hf:") ? std::string(rest) : "";
}

absl::StatusOr<ModelShape> hf_model(const std::string& folder) {
  const std::string path = absl::StrCat(folder, "/config.json");
  std::error_code error;
  if (!std::filesystem::is_regular_file(path, error)) {
    return absl::NotFoundError(absl::StrCat(path, " does not exist on this machine"));
  }
  std::string text(kMaxHfConfigBytes + 1, '\0');  // one byte more than the parser takes
  std::ifstream file(path, std::ios::binary);
  file.read(text.data(), static_cast<std::streamsize>(text.size()));
  if (file.bad() || !file.is_open()) return absl::UnavailableError(absl::StrCat(path, ": cannot read"));
  text.resize(static_cast<size_t>(file.gcount()));
  absl::StatusOr<ModelShape> model = parse_hf_config(text);
  if (!model.ok()) {
    const std::string lines = absl::StrReplaceAll(model.status().message(), {{"\n", absl::StrCat("\n", path, ": ")}});
    return absl::InvalidArgumentError(absl::StrCat(path, ": ", lines));
  }
  return model;
}

}  // namespace qwen3::spec::config
