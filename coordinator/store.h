// The coordinator's durable state: jobs, attempts, events, checkpoints and request ids in one SQLite file. One thread
// writes, many transactions per fsync (group commit); a completion callback means "on disk".
#pragma once
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "qwen3/internal/v1/store.pb.h"
#include "qwen3/v1/checkpoint.pb.h"
#include "qwen3/v1/watch.pb.h"

namespace qwen3::coordinator {

class Database;

// An evaluation of a job's checkpoint, kept beside the checkpoint: its job may be long over.
struct StoredEvaluation {
  std::string job;
  int64_t step = 0;
  v1::CheckpointEvaluation evaluation;
};

// An event and, for those about checkpoints, the checkpoint after it, without its evaluations.
struct StoredEvent {
  v1::Event event;
  std::optional<v1::Checkpoint> checkpoint;
  std::optional<StoredEvaluation> evaluation;  // that this event is about
};

// One transaction: all of it or nothing. Empty: a barrier, done once everything before it is.
struct Write {
  std::optional<internal::v1::StoredJob> job;
  std::optional<internal::v1::StoredAttempt> attempt;
  std::vector<StoredEvent> events;  // of `job`
  std::optional<internal::v1::StoredRequest> request;
};

class Store {
 public:
  using Done = std::function<void()>;  // called on the writer thread, in order of write()

  // Creates the file or opens it; refuses a newer schema. A commit that fails is fatal (`on_fatal`, then no further
  // callback is made): memory would otherwise be ahead of the disk.
  static absl::StatusOr<std::unique_ptr<Store>> open(const std::string& path,
                                                     std::function<void(absl::Status)> on_fatal);
  ~Store();  // finishes what was written

  void write(Write write, Done done);

 private:
  struct Pending {
    Write write;
    Done done;
  };
  Store(std::unique_ptr<Database> database, std::function<void(absl::Status)> on_fatal);
  void run();
  absl::Status commit(const std::deque<Pending>& batch);

  std::unique_ptr<Database> database_;  // the writer thread's
  std::function<void(absl::Status)> on_fatal_;
  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<Pending> queue_;
  bool stopping_ = false;
  std::thread writer_;
};

}  // namespace qwen3::coordinator
