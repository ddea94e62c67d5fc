// Metrics and logs of all jobs: one record file per job and kind, one writing thread with a shared fsync per file and
// round. Within an attempt and rank records keep their order; batches that are sent again change nothing.
#pragma once
#include <condition_variable>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "coordinator/record_file.h"

namespace qwen3::coordinator {

enum class RecordKind { kMetrics, kLogs };

class Records {
 public:
  // On the writing thread; `fresh` are those that were not there before.
  using Done = std::function<void(absl::Status status, std::vector<Record> fresh)>;

  explicit Records(std::string folder);  // existing; one file per job and kind
  ~Records();

  void append(const std::string& job_id, RecordKind kind, std::vector<Record> records, Done done);
  // Blocks on disk. OUT_OF_RANGE: not a position of this job's records.
  absl::StatusOr<std::vector<PositionedRecord>> read(const std::string& job_id, RecordKind kind, int64_t position,
                                                     int64_t max_bytes);

 private:
  struct Pending {
    std::string path;
    std::vector<Record> records;
    Done done;
  };
  std::string path_of(const std::string& job_id, RecordKind kind) const;
  absl::StatusOr<RecordFile*> file(const std::string& path);  // REQUIRES: files_mutex_ held
  void run();
  void append_all(const std::string& path, std::vector<Pending*> pending);

  const std::string folder_;
  std::mutex files_mutex_;                                    // guards files_; never held while records are written
  std::map<std::string, std::unique_ptr<RecordFile>> files_;  // by path; only the writing thread changes one
  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<Pending> queue_;
  bool stopping_ = false;
  std::thread writer_;
};

}  // namespace qwen3::coordinator
