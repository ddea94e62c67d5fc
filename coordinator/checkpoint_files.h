// The coordinator's part of the checkpoint root: manifests, the scan at start, pruning, the probe. Blocks on disk.
#pragma once
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "coordinator/effects.h"
#include "qwen3/v1/checkpoint.pb.h"

namespace qwen3::coordinator {

// Merges the ranks' parts, checks that every file is there with its size, syncs the folders above up to the root,
// writes manifest.json. Idempotent.
absl::StatusOr<CommittedCheckpoint> commit_checkpoint(const CheckpointParts& parts, const std::string& root);

// The job's checkpoints that have a manifest, oldest first; `job` is its resource name.
std::vector<v1::Checkpoint> scan_committed(const std::string& job, const std::string& job_folder);

// Deletes step-N.attempt-A folders without a manifest, of attempts for which `is_over`. Returns their names.
std::vector<std::string> sweep_torn(const std::string& job_folder, const std::function<bool(int32_t)>& is_over);

// Deletes one folder. REQUIRES: it lies under `root`.
absl::Status remove_checkpoint(const std::string& folder, const std::string& root);

// Bytes an unprivileged process may still write in `folder` or the nearest parent that exists.
absl::StatusOr<int64_t> free_bytes(const std::string& folder);

// A file with random content under the root, by which daemons prove that they see the same file system.
struct Probe {
  std::string file;  // absolute
  std::string content;
};
// Where no new one can be written it is one that a killed coordinator left.
absl::StatusOr<Probe> write_probe(const std::string& root);

// A folder of a committed checkpoint named by a user: absolute or relative to `root`, resolved, inside `root`, with a
// manifest. INVALID_ARGUMENT says which of these does not hold.
absl::StatusOr<std::string> resolve_checkpoint_path(const std::string& path, const std::string& root);

}  // namespace qwen3::coordinator
