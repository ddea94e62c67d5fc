// What a Hugging Face-compatible endpoint offers, and which of it we take.
// Pure: text in, text out; no network, no disk. Whatever the server wrote is checked before it becomes a file name.
#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

namespace qwen3::client::download {

struct Repository {
  std::string endpoint;  // "https://huggingface.co", without a slash at the end
  std::string id;        // "Qwen/Qwen3-0.6B"
  std::string revision;  // branch, tag or commit
};
// INVALID_ARGUMENT for what cannot be an endpoint, a repository or a revision.
absl::StatusOr<Repository> make_repository(std::string endpoint, const std::string& id, const std::string& revision);

// Answers with the commit, and each file's name, size and hash.
std::string listing_url(const Repository& repository);
// `commit`: what the listing named, so that all files are of one state of the repository; empty: the revision itself.
std::string file_url(const Repository& repository, const std::string& commit, const std::string& file);

struct RemoteFile {
  std::string name;
  std::optional<int64_t> size;
  std::string sha256;    // 64 hex digits, of files in large-file storage; else empty
  std::string git_sha1;  // 40 hex digits, of the others: the id of git's blob; empty: not told
};
struct Listing {
  std::string commit;
  std::vector<RemoteFile> files;
};
// INVALID_ARGUMENT also when any name could leave the folder it is downloaded to.
absl::StatusOr<Listing> parse_listing(std::string_view json);

struct Assets {
  bool tokenizer = false;
  bool config = false;
  bool weights = false;
};
// "tokenizer,config,weights" in any order.
absl::StatusOr<Assets> parse_assets(const std::vector<std::string>& words);

struct Selection {
  std::vector<RemoteFile> files;  // sorted: all but the weights, then the weights
  bool has_index = false;         // kIndexFile is among them, and the shards it names are still to be selected
};
inline constexpr char kIndexFile[] = "model.safetensors.index.json";

// Files of the repository's top folder that belong to `assets`. NOT_FOUND names what a model needs and it lacks.
// Weights are safetensors only: pickles run code when they are read.
absl::StatusOr<Selection> select(const Listing& listing, Assets assets);

// The files that the text of an index names, sorted, each of them in the listing.
absl::StatusOr<std::vector<RemoteFile>> select_shards(const Listing& listing, std::string_view index_json);

}  // namespace qwen3::client::download
