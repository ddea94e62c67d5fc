#include "coordinator/store.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "coordinator/database.h"

namespace qwen3::coordinator {
namespace {

constexpr int64_t kSchemaVersion = 2;  // 2: tasks among the jobs, evaluations
constexpr size_t kMaxBatch = 1024;     // transactions per fsync

// Rows are messages; columns beside `body` are what queries need. events.checkpoint is the Checkpoint after the event.
constexpr char kSchema[] = R"sql(
CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS jobs (
  name TEXT PRIMARY KEY, number INTEGER NOT NULL UNIQUE, state INTEGER NOT NULL, body BLOB NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS attempts (
  job TEXT NOT NULL, number INTEGER NOT NULL, body BLOB NOT NULL, PRIMARY KEY (job, number)
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS events (
  job TEXT NOT NULL, seq INTEGER NOT NULL, body BLOB NOT NULL, checkpoint BLOB, PRIMARY KEY (job, seq)
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS checkpoints (
  job TEXT NOT NULL, step INTEGER NOT NULL, state INTEGER NOT NULL, body BLOB NOT NULL, PRIMARY KEY (job, step)
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS evaluations (
  job TEXT NOT NULL, step INTEGER NOT NULL, operation TEXT NOT NULL, body BLOB NOT NULL,
  PRIMARY KEY (job, step, operation)
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS requests (
  request_id TEXT PRIMARY KEY, create_seconds INTEGER NOT NULL, body BLOB NOT NULL
) STRICT, WITHOUT ROWID;
)sql";

absl::Status create_schema(Database& database) {
  if (absl::Status status = database.execute(kSchema); !status.ok()) return status;
  int64_t version = 0;  // none yet
  {
    Statement select = database.prepare("SELECT value FROM meta WHERE key = 'schema_version'");
    const absl::StatusOr<bool> row = select.step();
    if (!row.ok()) return row.status();
    if (*row) version = select.integer(0);
  }
  if (version > kSchemaVersion) {
    return absl::FailedPreconditionError(absl::StrCat("database: schema version ", version,
                                                      " was written by a newer coordinator; this one knows up to ",
                                                      kSchemaVersion));
  }
  if (version == kSchemaVersion) return absl::OkStatus();  // a start on a full disk writes nothing
  return database.prepare("INSERT OR REPLACE INTO meta VALUES ('schema_version', ?)").bind(1, kSchemaVersion).run();
}

absl::Status put_job(Database& database, const internal::v1::StoredJob& job) {
  return database
      .prepare(
          "INSERT INTO jobs VALUES (?1, ?2, ?3, ?4) "
          "ON CONFLICT (name) DO UPDATE SET state = excluded.state, body = excluded.body")
      .bind(1, job.job().name())
      .bind(2, job.number())
      .bind(3, static_cast<int64_t>(job.job().state()))
      .bind_blob(4, job.SerializeAsString())
      .run();
}

absl::Status put_attempt(Database& database, const internal::v1::StoredAttempt& attempt) {
  return database.prepare("INSERT OR REPLACE INTO attempts VALUES (?, ?, ?)")
      .bind(1, attempt.job())
      .bind(2, attempt.attempt().number())
      .bind_blob(3, attempt.SerializeAsString())
      .run();
}

absl::Status put_event(Database& database, const std::string& job, const StoredEvent& stored) {
  if (!stored.checkpoint) {
    return database.prepare("INSERT INTO events VALUES (?, ?, ?, NULL)")
        .bind(1, job)
        .bind(2, stored.event.seq())
        .bind_blob(3, stored.event.SerializeAsString())
        .run();
  }
  const std::string checkpoint = stored.checkpoint->SerializeAsString();
  absl::Status status = database.prepare("INSERT INTO events VALUES (?, ?, ?, ?)")
                            .bind(1, job)
                            .bind(2, stored.event.seq())
                            .bind_blob(3, stored.event.SerializeAsString())
                            .bind_blob(4, checkpoint)
                            .run();
  if (!status.ok()) return status;
  return database.prepare("INSERT OR REPLACE INTO checkpoints VALUES (?, ?, ?, ?)")
      .bind(1, job)
      .bind(2, stored.checkpoint->step())
      .bind(3, static_cast<int64_t>(stored.checkpoint->state()))
      .bind_blob(4, checkpoint)
      .run();
}

absl::Status put_evaluation(Database& database, const StoredEvaluation& stored) {
  return database.prepare("INSERT OR REPLACE INTO evaluations VALUES (?, ?, ?, ?)")
      .bind(1, stored.job)
      .bind(2, stored.step)
      .bind(3, stored.evaluation.operation())
      .bind_blob(4, stored.evaluation.SerializeAsString())
      .run();
}

absl::Status put_request(Database& database, const internal::v1::StoredRequest& request) {
  return database.prepare("INSERT OR REPLACE INTO requests VALUES (?, ?, ?)")
      .bind(1, request.request_id())
      .bind(2, request.create_time().seconds())
      .bind_blob(3, request.SerializeAsString())
      .run();
}

absl::Status put(Database& database, const Write& write) {
  absl::Status status;
  if (write.job) status.Update(put_job(database, *write.job));
  if (write.attempt) status.Update(put_attempt(database, *write.attempt));
  for (const StoredEvent& event : write.events) {
    status.Update(put_event(database, write.job->job().name(), event));
    if (event.evaluation) status.Update(put_evaluation(database, *event.evaluation));
  }
  if (write.request) status.Update(put_request(database, *write.request));
  return status;
}

}  // namespace

absl::StatusOr<std::unique_ptr<Store>> Store::open(const std::string& path,
                                                   std::function<void(absl::Status)> on_fatal) {
  auto database = Database::open(path, Database::Mode::kWriter);
  if (!database.ok()) return database.status();
  if (absl::Status status = create_schema(**database); !status.ok()) return status;
  return std::unique_ptr<Store>(new Store(*std::move(database), std::move(on_fatal)));
}

Store::Store(std::unique_ptr<Database> database, std::function<void(absl::Status)> on_fatal)
    : database_(std::move(database)), on_fatal_(std::move(on_fatal)), writer_([this] { run(); }) {}

Store::~Store() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  wake_.notify_one();
  writer_.join();
}

void Store::write(Write write, Done done) {
  {
    const std::lock_guard lock(mutex_);
    queue_.push_back({std::move(write), std::move(done)});
  }
  wake_.notify_one();
}

// Takes all that waits, commits it with one fsync, answers all of it.
void Store::run() {
  while (true) {
    std::deque<Pending> batch;
    {
      std::unique_lock lock(mutex_);
      wake_.wait(lock, [this] { return stopping_ || !queue_.empty(); });
      if (queue_.empty()) return;
      const size_t take = std::min(queue_.size(), kMaxBatch);
      for (size_t i = 0; i < take; ++i) {
        batch.push_back(std::move(queue_.front()));
        queue_.pop_front();
      }
    }
    if (absl::Status status = commit(batch); !status.ok()) {
      on_fatal_(status);
      return;
    }
    for (const Pending& pending : batch) {
      if (pending.done) pending.done();
    }
  }
}

absl::Status Store::commit(const std::deque<Pending>& batch) {
  if (absl::Status status = database_->execute("BEGIN IMMEDIATE"); !status.ok()) return status;
  for (const Pending& pending : batch) {
    if (absl::Status status = put(*database_, pending.write); !status.ok()) {
      database_->execute("ROLLBACK").IgnoreError();
      return status;
    }
  }
  return database_->execute("COMMIT");
}

}  // namespace qwen3::coordinator
