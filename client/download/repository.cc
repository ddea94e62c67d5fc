#include "client/download/repository.h"

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>
#include <set>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"

namespace qwen3::client::download {
namespace {

using nlohmann::json;

// What our tokenizer reads comes first; the others go with a model that is handed on.
constexpr std::array kTokenizerFiles = {"tokenizer.json",     "tokenizer_config.json",   "vocab.json",
                                        "merges.txt",         "special_tokens_map.json", "added_tokens.json",
                                        "chat_template.jinja"};
constexpr std::array kConfigFiles = {"config.json", "generation_config.json"};
constexpr char kSingleFile[] = "model.safetensors";

template <size_t N>
bool contains(const std::array<const char*, N>& names, const std::string& name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

bool is_hex(const std::string& text, size_t digits) {
  return text.size() == digits && std::all_of(text.begin(), text.end(), [](char c) { return absl::ascii_isxdigit(c); });
}

bool is_name_character(char c) { return absl::ascii_isalnum(c) || c == '_' || c == '-' || c == '.'; }

std::string shown(std::string_view text) {
  return absl::StrCat("\"", absl::CHexEscape(std::string(text.substr(0, 80))), text.size() > 80 ? "...\"" : "\"");
}

// As the Hub does: "NAME" or "OWNER/NAME" of letters, digits, '-', '_' and '.'.
bool is_repository_id(const std::string& id) {
  const std::vector<std::string> parts = absl::StrSplit(id, '/');
  if (parts.size() > 2 || absl::StrContains(id, "..") || absl::StrContains(id, "--")) return false;
  return std::all_of(parts.begin(), parts.end(), [](const std::string& part) {
    const auto edge = [](char c) { return absl::ascii_isalnum(c) || c == '_'; };
    return !part.empty() && part.size() <= 96 && edge(part.front()) && edge(part.back()) &&
           std::all_of(part.begin(), part.end(), is_name_character);
  });
}

// Everything but what RFC 3986 calls unreserved; `keep`: another character that stays.
std::string percent_encoded(std::string_view text, char keep = '\0') {
  std::string encoded;
  for (const char c : text) {
    if (is_name_character(c) || c == '~' || (keep != '\0' && c == keep)) {
      encoded += c;
    } else {
      absl::StrAppendFormat(&encoded, "%%%02X", static_cast<unsigned char>(c));
    }
  }
  return encoded;
}

// Whether a path stays below the folder it is appended to, on any file system and in any terminal.
bool stays_inside(const std::string& path) {
  if (path.empty() || path.size() > 1024) return false;
  const bool plain = std::all_of(path.begin(), path.end(), [](unsigned char c) { return c >= 0x20 && c != 0x7f; });
  if (!plain || absl::StrContains(path, "\\") || absl::StrContains(path, ":")) return false;
  const std::vector<std::string> parts = absl::StrSplit(path, '/');
  return std::all_of(parts.begin(), parts.end(),
                     [](const std::string& part) { return !part.empty() && part != "." && part != ".."; });
}

absl::Status leaves_the_folder(std::string_view who, const std::string& name) {
  return absl::InvalidArgumentError(absl::StrCat(std::string(who), " names the file ", shown(name),
                                                 ", which is no plain path inside a folder; refused"));
}

std::string text_or_empty(const json& object, const char* key) {
  const auto it = object.find(key);
  return it != object.end() && it->is_string() ? it->get<std::string>() : "";
}

absl::StatusOr<RemoteFile> parse_file(const json& sibling) {
  if (!sibling.is_object()) return absl::InvalidArgumentError("the listing's \"siblings\" holds what is no object");
  RemoteFile file{.name = text_or_empty(sibling, "rfilename")};
  if (!stays_inside(file.name)) return leaves_the_folder("the listing", file.name);
  const auto lfs = sibling.find("lfs");
  const bool large = lfs != sibling.end() && lfs->is_object();
  for (const json* holder : {&sibling, large ? &*lfs : nullptr}) {
    if (holder == nullptr || !holder->contains("size")) continue;
    const json& size = holder->at("size");
    if (!size.is_number_integer() || size.get<int64_t>() < 0) {
      return absl::InvalidArgumentError(absl::StrCat("the listing's size of ", file.name, " is ", size.dump()));
    }
    file.size = size.get<int64_t>();
  }
  // The blob id of a large file is that of its pointer, not of its content.
  const std::string hash = large ? text_or_empty(*lfs, "sha256") : text_or_empty(sibling, "blobId");
  if (is_hex(hash, large ? 64 : 40)) (large ? file.sha256 : file.git_sha1) = absl::AsciiStrToLower(hash);
  return file;
}

const RemoteFile* find(const Listing& listing, std::string_view name) {
  const auto it = std::find_if(listing.files.begin(), listing.files.end(),
                               [name](const RemoteFile& file) { return file.name == name; });
  return it == listing.files.end() ? nullptr : &*it;
}

absl::Status no_weights(const Listing& listing) {
  const bool pickles = std::any_of(listing.files.begin(), listing.files.end(), [](const RemoteFile& file) {
    return absl::EndsWith(file.name, ".bin") || absl::EndsWith(file.name, ".pt") || absl::EndsWith(file.name, ".pth");
  });
  return absl::NotFoundError(absl::StrCat(
      "the repository has neither ", kSingleFile, " nor ", kIndexFile,
      pickles ? "; its weights are pickles, which run code when they are read and are never downloaded" : ""));
}

void sort_by_name(std::vector<RemoteFile>& files) {
  std::sort(files.begin(), files.end(), [](const RemoteFile& a, const RemoteFile& b) { return a.name < b.name; });
}

}  // namespace

absl::StatusOr<Repository> make_repository(std::string endpoint, const std::string& id, const std::string& revision) {
  while (absl::EndsWith(endpoint, "/")) endpoint.pop_back();
  const std::string_view schemes[] = {"https://", "http://"};
  const bool known = std::any_of(std::begin(schemes), std::end(schemes), [&](std::string_view scheme) {
    return endpoint.size() > scheme.size() && endpoint.compare(0, scheme.size(), scheme) == 0;
  });
  if (!known || endpoint.find_first_of("@?# \t\r\n\\") != std::string::npos) {
    return absl::InvalidArgumentError(
        absl::StrCat("HF_ENDPOINT is ", shown(endpoint), ", expected https://HOST or http://HOST:PORT"));
  }
  if (!is_repository_id(id)) {
    return absl::InvalidArgumentError(
        absl::StrCat("the repository is ", shown(id),
                     ", expected OWNER/NAME of letters, digits, '-', '_' and '.', as Qwen/Qwen3-0.6B"));
  }
  if (revision.empty() || !stays_inside(revision)) {
    return absl::InvalidArgumentError(
        absl::StrCat("the revision is ", shown(revision), ", expected a branch, a tag or a commit, as main"));
  }
  return Repository{std::move(endpoint), id, revision};
}

std::string listing_url(const Repository& repository) {
  return absl::StrCat(repository.endpoint, "/api/models/", repository.id, "/revision/",
                      percent_encoded(repository.revision), "?blobs=true");
}

std::string file_url(const Repository& repository, const std::string& commit, const std::string& file) {
  return absl::StrCat(repository.endpoint, "/", repository.id, "/resolve/",
                      percent_encoded(commit.empty() ? repository.revision : commit), "/", percent_encoded(file, '/'));
}

absl::StatusOr<Listing> parse_listing(std::string_view text) {
  const json root = json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!root.is_object() || !root.contains("siblings") || !root.at("siblings").is_array()) {
    return absl::InvalidArgumentError(
        absl::StrCat("the answer is no listing of a repository (an object with \"siblings\") but ", shown(text)));
  }
  Listing listing{.commit = text_or_empty(root, "sha")};
  if (!is_hex(listing.commit, 40)) listing.commit.clear();
  std::set<std::string> names;
  for (const json& sibling : root.at("siblings")) {
    auto file = parse_file(sibling);
    if (!file.ok()) return file.status();
    if (!names.insert(file->name).second) {
      return absl::InvalidArgumentError(absl::StrCat("the listing names ", shown(file->name), " twice"));
    }
    listing.files.push_back(*std::move(file));
  }
  return listing;
}

absl::StatusOr<Assets> parse_assets(const std::vector<std::string>& words) {
  Assets assets;
  for (const std::string& word : words) {
    bool* const asset = word == "tokenizer" ? &assets.tokenizer
                        : word == "config"  ? &assets.config
                        : word == "weights" ? &assets.weights
                                            : nullptr;
    if (asset == nullptr) {
      return absl::InvalidArgumentError(
          absl::StrCat("--assets names ", shown(word), ", expected some of tokenizer, config, weights"));
    }
    *asset = true;
  }
  return assets;
}

absl::StatusOr<Selection> select(const Listing& listing, Assets assets) {
  Selection selection;
  for (const RemoteFile& file : listing.files) {
    if ((assets.tokenizer && contains(kTokenizerFiles, file.name)) ||
        (assets.config && contains(kConfigFiles, file.name))) {
      selection.files.push_back(file);
    }
  }
  sort_by_name(selection.files);
  for (const auto& [wanted, name] :
       {std::pair(assets.tokenizer, kTokenizerFiles[0]), std::pair(assets.config, kConfigFiles[0])}) {
    if (wanted && find(listing, name) == nullptr) {
      return absl::NotFoundError(absl::StrCat("the repository has no ", name, " in its top folder"));
    }
  }
  if (assets.weights) {
    const RemoteFile* const single = find(listing, kSingleFile);
    const RemoteFile* const index = find(listing, kIndexFile);
    if (single == nullptr && index == nullptr) return no_weights(listing);
    selection.files.push_back(single != nullptr ? *single : *index);
    selection.has_index = single == nullptr;
  }
  return selection;
}

absl::StatusOr<std::vector<RemoteFile>> select_shards(const Listing& listing, std::string_view index_json) {
  const json root = json::parse(index_json, nullptr, /*allow_exceptions=*/false);
  const auto map = root.is_object() ? root.find("weight_map") : root.end();
  if (!root.is_object() || map == root.end() || !map->is_object() || map->empty()) {
    return absl::InvalidArgumentError(absl::StrCat(kIndexFile, " has no \"weight_map\" from tensors to files"));
  }
  std::set<std::string> names;
  for (const auto& [tensor, file] : map->items()) {
    if (!file.is_string()) {
      return absl::InvalidArgumentError(absl::StrCat(kIndexFile, ": ", shown(tensor), " maps to ", file.dump()));
    }
    names.insert(file.get<std::string>());
  }
  std::vector<RemoteFile> shards;
  std::vector<std::string> missing;
  for (const std::string& name : names) {
    if (!stays_inside(name) || absl::StrContains(name, "/")) return leaves_the_folder(kIndexFile, name);
    if (!absl::EndsWith(name, ".safetensors")) {
      return absl::InvalidArgumentError(
          absl::StrCat(kIndexFile, " names ", shown(name), "; weights are taken from .safetensors files only"));
    }
    const RemoteFile* const file = find(listing, name);
    file == nullptr ? missing.push_back(name) : shards.push_back(*file);
  }
  if (!missing.empty()) {
    return absl::NotFoundError(
        absl::StrCat(kIndexFile, " names ", missing.size(), " of ", names.size(),
                     " files that the repository does not have: ", absl::StrJoin(missing, ", ")));
  }
  return shards;
}

}  // namespace qwen3::client::download
