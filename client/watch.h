// Streams that survive: each watch delivers every record once, in order, through lost connections and restarts of the
// server, by calling again with the resume token of the last response.
#pragma once
#include <functional>
#include <stop_token>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "client/client.h"
#include "qwen3/v1/watch.pb.h"

namespace qwen3::client {

struct WatchOptions {
  std::string resume_token;  // empty: from the first record
  bool follow = true;        // false: what exists now, then end
  std::stop_token stop;      // a request ends the watch with Cancelled within milliseconds

  // How long the watch goes without any response before it gives up with Unavailable. A server sends a heartbeat each
  // 10 s. Before the very first response only 4 connections are tried.
  absl::Duration patience = absl::Minutes(5);
  // A connection that is silent for so long is closed and opened again.
  absl::Duration silence = absl::Seconds(30);
  // The wait before a new connection; doubled with each failure in a row, up to 2 s.
  absl::Duration backoff = absl::Milliseconds(100);
  absl::Time until = absl::InfiniteFuture();  // then the watch ends with DeadlineExceeded

  // Told of each lost connection, before the wait that precedes the next one.
  std::function<void(const absl::Status&)> on_reconnect;
};

// `deliver` runs on the calling thread. Its second argument is the token that continues after this record: who keeps
// both together can go on exactly there in another process.
template <class Record>
using Deliver = std::function<void(const Record& record, const std::string& resume_token)>;

// Each returns OK after the last record of a terminal job (or, without `follow`, after the last that exists);
// NotFound, OutOfRange (the token is too old) and the like as the server says.
absl::Status watch_events(Client& client, const std::string& job, const WatchOptions& options,
                          const Deliver<v1::Event>& deliver);
absl::Status watch_metrics(Client& client, const std::string& job, const WatchOptions& options,
                           const Deliver<v1::MetricRecord>& deliver);
absl::Status watch_logs(Client& client, const std::string& job, const std::vector<int>& ranks,
                        const WatchOptions& options, const Deliver<v1::LogRecord>& deliver);
absl::Status watch_checkpoints(Client& client, const std::string& job, const WatchOptions& options,
                               const Deliver<v1::Checkpoint>& deliver);

}  // namespace qwen3::client
