#include "coordinator/checkpoint_files.h"

#include <sys/statvfs.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <optional>
#include <random>
#include <system_error>
#include <utility>

#include "absl/strings/str_cat.h"
#include "checkpoint/file.h"
#include "checkpoint/manifest.h"
#include "coordinator/names.h"

namespace qwen3::coordinator {
namespace {

namespace fs = std::filesystem;

bool lies_under(const fs::path& path, const fs::path& root) {
  const auto [at, end] = std::mismatch(root.begin(), root.end(), path.begin(), path.end());
  return at == root.end() && path != root;
}

// Folders step-N.attempt-A of a job, with what their names say. Those that cannot be looked at are left out.
std::vector<std::pair<fs::path, CheckpointFolder>> checkpoint_folders(const std::string& job_folder) {
  std::vector<std::pair<fs::path, CheckpointFolder>> folders;
  std::error_code error;  // a job that never wrote has no folder
  for (fs::directory_iterator entry(job_folder, error), end; !error && entry != end; entry.increment(error)) {
    const auto parsed = parse_checkpoint_folder(entry->path().filename().string());
    std::error_code unknown;
    if (parsed && entry->is_directory(unknown)) folders.emplace_back(entry->path(), *parsed);
  }
  std::ranges::sort(folders, {}, [](const auto& folder) { return folder.second.step; });
  return folders;
}

// Also when it cannot be looked at: what may be committed is not deleted.
bool has_manifest(const fs::path& folder) {
  std::error_code error;
  return fs::exists(folder / checkpoint::kManifestName, error) || error;
}

// Makes the names durable that lead from the root to the folder: a rank syncs the folder itself, not its entry above.
absl::Status sync_parents(const fs::path& folder, const fs::path& root) {
  for (fs::path parent = folder.parent_path();; parent = parent.parent_path()) {
    if (absl::Status status = checkpoint::sync_folder(parent.string()); !status.ok()) return status;
    if (!lies_under(parent, root)) return absl::OkStatus();
  }
}

constexpr std::string_view kProbePrefix = ".probe-";
constexpr size_t kProbeBytes = 32;

// One that an earlier coordinator left when it was killed.
std::optional<Probe> left_probe(const std::string& root) {
  std::error_code error;
  for (fs::directory_iterator entry(root, error), end; !error && entry != end; entry.increment(error)) {
    if (!entry->path().filename().string().starts_with(kProbePrefix)) continue;
    std::ifstream file(entry->path());
    Probe probe{.file = entry->path().string()};
    probe.content.assign(std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>());
    if (probe.content.size() == kProbeBytes) return probe;
  }
  return std::nullopt;
}

}  // namespace

absl::StatusOr<CommittedCheckpoint> commit_checkpoint(const CheckpointParts& parts, const std::string& root) {
  const fs::path folder = fs::path(parts.folder).lexically_normal();
  if (!lies_under(folder, root)) {
    return absl::InvalidArgumentError(
        absl::StrCat("folder ", parts.folder, " is not under the checkpoint root ", root));
  }
  std::vector<checkpoint::Manifest> manifests;
  for (const internal::v1::PreparedCheckpoint& part : parts.parts) {
    auto manifest = checkpoint::from_json(part.manifest_part());
    if (!manifest.ok()) return manifest.status();
    manifests.push_back(*std::move(manifest));
  }
  auto merged = checkpoint::merge(manifests);
  if (!merged.ok()) return merged.status();
  CommittedCheckpoint committed{.state_digest = merged->state_digest};
  for (const auto& [name, file] : merged->files) {
    std::error_code error;
    const auto size = fs::file_size(fs::path(parts.folder) / name, error);
    if (error || static_cast<int64_t>(size) != file.size_bytes) {
      return absl::DataLossError(absl::StrCat(parts.folder, "/", name, " should have ", file.size_bytes, " bytes and ",
                                              error ? error.message() : absl::StrCat("has ", size)));
    }
    committed.size_bytes += file.size_bytes;
  }
  if (absl::Status status = sync_parents(folder, root); !status.ok()) return status;
  if (absl::Status status = checkpoint::write_manifest(parts.folder, *merged); !status.ok()) return status;
  return committed;
}

std::vector<v1::Checkpoint> scan_committed(const std::string& job, const std::string& job_folder) {
  std::vector<v1::Checkpoint> found;
  for (const auto& [path, parsed] : checkpoint_folders(job_folder)) {
    if (!has_manifest(path)) continue;
    const auto manifest = checkpoint::read_manifest(path.string());
    if (!manifest.ok()) continue;  // it does not hold together: as good as none, and left for a person to look at
    v1::Checkpoint& checkpoint = found.emplace_back();
    checkpoint.set_name(checkpoint_name(job, parsed.step));
    checkpoint.set_step(parsed.step);
    checkpoint.set_attempt(parsed.attempt);
    checkpoint.set_state(v1::CHECKPOINT_STATE_COMMITTED);
    checkpoint.set_folder(path.string());
    checkpoint.set_state_digest(manifest->state_digest);
    int64_t bytes = 0;
    for (const auto& [name, file] : manifest->files) bytes += file.size_bytes;
    checkpoint.set_size_bytes(bytes);
  }
  return found;
}

std::vector<std::string> sweep_torn(const std::string& job_folder, const std::function<bool(int32_t)>& is_over) {
  std::vector<std::string> swept;
  for (const auto& [path, parsed] : checkpoint_folders(job_folder)) {
    if (has_manifest(path) || !is_over(parsed.attempt)) continue;
    std::error_code ignored;  // what cannot be deleted now is found by the next scan
    fs::remove_all(path, ignored);
    swept.push_back(path.filename().string());
  }
  return swept;
}

absl::Status remove_checkpoint(const std::string& folder, const std::string& root) {
  if (!lies_under(fs::path(folder).lexically_normal(), root)) {
    return absl::InvalidArgumentError(absl::StrCat(folder, " is not under the checkpoint root ", root));
  }
  std::error_code error;
  fs::remove(fs::path(folder) / checkpoint::kManifestName, error);  // first: half a checkpoint has no manifest
  fs::remove_all(folder, error);
  return error ? absl::InternalError(absl::StrCat("cannot delete ", folder, ": ", error.message())) : absl::OkStatus();
}

absl::StatusOr<int64_t> free_bytes(const std::string& folder) {
  fs::path path = fs::path(folder).lexically_normal();
  std::error_code error;
  while (!fs::exists(path, error) && path.has_relative_path()) path = path.parent_path();
  struct statvfs space = {};
  if (statvfs(path.c_str(), &space) != 0) {
    return absl::InternalError(absl::StrCat("statvfs ", path.string(), ": ", std::generic_category().message(errno)));
  }
  return static_cast<int64_t>(space.f_bavail) * static_cast<int64_t>(space.f_frsize);
}

absl::StatusOr<Probe> write_probe(const std::string& root) {
  std::random_device random;
  Probe probe;
  for (size_t i = 0; i < kProbeBytes / 8; ++i) {
    absl::StrAppend(&probe.content, absl::Hex(random(), absl::kZeroPad8));
  }
  const std::string name = absl::StrCat(absl::Hex(random(), absl::kZeroPad8));
  probe.file = (fs::path(root) / (std::string(kProbePrefix) + name)).string();
  std::ofstream file(probe.file);
  file << probe.content << std::flush;
  if (file) return probe;
  std::error_code ignored;
  fs::remove(probe.file, ignored);
  if (auto left = left_probe(root)) return *std::move(left);  // a full disk is no reason not to start
  return absl::FailedPreconditionError(absl::StrCat("cannot write ", probe.file));
}

absl::StatusOr<std::string> resolve_checkpoint_path(const std::string& path, const std::string& root) {
  std::error_code error;
  const fs::path resolved = fs::canonical(fs::path(root) / path, error);  // an absolute path replaces the root
  if (error) return absl::InvalidArgumentError(absl::StrCat("\"", path, "\": ", error.message()));
  if (!lies_under(resolved, root)) {
    return absl::InvalidArgumentError(absl::StrCat("\"", path, "\" is not inside the checkpoint root ", root));
  }
  if (!has_manifest(resolved)) {
    return absl::InvalidArgumentError(
        absl::StrCat("\"", path, "\" has no ", checkpoint::kManifestName, ": it is not a committed checkpoint"));
  }
  return resolved.string();
}

}  // namespace qwen3::coordinator
