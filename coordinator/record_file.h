// One append-only file of records in order of arrival: the metrics, or the logs, of one job. A position is the offset
// just behind a record, so it survives restarts and orders everything that a watcher sees.
//
// A record on disk: magic, length, attempt, rank (4 bytes each), seq (8), XXH3-64 of the five and the payload (8),
// payload; little-endian. A torn tail is cut off when the file is opened.
#pragma once
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace qwen3::coordinator {

struct Record {
  int32_t attempt = 0;
  int32_t rank = 0;
  int64_t seq = 0;  // rises per (attempt, rank)
  std::string payload;
};

class RecordFile {
 public:
  // Creates the file if it is missing, reads it through, cuts a torn tail. A disk that cannot be read is an error, and
  // nothing is cut.
  static absl::StatusOr<RecordFile> open(const std::string& path);

  // Whether this record, or a later one of its rank, is there already: a batch that was sent again.
  bool has(const Record& record) const;
  // Appends and fsyncs. On an error the file is as before.
  absl::Status append(std::span<const Record> records);
  int64_t end() const { return end_; }  // everything before it is on disk

 private:
  explicit RecordFile(std::string path) : path_(std::move(path)) {}
  std::string path_;
  int64_t end_ = 0;
  std::map<std::pair<int32_t, int32_t>, int64_t> last_seq_;  // by (attempt, rank)
};

struct PositionedRecord {
  Record record;
  int64_t position = 0;  // behind it
};

// Records from `position` on, up to `end`, at most `max_bytes` (but at least one). OUT_OF_RANGE: `position` is not the
// end of a record of this file.
absl::StatusOr<std::vector<PositionedRecord>> read_records(const std::string& path, int64_t position, int64_t end,
                                                           int64_t max_bytes);

}  // namespace qwen3::coordinator
