// What the controller wants done in the world. The controller itself has no clock, network, disk or lock, so that it
// also runs in a simulation; the coordinator process implements this, and so do tests.
#pragma once
#include <functional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "coordinator/store.h"
#include "qwen3/internal/v1/session.pb.h"

namespace qwen3::coordinator {

// All parts of one checkpoint, by rank.
struct CheckpointParts {
  std::string folder;
  std::vector<internal::v1::PreparedCheckpoint> parts;
};

struct CommittedCheckpoint {
  int64_t size_bytes = 0;
  std::string state_digest;
};

class Effects {
 public:
  virtual ~Effects() = default;

  // To the daemon at the other end of a session; dropped when it is gone.
  virtual void send(int64_t session, const internal::v1::CoordinatorMessage& message) = 0;
  // Ends a session, with what the daemon did wrong.
  virtual void close(int64_t session, const absl::Status& why) = 0;
  // One transaction; `done` (may be empty) comes back to the controller's thread once it is on disk.
  virtual void write(Write write, std::function<void()> done) = 0;
  // Merges the parts and writes the manifest; `done` comes back to the controller's thread.
  virtual void commit_checkpoint(CheckpointParts parts,
                                 std::function<void(absl::StatusOr<CommittedCheckpoint>)> done) = 0;
  // Deletes folders of checkpoints that were pruned or given up.
  virtual void remove_folders(std::vector<std::string> folders) = 0;
  // Deletes what attempts before `attempt` left in the job's folder without a manifest.
  virtual void sweep(std::string job_folder, int32_t attempt) = 0;

  // For metrics only.
  virtual void on_queue_wait(absl::Duration wait) = 0;
  virtual void on_progress(const std::string& job, const v1::Progress& progress) = 0;
  virtual void on_ended(const std::string& job) = 0;
};

}  // namespace qwen3::coordinator
