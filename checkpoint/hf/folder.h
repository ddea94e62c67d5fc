// The files of a Hugging Face folder: which hold its weights, and none of them outside of it.
#pragma once
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "checkpoint/file.h"

namespace qwen3::checkpoint {

inline constexpr const char* kHfConfigName = "config.json";
inline constexpr const char* kHfIndexName = "model.safetensors.index.json";
inline constexpr const char* kHfWeightsName = "model.safetensors";

// Opens a file of the folder. `name` is a plain name. A symbolic link must stay in the folder or, for a snapshot of
// Hugging Face's cache (models--X/snapshots/REVISION), lead to that model's blobs. INVALID_ARGUMENT says where it
// leads.
absl::StatusOr<InputFile> open_in_hf_folder(const std::string& folder, const std::string& name);

// model.safetensors.index.json: which tensor is in which file.
struct HfIndex {
  std::vector<std::string> files;          // plain names, each once
  std::map<std::string, int32_t> tensors;  // name -> position in `files`
};

// Reads and checks the index; what is kept of it is bounded whatever it says. INVALID_ARGUMENT names the byte and what
// is wrong.
absl::StatusOr<HfIndex> read_hf_index(const InputFile& file);

// The files with the folder's weights, and the index if it has one. INVALID_ARGUMENT: only pickled weights (they are
// never read), none at all, or both an index and a model.safetensors that it does not name.
struct HfWeights {
  std::vector<std::string> files;
  bool has_index = false;
  HfIndex index;
};
absl::StatusOr<HfWeights> find_hf_weights(const std::string& folder);

}  // namespace qwen3::checkpoint
