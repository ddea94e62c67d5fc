// Metrics and logs of this host's ranks, kept until the coordinator has them on disk. Bounded: when it is full the
// oldest records stay and new ones are dropped and counted. Pure: no clock, no lock, no network.
#pragma once
#include <compare>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <string>

#include "qwen3/internal/v1/session.pb.h"

namespace qwen3::worker {

// An AttemptKey as a map's key.
struct AttemptId {
  std::string job;
  int32_t attempt = 0;
  int64_t epoch = 0;
  auto operator<=>(const AttemptId&) const = default;
};
AttemptId id_of(const internal::v1::AttemptKey& key);
internal::v1::AttemptKey key_of(const AttemptId& id);
std::string to_string(const AttemptId& id);  // "tenants/default/jobs/ID attempt 2 epoch 3", for messages

class Spool {
 public:
  // Of logs and of metrics, each over all attempts; 64 MiB are some hours of a coordinator's absence.
  explicit Spool(size_t max_bytes = 64 << 20) : max_bytes_(max_bytes) {}

  // Take the record and give it the next seq of its attempt and rank (in `id` and `record`).
  void add(const AttemptId& id, v1::MetricRecord record);
  void add(const AttemptId& id, v1::LogRecord record);
  // No more will be added for the attempt: forgotten once all of it is acknowledged.
  void close(const AttemptId& id);

  // The oldest records of one attempt, about `max_bytes` of them, metrics first; attempts take turns. Records come
  // again, under another batch number, until they are acknowledged. Nothing: all is acknowledged.
  std::optional<internal::v1::RecordBatch> next_batch(size_t max_bytes);
  // Forgets the records of the newest batch. An older batch's number is ignored: its records are sent again.
  void acknowledge(int64_t batch);

  // Whether records of this rank are not acknowledged yet.
  bool holds(const AttemptId& id, int32_t rank) const;
  bool empty() const { return log_bytes_ == 0 && metric_bytes_ == 0; }

 private:
  struct Queue {
    std::deque<v1::MetricRecord> metrics;
    std::deque<v1::LogRecord> logs;
    std::map<int32_t, int64_t> metric_seq, log_seq;  // last one given, by rank
    std::map<int32_t, int64_t> held;                 // records not acknowledged, by rank
    std::map<int32_t, int64_t> dropped;              // log lines since the last one taken, by rank
    bool closed = false;
  };
  struct Batch {
    int64_t number = 0;
    AttemptId id;
    size_t metrics = 0, logs = 0;
  };
  void forget_if_done(const AttemptId& id);

  size_t max_bytes_;
  size_t log_bytes_ = 0, metric_bytes_ = 0;
  std::map<AttemptId, Queue> queues_;
  Batch newest_;
};

}  // namespace qwen3::worker
