#include "worker/daemon/spool.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"

namespace qwen3::worker {
namespace {

// Bytes of a record in memory, roughly.
template <class Record>
size_t cost(const Record& record) {
  return sizeof(Record) + record.ByteSizeLong();
}

}  // namespace

AttemptId id_of(const internal::v1::AttemptKey& key) { return {key.job(), key.attempt(), key.epoch()}; }

internal::v1::AttemptKey key_of(const AttemptId& id) {
  internal::v1::AttemptKey key;
  key.set_job(id.job);
  key.set_attempt(id.attempt);
  key.set_epoch(id.epoch);
  return key;
}

std::string to_string(const AttemptId& id) {
  return absl::StrCat(id.job, " attempt ", id.attempt, " epoch ", id.epoch);
}

void Spool::add(const AttemptId& id, v1::MetricRecord record) {
  Queue& queue = queues_[id];
  if (metric_bytes_ + cost(record) > max_bytes_) return;
  record.set_attempt(id.attempt);
  record.set_seq(++queue.metric_seq[record.rank()]);
  ++queue.held[record.rank()];
  metric_bytes_ += cost(record);
  queue.metrics.push_back(std::move(record));
}

void Spool::add(const AttemptId& id, v1::LogRecord record) {
  Queue& queue = queues_[id];
  int64_t& dropped = queue.dropped[record.rank()];
  if (log_bytes_ + cost(record) > max_bytes_) {
    dropped += record.dropped() + 1;
    return;
  }
  record.set_attempt(id.attempt);
  record.set_dropped(record.dropped() + std::exchange(dropped, 0));
  record.set_seq(++queue.log_seq[record.rank()]);
  ++queue.held[record.rank()];
  log_bytes_ += cost(record);
  queue.logs.push_back(std::move(record));
}

void Spool::close(const AttemptId& id) {
  queues_[id].closed = true;
  forget_if_done(id);
}

std::optional<internal::v1::RecordBatch> Spool::next_batch(size_t max_bytes) {
  const auto has_records = [](const auto& entry) {
    return !entry.second.metrics.empty() || !entry.second.logs.empty();
  };
  auto it = std::find_if(queues_.upper_bound(newest_.id), queues_.end(), has_records);
  if (it == queues_.end()) it = std::find_if(queues_.begin(), queues_.end(), has_records);
  if (it == queues_.end()) return std::nullopt;
  const auto& [id, queue] = *it;

  internal::v1::RecordBatch batch;
  *batch.mutable_key() = key_of(id);
  batch.set_batch(newest_.number + 1);
  size_t bytes = 0;
  for (auto record = queue.metrics.begin(); record != queue.metrics.end() && bytes < max_bytes; ++record) {
    bytes += record->ByteSizeLong();
    *batch.add_metrics() = *record;
  }
  for (auto record = queue.logs.begin(); record != queue.logs.end() && bytes < max_bytes; ++record) {
    bytes += record->ByteSizeLong();
    *batch.add_logs() = *record;
  }
  newest_ = {.number = batch.batch(),
             .id = id,
             .metrics = static_cast<size_t>(batch.metrics_size()),
             .logs = static_cast<size_t>(batch.logs_size())};
  return batch;
}

void Spool::acknowledge(int64_t batch) {
  if (batch != newest_.number) return;
  const auto it = queues_.find(newest_.id);
  if (it == queues_.end()) return;
  Queue& queue = it->second;
  for (; newest_.metrics > 0; --newest_.metrics) {
    --queue.held[queue.metrics.front().rank()];
    metric_bytes_ -= cost(queue.metrics.front());
    queue.metrics.pop_front();
  }
  for (; newest_.logs > 0; --newest_.logs) {
    --queue.held[queue.logs.front().rank()];
    log_bytes_ -= cost(queue.logs.front());
    queue.logs.pop_front();
  }
  forget_if_done(newest_.id);
}

bool Spool::holds(const AttemptId& id, int32_t rank) const {
  const auto queue = queues_.find(id);
  if (queue == queues_.end()) return false;
  const auto held = queue->second.held.find(rank);
  return held != queue->second.held.end() && held->second > 0;
}

void Spool::forget_if_done(const AttemptId& id) {
  const auto it = queues_.find(id);
  if (it != queues_.end() && it->second.closed && it->second.metrics.empty() && it->second.logs.empty()) {
    queues_.erase(it);
  }
}

}  // namespace qwen3::worker
