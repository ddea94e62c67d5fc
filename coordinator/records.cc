#include "coordinator/records.h"

#include <filesystem>
#include <utility>

namespace qwen3::coordinator {

Records::Records(std::string folder, std::function<bool()> has_room)
    : folder_(std::move(folder)), has_room_(std::move(has_room)), writer_([this] { run(); }) {}

Records::~Records() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  wake_.notify_one();
  writer_.join();
}

std::string Records::path_of(const std::string& job_id, RecordKind kind) const {
  return folder_ + "/" + job_id + (kind == RecordKind::kMetrics ? ".metrics" : ".logs");
}

void Records::append(const std::string& job_id, RecordKind kind, std::vector<Record> records, Done done) {
  {
    const std::lock_guard lock(mutex_);
    queue_.push_back({path_of(job_id, kind), kind, std::move(records), std::move(done)});
  }
  wake_.notify_one();
}

absl::StatusOr<RecordFile*> Records::file(const std::string& path) {
  std::unique_ptr<RecordFile>& known = files_[path];
  if (known == nullptr) {
    auto opened = RecordFile::open(path);
    if (!opened.ok()) return opened.status();
    known = std::make_unique<RecordFile>(*std::move(opened));
  }
  return known.get();
}

absl::StatusOr<std::vector<PositionedRecord>> Records::read(const std::string& job_id, RecordKind kind,
                                                            int64_t position, int64_t max_bytes) {
  const std::string path = path_of(job_id, kind);
  int64_t end = 0;
  {
    const std::lock_guard lock(files_mutex_);
    if (files_.contains(path) || std::filesystem::exists(path)) {
      const auto opened = file(path);
      if (!opened.ok()) return opened.status();
      end = (*opened)->end();
    }
  }
  return read_records(path, position, end, max_bytes);
}

// Takes all that waits and writes it file by file, with one fsync for each.
void Records::run() {
  while (true) {
    std::deque<Pending> batch;
    {
      std::unique_lock lock(mutex_);
      wake_.wait(lock, [this] { return stopping_ || !queue_.empty(); });
      if (queue_.empty()) return;
      batch.swap(queue_);
    }
    std::map<std::string, std::vector<Pending*>> by_path;
    for (Pending& pending : batch) by_path[pending.path].push_back(&pending);
    for (auto& [path, pending] : by_path) append_all(path, std::move(pending));
  }
}

void Records::append_all(const std::string& path, std::vector<Pending*> pending) {
  RecordFile* target = nullptr;
  absl::Status status;
  {
    const std::lock_guard lock(files_mutex_);
    const auto opened = file(path);
    status = opened.status();
    if (opened.ok()) target = *opened;
  }
  if (pending.front()->kind == RecordKind::kLogs && !has_room_()) {
    drop(pending, target, dropped_[path]);
    for (const Pending* part : pending) part->done(absl::OkStatus(), {});
    return;
  }
  std::vector<std::vector<Record>> fresh(pending.size());
  if (status.ok()) {
    RecordFile after = *target;  // a copy tells what this round holds already; it is small
    std::vector<Record> all;
    std::map<std::pair<int32_t, int32_t>, int64_t> round;
    if (const auto dropped = dropped_.find(path); dropped != dropped_.end()) {
      for (const auto& [rank, last] : dropped->second) {
        round[rank] = last.seq();
        all.push_back({last.attempt(), last.rank(), last.seq(), last.SerializeAsString()});
      }
    }
    for (size_t i = 0; i < pending.size(); ++i) {
      for (const Record& record : pending[i]->records) {
        int64_t& last = round[{record.attempt, record.rank}];
        if (target->has(record) || record.seq <= last) continue;
        last = record.seq;
        fresh[i].push_back(record);
        all.push_back(record);
      }
    }
    if (!all.empty()) {
      status = after.append(all);
      if (status.ok()) {
        const std::lock_guard lock(files_mutex_);
        *target = std::move(after);
      }
    }
    if (status.ok()) dropped_.erase(path);
  }
  for (size_t i = 0; i < pending.size(); ++i) {
    pending[i]->done(status, status.ok() ? std::move(fresh[i]) : std::vector<Record>());
  }
}

void Records::drop(const std::vector<Pending*>& pending, const RecordFile* known, DroppedLogs& dropped) {
  for (const Pending* part : pending) {
    for (const Record& record : part->records) {
      if (known != nullptr && known->has(record)) continue;
      v1::LogRecord& last = dropped[{record.attempt, record.rank}];
      if (record.seq <= last.seq()) continue;  // sent again
      const int64_t before = last.dropped();
      if (!last.ParseFromString(record.payload)) last.Clear();
      last.clear_line();
      last.set_attempt(record.attempt);
      last.set_rank(record.rank);
      last.set_seq(record.seq);
      last.set_dropped(before + last.dropped() + 1);
    }
  }
}

}  // namespace qwen3::coordinator
