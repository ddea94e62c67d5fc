#include "client/client.h"

#include <grpcpp/client_context.h>
#include <grpcpp/create_channel.h>
#include <grpcpp/security/credentials.h>

#include <algorithm>
#include <array>
#include <random>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "client/stubs.h"
#include "proto/status.h"

namespace qwen3::client {
namespace {

// gRPC A6. The throttle (maxTokens is at its upper bound) stops retries only when hundreds of calls fail in a row.
constexpr char kServiceConfig[] = R"({
  "methodConfig": [{
    "name": [{}],
    "retryPolicy": {
      "maxAttempts": 4,
      "initialBackoff": "0.1s",
      "maxBackoff": "2s",
      "backoffMultiplier": 2,
      "retryableStatusCodes": ["UNAVAILABLE"]
    }
  }],
  "retryThrottling": {"maxTokens": 1000, "tokenRatio": 0.1}
})";
constexpr int kMaxPage = 1000;

std::shared_ptr<grpc::Channel> make_channel(const std::string& address) {
  grpc::ChannelArguments arguments;
  arguments.SetServiceConfigJSON(kServiceConfig);
  arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, 100);
  arguments.SetInt(GRPC_ARG_MIN_RECONNECT_BACKOFF_MS, 1000);  // also how long one connection attempt may take
  arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, 2000);
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
  return grpc::CreateCustomChannel(address, grpc::InsecureChannelCredentials(), arguments);
}

}  // namespace

Client::Client(ClientOptions options)
    : options_(std::move(options)), stubs_(std::make_unique<Stubs>(make_channel(options_.address))) {}

Client::~Client() = default;

template <class Stub, class Method, class Request, class Response>
absl::Status Client::call(Stub& stub, Method method, const Request& request, Response* response,
                          absl::Duration more_time) {
  grpc::ClientContext context;
  context.set_deadline(absl::ToChronoTime(absl::Now() + options_.deadline + more_time));
  context.set_wait_for_ready(options_.wait_for_ready);
  const grpc::Status status = (stub.*method)(&context, request, response);
  if (status.error_code() == grpc::StatusCode::UNAVAILABLE) {
    return absl::UnavailableError(
        absl::StrCat("no answer from the coordinator at ", options_.address, " (", status.error_message(), ")"));
  }
  return from_grpc(status);
}

absl::StatusOr<v1::Job> Client::create_job(v1::CreateJobRequest request) {
  request.set_parent(kParent);
  if (request.request_id().empty()) request.set_request_id(random_request_id());
  v1::Job job;
  const absl::Status status = call(stubs_->jobs, &v1::JobService::Stub::CreateJob, request, &job);
  if (!status.ok()) return status;
  return job;
}

absl::StatusOr<v1::Job> Client::get_job(const std::string& name) {
  v1::GetJobRequest request;
  request.set_name(name);
  v1::Job job;
  const absl::Status status = call(stubs_->jobs, &v1::JobService::Stub::GetJob, request, &job);
  if (!status.ok()) return status;
  return job;
}

absl::StatusOr<std::vector<v1::Job>> Client::list_jobs(int limit) {
  std::vector<v1::Job> jobs;
  v1::ListJobsRequest request;
  request.set_parent(kParent);
  while (static_cast<int>(jobs.size()) < limit) {
    request.set_page_size(std::min(limit - static_cast<int>(jobs.size()), kMaxPage));
    v1::ListJobsResponse page;
    const absl::Status status = call(stubs_->jobs, &v1::JobService::Stub::ListJobs, request, &page);
    if (!status.ok()) return status;
    jobs.insert(jobs.end(), page.jobs().begin(), page.jobs().end());
    if (page.next_page_token().empty()) break;
    request.set_page_token(page.next_page_token());
  }
  return jobs;
}

absl::StatusOr<v1::Job> Client::cancel_job(const std::string& name, const std::string& request_id) {
  v1::CancelJobRequest request;
  request.set_name(name);
  request.set_request_id(request_id.empty() ? random_request_id() : request_id);
  v1::Job job;
  const absl::Status status = call(stubs_->jobs, &v1::JobService::Stub::CancelJob, request, &job);
  if (!status.ok()) return status;
  return job;
}

absl::StatusOr<v1::TraceJobResponse> Client::trace_job(const std::string& name, int64_t steps,
                                                       const std::string& request_id) {
  v1::TraceJobRequest request;
  request.set_name(name);
  request.set_steps(steps);
  request.set_request_id(request_id.empty() ? random_request_id() : request_id);
  v1::TraceJobResponse response;
  const absl::Status status = call(stubs_->jobs, &v1::JobService::Stub::TraceJob, request, &response);
  if (!status.ok()) return status;
  return response;
}

absl::StatusOr<std::vector<v1::Attempt>> Client::list_attempts(const std::string& job) {
  v1::ListAttemptsRequest request;
  request.set_parent(job);
  v1::ListAttemptsResponse response;
  const absl::Status status = call(stubs_->jobs, &v1::JobService::Stub::ListAttempts, request, &response);
  if (!status.ok()) return status;
  return std::vector<v1::Attempt>(response.attempts().begin(), response.attempts().end());
}

absl::StatusOr<std::vector<v1::Checkpoint>> Client::list_checkpoints(const std::string& job) {
  v1::ListCheckpointsRequest request;
  request.set_parent(job);
  v1::ListCheckpointsResponse response;
  const absl::Status status =
      call(stubs_->checkpoints, &v1::CheckpointService::Stub::ListCheckpoints, request, &response);
  if (!status.ok()) return status;
  return std::vector<v1::Checkpoint>(response.checkpoints().begin(), response.checkpoints().end());
}

absl::StatusOr<v1::Checkpoint> Client::get_checkpoint(const std::string& name) {
  v1::GetCheckpointRequest request;
  request.set_name(name);
  v1::Checkpoint checkpoint;
  const absl::Status status =
      call(stubs_->checkpoints, &v1::CheckpointService::Stub::GetCheckpoint, request, &checkpoint);
  if (!status.ok()) return status;
  return checkpoint;
}

absl::StatusOr<std::vector<v1::Worker>> Client::list_workers() {
  v1::ListWorkersResponse response;
  const absl::Status status =
      call(stubs_->workers, &v1::WorkerService::Stub::ListWorkers, v1::ListWorkersRequest(), &response);
  if (!status.ok()) return status;
  return std::vector<v1::Worker>(response.workers().begin(), response.workers().end());
}

absl::StatusOr<v1::ServerInfo> Client::server_info() {
  v1::ServerInfo info;
  const absl::Status status =
      call(stubs_->server, &v1::ServerService::Stub::GetServerInfo, v1::GetServerInfoRequest(), &info);
  if (!status.ok()) return status;
  return info;
}

template <class Stub, class Method, class Request>
absl::StatusOr<google::longrunning::Operation> Client::start(Stub& stub, Method method, Request request) {
  request.set_parent(kParent);
  if (request.request_id().empty()) request.set_request_id(random_request_id());
  google::longrunning::Operation operation;
  const absl::Status status = call(stub, method, request, &operation);
  if (!status.ok()) return status;
  return operation;
}

absl::StatusOr<google::longrunning::Operation> Client::evaluate(v1::EvaluateRequest request) {
  return start(stubs_->evaluations, &v1::EvaluationService::Stub::Evaluate, std::move(request));
}

absl::StatusOr<google::longrunning::Operation> Client::convert(v1::ConvertRequest request) {
  return start(stubs_->conversions, &v1::ConversionService::Stub::Convert, std::move(request));
}

absl::StatusOr<google::longrunning::Operation> Client::verify(v1::VerifyRequest request) {
  return start(stubs_->conversions, &v1::ConversionService::Stub::Verify, std::move(request));
}

absl::StatusOr<google::longrunning::Operation> Client::get_operation(const std::string& name) {
  google::longrunning::GetOperationRequest request;
  request.set_name(name);
  google::longrunning::Operation operation;
  const absl::Status status =
      call(stubs_->operations, &google::longrunning::Operations::Stub::GetOperation, request, &operation);
  if (!status.ok()) return status;
  return operation;
}

absl::StatusOr<std::vector<google::longrunning::Operation>> Client::list_operations(int limit) {
  std::vector<google::longrunning::Operation> operations;
  google::longrunning::ListOperationsRequest request;
  request.set_name(kParent);
  while (static_cast<int>(operations.size()) < limit) {
    request.set_page_size(std::min(limit - static_cast<int>(operations.size()), kMaxPage));
    google::longrunning::ListOperationsResponse page;
    const absl::Status status =
        call(stubs_->operations, &google::longrunning::Operations::Stub::ListOperations, request, &page);
    if (!status.ok()) return status;
    operations.insert(operations.end(), page.operations().begin(), page.operations().end());
    if (page.next_page_token().empty()) break;
    request.set_page_token(page.next_page_token());
  }
  return operations;
}

absl::StatusOr<google::longrunning::Operation> Client::wait_operation(const std::string& name, absl::Duration time) {
  google::longrunning::WaitOperationRequest request;
  request.set_name(name);
  request.mutable_timeout()->set_seconds(absl::ToInt64Seconds(time));
  request.mutable_timeout()->set_nanos(static_cast<int32_t>(absl::ToInt64Nanoseconds(time) % 1'000'000'000));
  google::longrunning::Operation operation;
  const absl::Status status =
      call(stubs_->operations, &google::longrunning::Operations::Stub::WaitOperation, request, &operation, time);
  if (!status.ok()) return status;
  return operation;
}

absl::Status Client::cancel_operation(const std::string& name) {
  google::longrunning::CancelOperationRequest request;
  request.set_name(name);
  google::protobuf::Empty response;
  return call(stubs_->operations, &google::longrunning::Operations::Stub::CancelOperation, request, &response);
}

std::string random_request_id() {
  std::random_device device;
  std::array<uint32_t, 4> words;
  for (uint32_t& word : words) word = device();
  words[1] = (words[1] & 0xffff0fffu) | 0x00004000u;  // version 4
  words[2] = (words[2] & 0x3fffffffu) | 0x80000000u;  // variant 1
  return absl::StrFormat("%08x-%04x-%04x-%04x-%04x%08x", words[0], words[1] >> 16, words[1] & 0xffff, words[2] >> 16,
                         words[2] & 0xffff, words[3]);
}

std::string job_name(const std::string& id_or_name) {
  if (absl::StartsWith(id_or_name, "tenants/")) return id_or_name;
  return absl::StrCat(kParent, "/jobs/", id_or_name);
}

std::string operation_name(const std::string& id_or_name) {
  if (absl::StartsWith(id_or_name, "tenants/")) return id_or_name;
  return absl::StrCat(kParent, "/operations/", id_or_name);
}

std::string last_part(const std::string& name) { return name.substr(name.rfind('/') + 1); }

bool is_terminal(v1::JobState state) {
  return state == v1::JOB_STATE_SUCCEEDED || state == v1::JOB_STATE_FAILED || state == v1::JOB_STATE_CANCELLED;
}

}  // namespace qwen3::client
