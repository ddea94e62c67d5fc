#include "checkpoint/hf/folder.h"

#include <algorithm>
#include <filesystem>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "checkpoint/json_stream.h"
#include "checkpoint/safetensors_header.h"

namespace qwen3::checkpoint {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kMaxIndexBytes = 64 << 20;  // the largest published one, of 235B, has 4 MB
constexpr int64_t kEntryCost = 96;            // of a map's node besides the name
constexpr size_t kMaxFiles = 4096;
constexpr int64_t kMaxFileName = 255;

bool is_plain(const std::string& name) {
  return !name.empty() && name.size() <= kMaxFileName && name[0] != '.' && name.find('/') == std::string::npos &&
         name.find('\0') == std::string::npos;
}

class IndexParser {
 public:
  explicit IndexParser(const InputFile& file) : json_(file, 0, file.size(), "index") {}

  HfIndex parse() {
    bool has_map = false;
    json_.members(kMaxNameBytes, [&](const std::string& key) {
      if (key != "weight_map") return json_.skip();  // metadata.total_size and what else tools write
      if (std::exchange(has_map, true)) json_.fail("weight_map: named twice");
      json_.members(kMaxNameBytes, [&](std::string name) { entry(std::move(name)); });
    });
    json_.end();
    if (!has_map) json_.fail("weight_map is missing");
    if (index_.tensors.empty()) json_.fail("weight_map names no tensor");
    return std::move(index_);
  }

 private:
  void entry(std::string name) {
    json_.where = absl::StrCat("tensor \"", absl::CEscape(name), "\": ");
    const std::string file = json_.string(kMaxNameBytes);
    if (!is_plain(file)) {
      json_.fail(absl::StrCat("file \"", absl::CEscape(file),
                              "\" is not in the folder: want a plain name, without '/' or leading '.'"));
    }
    if (!absl::EndsWith(file, ".safetensors")) {
      json_.fail(absl::StrCat("file \"", absl::CEscape(file), "\" is no .safetensors; nothing else is read"));
    }
    kept_ += kEntryCost + static_cast<int64_t>(name.size());
    if (kept_ > kMaxKeptBytes) json_.fail(absl::StrCat("too many tensors: over ", kMaxKeptBytes, " bytes of memory"));
    const auto [place, is_new] = file_numbers_.try_emplace(file, static_cast<int32_t>(index_.files.size()));
    if (is_new) index_.files.push_back(file);
    if (index_.files.size() > kMaxFiles) json_.fail(absl::StrCat("names over ", kMaxFiles, " files"));
    if (!index_.tensors.emplace(std::move(name), place->second).second) json_.fail("named twice");
    json_.where.clear();
  }

  JsonStream json_;
  HfIndex index_;
  std::map<std::string, int32_t> file_numbers_;
  int64_t kept_ = 0;
};

// A pickle among the folder's files; empty: none.
std::string pickle_in(const std::string& folder) {
  std::error_code error;
  for (fs::directory_iterator entry(folder, error), end; !error && entry != end; entry.increment(error)) {
    const std::string name = entry->path().filename();
    for (const char* suffix : {".bin", ".pt", ".pth", ".ckpt", ".bin.index.json"}) {
      if (absl::EndsWith(name, suffix)) return name;
    }
  }
  return "";
}

}  // namespace

absl::StatusOr<InputFile> open_in_hf_folder(const std::string& folder, const std::string& name) {
  const std::string path = absl::StrCat(folder, "/", name);
  std::error_code error;
  if (!fs::is_symlink(path, error)) return InputFile::open(path, Links::kRefuse);
  const fs::path real = fs::canonical(path, error);
  if (error) return absl::InvalidArgumentError(absl::StrCat(path, ": is a symbolic link to nothing"));
  const fs::path home = fs::canonical(folder, error);
  if (error) return absl::ErrnoToStatus(error.value(), folder);
  const bool inside = real.parent_path() == home;
  const bool cached =
      home.parent_path().filename() == "snapshots" && real.parent_path() == home.parent_path().parent_path() / "blobs";
  if (!inside && !cached) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, ": is a symbolic link to ", absl::CEscape(real.string()), ", outside of the folder"));
  }
  return InputFile::open(real.string(), Links::kRefuse);
}

absl::StatusOr<HfIndex> read_hf_index(const InputFile& file) try {
  if (file.size() > kMaxIndexBytes) {
    return absl::InvalidArgumentError(
        absl::StrCat(file.path(), ": has ", file.size(), " bytes, want at most ", kMaxIndexBytes));
  }
  return IndexParser(file).parse();
} catch (const JsonStreamError& error) {
  return error.status;
}

absl::StatusOr<HfWeights> find_hf_weights(const std::string& folder) {
  HfWeights weights;
  std::error_code error;
  const bool single = fs::exists(fs::symlink_status(absl::StrCat(folder, "/", kHfWeightsName), error));
  const absl::StatusOr<InputFile> index = open_in_hf_folder(folder, kHfIndexName);
  if (absl::IsNotFound(index.status())) {
    if (single) {
      weights.files = {kHfWeightsName};
      return weights;
    }
    const std::string pickle = pickle_in(folder);
    if (pickle.empty()) {
      return absl::InvalidArgumentError(
          absl::StrCat(folder, ": holds no weights: want ", kHfWeightsName, " or ", kHfIndexName));
    }
    return absl::InvalidArgumentError(absl::StrCat(folder, ": holds only pickled weights (", absl::CEscape(pickle),
                                                   "), which can run code and are never read: want ", kHfWeightsName,
                                                   "; transformers' save_pretrained writes it"));
  }
  if (!index.ok()) return index.status();
  absl::StatusOr<HfIndex> read = read_hf_index(*index);
  if (!read.ok()) return read.status();
  weights.has_index = true;
  weights.index = std::move(*read);
  weights.files = weights.index.files;
  if (single && std::find(weights.files.begin(), weights.files.end(), kHfWeightsName) == weights.files.end()) {
    return absl::InvalidArgumentError(absl::StrCat(folder, ": holds ", kHfWeightsName, " and ", kHfIndexName,
                                                   ", which does not name it: remove the one that is stale"));
  }
  return weights;
}

}  // namespace qwen3::checkpoint
