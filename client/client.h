// The client library: every call of the public API with a deadline, retries and idempotency.
//
// Unary calls have a deadline (10 s by default) and are tried at most 4 times, only after UNAVAILABLE. That is safe for
// mutating calls because each carries a request_id: one is made here when the caller gives none. For calls that must
// survive a restart of the server choose wait_for_ready: they wait for a connection until the deadline.
// Watches (client/watch.h) have no deadline; they reconnect by resume token.
// Thread-safe. No header of gRPC is included here.
#pragma once
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "google/longrunning/operations.pb.h"
#include "qwen3/v1/checkpoint.pb.h"
#include "qwen3/v1/job.pb.h"
#include "qwen3/v1/operation.pb.h"
#include "qwen3/v1/server.pb.h"
#include "qwen3/v1/worker.pb.h"

namespace qwen3::client {

inline constexpr char kParent[] = "tenants/default";

struct ClientOptions {
  std::string address;  // HOST:PORT
  absl::Duration deadline = absl::Seconds(10);
  bool wait_for_ready = false;  // wait for a connection until the deadline, instead of failing after the retries
};

class Client {
 public:
  explicit Client(ClientOptions options);
  ~Client();

  // Fills parent and, when empty, request_id.
  absl::StatusOr<v1::Job> create_job(v1::CreateJobRequest request);
  absl::StatusOr<v1::Job> get_job(const std::string& name);
  // Newest first, at most `limit`.
  absl::StatusOr<std::vector<v1::Job>> list_jobs(int limit);
  absl::StatusOr<v1::Job> cancel_job(const std::string& name, const std::string& request_id = "");
  absl::StatusOr<v1::TraceJobResponse> trace_job(const std::string& name, int64_t steps,
                                                 const std::string& request_id = "");
  absl::StatusOr<std::vector<v1::Attempt>> list_attempts(const std::string& job);
  absl::StatusOr<std::vector<v1::Checkpoint>> list_checkpoints(const std::string& job);
  absl::StatusOr<v1::Checkpoint> get_checkpoint(const std::string& name);
  absl::StatusOr<std::vector<v1::Worker>> list_workers();
  absl::StatusOr<v1::ServerInfo> server_info();

  // Tasks. The answer is their operation; each fills parent and, when empty, request_id.
  absl::StatusOr<google::longrunning::Operation> evaluate(v1::EvaluateRequest request);
  absl::StatusOr<google::longrunning::Operation> convert(v1::ConvertRequest request);
  absl::StatusOr<google::longrunning::Operation> verify(v1::VerifyRequest request);
  absl::StatusOr<google::longrunning::Operation> get_operation(const std::string& name);
  // Newest first, at most `limit`.
  absl::StatusOr<std::vector<google::longrunning::Operation>> list_operations(int limit);
  // The operation when it is done, or as it is after `time`.
  absl::StatusOr<google::longrunning::Operation> wait_operation(const std::string& name, absl::Duration time);
  absl::Status cancel_operation(const std::string& name);

  const std::string& address() const { return options_.address; }

  struct Stubs;  // the generated stubs over one channel; for client/watch.cc
  Stubs& stubs() { return *stubs_; }

 private:
  template <class Stub, class Method, class Request, class Response>
  absl::Status call(Stub& stub, Method method, const Request& request, Response* response,
                    absl::Duration more_time = absl::ZeroDuration());
  template <class Stub, class Method, class Request>
  absl::StatusOr<google::longrunning::Operation> start(Stub& stub, Method method, Request request);

  ClientOptions options_;
  std::unique_ptr<Stubs> stubs_;
};

// A random UUID (version 4), lower case.
std::string random_request_id();

// "ID" or "tenants/default/jobs/ID" -> "tenants/default/jobs/ID".
std::string job_name(const std::string& id_or_name);
// "ID" or "tenants/default/operations/ID" -> "tenants/default/operations/ID".
std::string operation_name(const std::string& id_or_name);
// "tenants/default/jobs/ID" -> "ID"; "workers/ID" -> "ID".
std::string last_part(const std::string& name);

bool is_terminal(v1::JobState state);

}  // namespace qwen3::client
