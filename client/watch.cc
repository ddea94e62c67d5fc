#include "client/watch.h"

#include <algorithm>
#include <condition_variable>
#include <mutex>
#include <random>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "client/stream_reader.h"
#include "client/stubs.h"
#include "proto/status.h"

namespace qwen3::client {
namespace {

constexpr int kFirstConnections = 4;  // as unary calls, which are tried 4 times

// With 20 % of jitter, so that many watchers do not come back at once.
absl::Duration backoff(absl::Duration first, int failures) {
  static thread_local std::minstd_rand random(std::random_device{}());
  const absl::Duration base = std::min(first * (1 << std::min(failures - 1, 10)), absl::Seconds(2));
  return base * std::uniform_real_distribution<double>(0.8, 1.2)(random);
}

void wait(absl::Duration duration, const std::stop_token& stop) {
  std::mutex mu;
  std::condition_variable_any never;
  std::unique_lock lock(mu);
  never.wait_for(lock, stop, absl::ToChronoNanoseconds(duration), [] { return false; });
}

// Whether the server or the connection went away, so that calling again makes sense. UNKNOWN "Stream removed" is how
// gRPC 1.51 reports some resets; CANCELLED (not by us) a server that shuts down.
bool is_cut(const grpc::Status& status) {
  switch (status.error_code()) {
    case grpc::StatusCode::OK:  // ended without `end`
    case grpc::StatusCode::UNAVAILABLE:
    case grpc::StatusCode::CANCELLED:
      return true;
    case grpc::StatusCode::UNKNOWN:
      return status.error_message() == "Stream removed";
    default:
      return false;
  }
}

// open(context, request, reactor) starts one call; has_record(response) and deliver(response) know the type.
template <class Response, class Request, class Open, class HasRecord, class DeliverResponse>
absl::Status run(const std::string& address, Request request, const WatchOptions& options, const Open& open,
                 const HasRecord& has_record, const DeliverResponse& deliver) {
  request.set_resume_token(options.resume_token);
  request.set_no_follow(!options.follow);
  absl::Time last_contact = absl::Now();
  bool contact = false;
  int failures = 0;
  while (true) {
    absl::Status lost;
    {
      using Reader = StreamReader<Response>;
      Reader reader([&](grpc::ClientContext* context, grpc::ClientReadReactor<Response>* reactor) {
        open(context, &request, reactor);
      });
      Response response;
      bool draining = false;
      typename Reader::Outcome outcome;
      const auto limit = [&] { return std::min(options.until, absl::Now() + options.silence); };
      while ((outcome = reader.read(&response, limit(), options.stop)) == Reader::Outcome::kResponse) {
        contact = true;
        failures = 0;
        last_contact = absl::Now();
        if (has_record(response)) deliver(response);
        if (!response.resume_token().empty()) request.set_resume_token(response.resume_token());
        if (!response.has_end()) continue;
        if (response.end().reason() != "DRAINING") return absl::OkStatus();
        draining = true;
        break;
      }
      if (outcome == Reader::Outcome::kStopped) return absl::CancelledError("the watch was stopped");
      if (absl::Now() >= options.until) return absl::DeadlineExceededError("the time limit of the watch has passed");
      if (draining) {
        lost = absl::UnavailableError("the coordinator stops");
      } else if (outcome == Reader::Outcome::kTimeout) {
        lost = absl::UnavailableError(absl::StrCat("no heartbeat for ", absl::FormatDuration(options.silence)));
      } else {
        const grpc::Status status = reader.status();
        if (!is_cut(status)) return from_grpc(status);
        lost = absl::UnavailableError(status.ok() ? "the stream was closed" : status.error_message());
      }
    }
    ++failures;
    const bool give_up = contact ? absl::Now() - last_contact > options.patience : failures >= kFirstConnections;
    if (give_up) {
      return absl::UnavailableError(
          absl::StrCat("no answer from the coordinator at ", address, " (", std::string(lost.message()), ")"));
    }
    if (contact && options.on_reconnect) options.on_reconnect(lost);
    wait(std::min(backoff(options.backoff, failures), options.until - absl::Now()), options.stop);
    if (options.stop.stop_requested()) return absl::CancelledError("the watch was stopped");
  }
}

v1::WatchRequest request_for(const std::string& job) {
  v1::WatchRequest request;
  request.set_name(job);
  return request;
}

}  // namespace

absl::Status watch_events(Client& client, const std::string& job, const WatchOptions& options,
                          const Deliver<v1::Event>& deliver) {
  return run<v1::WatchEventsResponse>(
      client.address(), request_for(job), options,
      [&](auto* context, auto* request, auto* reactor) {
        client.stubs().watch.async()->WatchEvents(context, request, reactor);
      },
      [](const auto& response) { return response.has_event(); },
      [&](const auto& response) { deliver(response.event(), response.resume_token()); });
}

absl::Status watch_metrics(Client& client, const std::string& job, const WatchOptions& options,
                           const Deliver<v1::MetricRecord>& deliver) {
  return run<v1::WatchMetricsResponse>(
      client.address(), request_for(job), options,
      [&](auto* context, auto* request, auto* reactor) {
        client.stubs().watch.async()->WatchMetrics(context, request, reactor);
      },
      [](const auto& response) { return response.has_record(); },
      [&](const auto& response) { deliver(response.record(), response.resume_token()); });
}

absl::Status watch_logs(Client& client, const std::string& job, const std::vector<int>& ranks,
                        const WatchOptions& options, const Deliver<v1::LogRecord>& deliver) {
  v1::WatchLogsRequest logs;
  logs.set_name(job);
  for (const int rank : ranks) logs.add_ranks(rank);
  return run<v1::WatchLogsResponse>(
      client.address(), logs, options,
      [&](auto* context, auto* request, auto* reactor) {
        client.stubs().watch.async()->WatchLogs(context, request, reactor);
      },
      [](const auto& response) { return response.has_record(); },
      [&](const auto& response) { deliver(response.record(), response.resume_token()); });
}

absl::Status watch_checkpoints(Client& client, const std::string& job, const WatchOptions& options,
                               const Deliver<v1::Checkpoint>& deliver) {
  return run<v1::WatchCheckpointsResponse>(
      client.address(), request_for(job), options,
      [&](auto* context, auto* request, auto* reactor) {
        client.stubs().watch.async()->WatchCheckpoints(context, request, reactor);
      },
      [](const auto& response) { return response.has_checkpoint(); },
      [&](const auto& response) { deliver(response.checkpoint(), response.resume_token()); });
}

}  // namespace qwen3::client
