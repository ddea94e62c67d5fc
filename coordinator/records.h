// Metrics and logs of all jobs: one record file per job and kind, one writing thread with a shared fsync per file and
// round. Within an attempt and rank records keep their order; batches that are sent again change nothing. Logs must not
// fill the disk of the database: without room for them they are acknowledged, dropped and counted, and a record of each
// rank tells how many, once there is room again.
#pragma once
#include <condition_variable>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "coordinator/record_file.h"
#include "qwen3/v1/watch.pb.h"

namespace qwen3::coordinator {

enum class RecordKind { kMetrics, kLogs };

class Records {
 public:
  // On the writing thread; `fresh` are those that were not there before.
  using Done = std::function<void(absl::Status status, std::vector<Record> fresh)>;

  // `folder` exists; one file per job and kind. `has_room`, asked on the writing thread, says whether logs are kept.
  explicit Records(
      std::string folder, std::function<bool()> has_room = [] { return true; });
  ~Records();

  void append(const std::string& job_id, RecordKind kind, std::vector<Record> records, Done done);
  // Blocks on disk. OUT_OF_RANGE: not a position of this job's records.
  absl::StatusOr<std::vector<PositionedRecord>> read(const std::string& job_id, RecordKind kind, int64_t position,
                                                     int64_t max_bytes);

 private:
  struct Pending {
    std::string path;
    RecordKind kind;
    std::vector<Record> records;
    Done done;
  };
  // By (attempt, rank), the last that was dropped, without its line and with the number of all.
  using DroppedLogs = std::map<std::pair<int32_t, int32_t>, v1::LogRecord>;
  std::string path_of(const std::string& job_id, RecordKind kind) const;
  absl::StatusOr<RecordFile*> file(const std::string& path);  // REQUIRES: files_mutex_ held
  void run();
  void append_all(const std::string& path, std::vector<Pending*> pending);
  // Leaves out what `known` has, the file if it could be opened.
  static void drop(const std::vector<Pending*>& pending, const RecordFile* known, DroppedLogs& dropped);

  const std::string folder_;
  const std::function<bool()> has_room_;
  std::map<std::string, DroppedLogs> dropped_;                // by path; the writing thread's
  std::mutex files_mutex_;                                    // guards files_; never held while records are written
  std::map<std::string, std::unique_ptr<RecordFile>> files_;  // by path; only the writing thread changes one
  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<Pending> queue_;
  bool stopping_ = false;
  std::thread writer_;
};

}  // namespace qwen3::coordinator
