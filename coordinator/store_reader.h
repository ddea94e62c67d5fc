// Reads what the store has committed. A connection of its own; may be used from any thread, one at a time.
#pragma once
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "coordinator/store.h"

namespace qwen3::coordinator {

// Which rows of the one queue: jobs are named ".../jobs/ID", tasks ".../operations/ID".
enum class Rows { kJobs, kTasks, kBoth };

class StoreReader {
 public:
  static absl::StatusOr<std::unique_ptr<StoreReader>> open(const std::string& path);
  ~StoreReader();

  // A job or a task. NOT_FOUND names it.
  absl::StatusOr<internal::v1::StoredJob> job(const std::string& name);
  // Newest first, at most `limit`, with numbers below `before`.
  absl::StatusOr<std::vector<internal::v1::StoredJob>> jobs(int64_t before, int64_t limit, Rows rows = Rows::kJobs);
  // Oldest first.
  absl::StatusOr<std::vector<internal::v1::StoredAttempt>> attempts(const std::string& job);
  // With seq > after, in order, at most `limit`.
  absl::StatusOr<std::vector<StoredEvent>> events(const std::string& job, int64_t after, int64_t limit);
  // The same, only those about checkpoints.
  absl::StatusOr<std::vector<StoredEvent>> checkpoint_events(const std::string& job, int64_t after, int64_t limit);
  // Every state, oldest first, with their evaluations.
  absl::StatusOr<std::vector<v1::Checkpoint>> checkpoints(const std::string& job);
  // Of all jobs, those that were committed and are not to be used any more: deleted or unreadable.
  absl::StatusOr<std::vector<v1::Checkpoint>> unusable_checkpoints();
  // Remembered since `since` (Unix seconds).
  absl::StatusOr<std::vector<internal::v1::StoredRequest>> requests(int64_t since);

 private:
  explicit StoreReader(std::unique_ptr<Database> database);
  absl::StatusOr<std::vector<StoredEvent>> select_events(const char* sql, const std::string& job, int64_t after,
                                                         int64_t limit);
  std::mutex mutex_;  // guards the connection
  std::unique_ptr<Database> database_;
};

}  // namespace qwen3::coordinator
