#include "coordinator/watch_service.h"

#include <functional>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "coordinator/job_state.h"
#include "coordinator/names.h"
#include "coordinator/stream_pump.h"

namespace qwen3::coordinator {
namespace {

constexpr int64_t kEventsPerPull = 64;
constexpr int64_t kBytesPerPull = 64 << 10;

// What one stream asked for and where it is.
struct Cursor {
  std::string job;
  std::string prefix;  // of its tokens
  std::string token;   // as the client sent it
  bool no_follow = false;
  int64_t position = 0;
  bool started = false;

  std::string token_at(int64_t at) const { return absl::StrCat(prefix, at); }
};

// The stream's first pull checks the name and the token.
absl::Status begin(Cursor& cursor) {
  cursor.started = true;
  if (record_id(cursor.job).empty()) {
    return absl::InvalidArgumentError(absl::StrCat(
        "name is \"", cursor.job, "\"; it must be tenants/default/jobs/ID or tenants/default/operations/ID"));
  }
  if (cursor.token.empty()) return absl::OkStatus();
  absl::string_view number = cursor.token;
  if (!absl::ConsumePrefix(&number, cursor.prefix) || !absl::SimpleAtoi(number, &cursor.position) ||
      cursor.position < 0) {
    return absl::OutOfRangeError(
        absl::StrCat("resume_token \"", cursor.token, "\" is not one of this stream; start without a token"));
  }
  return absl::OkStatus();
}

// Why the stream ends, given that everything was read after the job's state was: empty, it goes on.
std::string end_reason(const Cursor& cursor, const v1::Job& job) {
  if (is_terminal(job.state())) return "JOB_TERMINAL";
  return cursor.no_follow ? "NO_FOLLOW" : "";
}

// Events, or only those about checkpoints.
template <class Response>
absl::StatusOr<Pulled<Response>> pull_events(
    Core& core, Cursor& cursor, bool only_checkpoints,
    const std::function<void(const StoredEvent& stored, Response& response)>& fill) {
  if (!cursor.started) {
    if (absl::Status status = begin(cursor); !status.ok()) return status;
  }
  const auto job = core.reader().job(cursor.job);  // before the events: a terminal state has its event already
  if (!job.ok()) return job.status();
  if (cursor.position > job->last_seq()) {
    return absl::OutOfRangeError(absl::StrCat("resume_token \"", cursor.token, "\" is beyond the newest event ",
                                              job->last_seq(), "; start without a token"));
  }
  const auto events = only_checkpoints ? core.reader().checkpoint_events(cursor.job, cursor.position, kEventsPerPull)
                                       : core.reader().events(cursor.job, cursor.position, kEventsPerPull);
  if (!events.ok()) return events.status();
  Pulled<Response> pulled;
  for (const StoredEvent& stored : *events) {
    cursor.position = stored.event.seq();
    Response& response = pulled.responses.emplace_back();
    fill(stored, response);
    response.set_resume_token(cursor.token_at(cursor.position));
  }
  pulled.token = cursor.token_at(cursor.position);
  if (static_cast<int64_t>(events->size()) < kEventsPerPull) pulled.end_reason = end_reason(cursor, job->job());
  return pulled;
}

// Metrics or logs, one chunk of the file; `keep` filters.
template <class Response, class Message>
absl::StatusOr<Pulled<Response>> pull_records(Core& core, Cursor& cursor, RecordKind kind,
                                              const std::function<bool(const Record&)>& keep) {
  if (!cursor.started) {
    if (absl::Status status = begin(cursor); !status.ok()) return status;
  }
  const auto job = core.reader().job(cursor.job);  // before the records, as above
  if (!job.ok()) return job.status();
  Pulled<Response> pulled;
  const auto records = core.records().read(record_id(cursor.job), kind, cursor.position, kBytesPerPull);
  if (!records.ok()) return records.status();
  for (const PositionedRecord& positioned : *records) {
    cursor.position = positioned.position;
    if (!keep(positioned.record)) continue;
    Response& response = pulled.responses.emplace_back();
    if (!response.mutable_record()->ParseFromString(positioned.record.payload)) {
      return absl::DataLossError(
          absl::StrCat(cursor.job, ": a record before position ", positioned.position, " does not parse"));
    }
    response.set_resume_token(cursor.token_at(cursor.position));
  }
  pulled.more = !records->empty();
  if (records->empty()) pulled.end_reason = end_reason(cursor, job->job());
  pulled.token = cursor.token_at(cursor.position);
  return pulled;
}

Cursor cursor_of(const std::string& prefix, const std::string& name, const std::string& token, bool no_follow) {
  return {.job = name, .prefix = prefix, .token = token, .no_follow = no_follow};
}

template <class Response>
grpc::ServerWriteReactor<Response>* start(Core& core, const std::string& method, const Cursor& cursor,
                                          typename StreamPump<Response>::Pull pull) {
  return StreamPump<Response>::start(
      core.hub(), core.readers(), cursor.job, cursor.token, std::move(pull),
      [&core, method](const absl::Status& status) { core.metrics().count_rpc(method, status.code()); },
      core.options().heartbeat_seconds);
}

}  // namespace

grpc::ServerWriteReactor<v1::WatchEventsResponse>* WatchService::WatchEvents(grpc::CallbackServerContext*,
                                                                             const v1::WatchRequest* request) {
  auto cursor =
      std::make_shared<Cursor>(cursor_of("e1:", request->name(), request->resume_token(), request->no_follow()));
  return start<v1::WatchEventsResponse>(core_, "WatchEvents", *cursor, [this, cursor] {
    return pull_events<v1::WatchEventsResponse>(
        core_, *cursor, /*only_checkpoints=*/false,
        [](const StoredEvent& stored, v1::WatchEventsResponse& response) { *response.mutable_event() = stored.event; });
  });
}

grpc::ServerWriteReactor<v1::WatchCheckpointsResponse>* WatchService::WatchCheckpoints(
    grpc::CallbackServerContext*, const v1::WatchRequest* request) {
  auto cursor =
      std::make_shared<Cursor>(cursor_of("c1:", request->name(), request->resume_token(), request->no_follow()));
  return start<v1::WatchCheckpointsResponse>(core_, "WatchCheckpoints", *cursor, [this, cursor] {
    return pull_events<v1::WatchCheckpointsResponse>(
        core_, *cursor, /*only_checkpoints=*/true,
        [](const StoredEvent& stored, v1::WatchCheckpointsResponse& response) {
          *response.mutable_checkpoint() = *stored.checkpoint;
        });
  });
}

grpc::ServerWriteReactor<v1::WatchMetricsResponse>* WatchService::WatchMetrics(grpc::CallbackServerContext*,
                                                                               const v1::WatchRequest* request) {
  auto cursor =
      std::make_shared<Cursor>(cursor_of("m1:", request->name(), request->resume_token(), request->no_follow()));
  return start<v1::WatchMetricsResponse>(core_, "WatchMetrics", *cursor, [this, cursor] {
    return pull_records<v1::WatchMetricsResponse, v1::MetricRecord>(core_, *cursor, RecordKind::kMetrics,
                                                                    [](const Record&) { return true; });
  });
}

grpc::ServerWriteReactor<v1::WatchLogsResponse>* WatchService::WatchLogs(grpc::CallbackServerContext*,
                                                                         const v1::WatchLogsRequest* request) {
  auto cursor =
      std::make_shared<Cursor>(cursor_of("l1:", request->name(), request->resume_token(), request->no_follow()));
  const std::set<int32_t> ranks(request->ranks().begin(), request->ranks().end());
  return start<v1::WatchLogsResponse>(core_, "WatchLogs", *cursor, [this, cursor, ranks] {
    return pull_records<v1::WatchLogsResponse, v1::LogRecord>(
        core_, *cursor, RecordKind::kLogs,
        [&ranks](const Record& record) { return ranks.empty() || ranks.contains(record.rank); });
  });
}

}  // namespace qwen3::coordinator
