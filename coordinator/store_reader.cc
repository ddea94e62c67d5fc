#include "coordinator/store_reader.h"

#include <algorithm>
#include <tuple>
#include <utility>

#include "absl/strings/str_cat.h"
#include "coordinator/database.h"
#include "coordinator/names.h"

namespace qwen3::coordinator {
namespace {

absl::Status corrupt(const std::string& table) {
  return absl::DataLossError(absl::StrCat("database: a row of ", table, " does not parse"));
}

// All rows of a statement whose first column is a message.
template <class Message>
absl::StatusOr<std::vector<Message>> parse_rows(Statement& statement, const std::string& table) {
  std::vector<Message> messages;
  while (true) {
    const absl::StatusOr<bool> row = statement.step();
    if (!row.ok()) return row.status();
    if (!*row) return messages;
    if (!messages.emplace_back().ParseFromString(statement.bytes(0))) return corrupt(table);
  }
}

}  // namespace

absl::StatusOr<std::unique_ptr<StoreReader>> StoreReader::open(const std::string& path) {
  auto database = Database::open(path, Database::Mode::kReader);
  if (!database.ok()) return database.status();
  return std::unique_ptr<StoreReader>(new StoreReader(*std::move(database)));
}

StoreReader::StoreReader(std::unique_ptr<Database> database) : database_(std::move(database)) {}
StoreReader::~StoreReader() = default;

absl::StatusOr<internal::v1::StoredJob> StoreReader::job(const std::string& name) {
  const std::lock_guard lock(mutex_);
  Statement select = database_->prepare("SELECT body FROM jobs WHERE name = ?");
  select.bind(1, name);
  auto rows = parse_rows<internal::v1::StoredJob>(select, "jobs");
  if (!rows.ok()) return rows.status();
  if (rows->empty()) return absl::NotFoundError(absl::StrCat("there is no ", noun(name), " \"", name, "\""));
  return rows->front();
}

absl::StatusOr<std::vector<internal::v1::StoredJob>> StoreReader::jobs(int64_t before, int64_t limit, Rows rows) {
  const std::lock_guard lock(mutex_);
  Statement select =
      database_->prepare("SELECT body FROM jobs WHERE number < ? AND name GLOB ? ORDER BY number DESC LIMIT ?");
  const std::string kind = rows == Rows::kJobs ? "jobs/" : rows == Rows::kTasks ? "operations/" : "";
  select.bind(1, before).bind(2, absl::StrCat("tenants/default/", kind, "*")).bind(3, limit);
  return parse_rows<internal::v1::StoredJob>(select, "jobs");
}

absl::StatusOr<std::vector<internal::v1::StoredAttempt>> StoreReader::attempts(const std::string& job) {
  const std::lock_guard lock(mutex_);
  Statement select = database_->prepare("SELECT body FROM attempts WHERE job = ? ORDER BY number");
  select.bind(1, job);
  return parse_rows<internal::v1::StoredAttempt>(select, "attempts");
}

absl::StatusOr<std::vector<StoredEvent>> StoreReader::events(const std::string& job, int64_t after, int64_t limit) {
  return select_events("SELECT body, checkpoint FROM events WHERE job = ? AND seq > ? ORDER BY seq LIMIT ?", job, after,
                       limit);
}

absl::StatusOr<std::vector<StoredEvent>> StoreReader::checkpoint_events(const std::string& job, int64_t after,
                                                                        int64_t limit) {
  return select_events(
      "SELECT body, checkpoint FROM events WHERE job = ? AND seq > ? AND checkpoint IS NOT NULL ORDER BY seq LIMIT ?",
      job, after, limit);
}

absl::StatusOr<std::vector<StoredEvent>> StoreReader::select_events(const char* sql, const std::string& job,
                                                                    int64_t after, int64_t limit) {
  const std::lock_guard lock(mutex_);
  Statement select = database_->prepare(sql);
  select.bind(1, job).bind(2, after).bind(3, limit);
  std::vector<StoredEvent> events;
  while (true) {
    const absl::StatusOr<bool> row = select.step();
    if (!row.ok()) return row.status();
    if (!*row) return events;
    StoredEvent& stored = events.emplace_back();
    if (!stored.event.ParseFromString(select.bytes(0))) return corrupt("events");
    if (!select.is_null(1) && !stored.checkpoint.emplace().ParseFromString(select.bytes(1))) return corrupt("events");
  }
}

absl::StatusOr<std::vector<v1::Checkpoint>> StoreReader::checkpoints(const std::string& job) {
  const std::lock_guard lock(mutex_);
  Statement select = database_->prepare("SELECT body FROM checkpoints WHERE job = ? ORDER BY step");
  select.bind(1, job);
  auto checkpoints = parse_rows<v1::Checkpoint>(select, "checkpoints");
  if (!checkpoints.ok()) return checkpoints;
  for (v1::Checkpoint& checkpoint : *checkpoints) {
    Statement found = database_->prepare("SELECT body FROM evaluations WHERE job = ? AND step = ?");
    found.bind(1, job).bind(2, checkpoint.step());
    auto evaluations = parse_rows<v1::CheckpointEvaluation>(found, "evaluations");
    if (!evaluations.ok()) return evaluations.status();
    std::ranges::sort(*evaluations, {}, [](const v1::CheckpointEvaluation& evaluation) {
      return std::make_tuple(evaluation.end_time().seconds(), evaluation.end_time().nanos(), evaluation.operation());
    });
    for (v1::CheckpointEvaluation& evaluation : *evaluations) *checkpoint.add_evaluations() = std::move(evaluation);
  }
  return checkpoints;
}

absl::StatusOr<std::vector<v1::Checkpoint>> StoreReader::unusable_checkpoints() {
  const std::lock_guard lock(mutex_);
  Statement select = database_->prepare("SELECT body FROM checkpoints WHERE state != ?");
  select.bind(1, static_cast<int64_t>(v1::CHECKPOINT_STATE_COMMITTED));
  return parse_rows<v1::Checkpoint>(select, "checkpoints");
}

absl::StatusOr<std::vector<internal::v1::StoredRequest>> StoreReader::requests(int64_t since) {
  const std::lock_guard lock(mutex_);
  Statement select = database_->prepare("SELECT body FROM requests WHERE create_seconds >= ?");
  select.bind(1, since);
  return parse_rows<internal::v1::StoredRequest>(select, "requests");
}

}  // namespace qwen3::coordinator
