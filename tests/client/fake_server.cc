#include "tests/client/fake_server.h"

#include <grpcpp/security/server_credentials.h>
#include <grpcpp/server_builder.h>

#include <algorithm>
#include <chrono>
#include <stdexcept>
#include <thread>

#include "google/longrunning/operations.grpc.pb.h"
#include "qwen3/v1/checkpoint.grpc.pb.h"
#include "qwen3/v1/job.grpc.pb.h"
#include "qwen3/v1/operation.grpc.pb.h"
#include "qwen3/v1/server.grpc.pb.h"
#include "qwen3/v1/watch.grpc.pb.h"
#include "qwen3/v1/worker.grpc.pb.h"

namespace qwen3::client::testing {

using google::longrunning::Operation;
using grpc::ServerContext;
using grpc::Status;
using grpc::StatusCode;

class FakeServer::Services : public v1::JobService::Service,
                             public v1::WatchService::Service,
                             public v1::WorkerService::Service,
                             public v1::CheckpointService::Service,
                             public v1::EvaluationService::Service,
                             public v1::ConversionService::Service,
                             public google::longrunning::Operations::Service,
                             public v1::ServerService::Service {
 public:
  explicit Services(FakeServer& fake) : fake_(fake) {}

  Status CreateJob(ServerContext*, const v1::CreateJobRequest* request, v1::Job* job) override {
    return unary([&] {
      if (fake_.create) return fake_.create(*request, job);
      *job = request->job();
      job->set_name("tenants/default/jobs/" + (request->job_id().empty() ? "made" : request->job_id()));
      job->set_state(v1::JOB_STATE_QUEUED);
      if (!request->validate_only()) fake_.jobs[job->name()] = *job;
      return Status::OK;
    });
  }
  Status GetJob(ServerContext*, const v1::GetJobRequest* request, v1::Job* job) override {
    return unary([&] { return find(request->name(), job); });
  }
  Status ListJobs(ServerContext*, const v1::ListJobsRequest* request, v1::ListJobsResponse* page) override {
    return unary([&] {  // pages of two, the token is an index
      const int first = request->page_token().empty() ? 0 : std::stoi(request->page_token());
      int index = 0;
      for (const auto& [name, job] : fake_.jobs) {
        if (index++ >= first && page->jobs_size() < std::min(request->page_size(), 2)) *page->add_jobs() = job;
      }
      const int next = first + page->jobs_size();
      if (next < static_cast<int>(fake_.jobs.size())) page->set_next_page_token(std::to_string(next));
      return Status::OK;
    });
  }
  Status CancelJob(ServerContext*, const v1::CancelJobRequest* request, v1::Job* job) override {
    return unary([&] {
      const Status found = find(request->name(), job);
      job->set_state(v1::JOB_STATE_STOPPING);
      return found;
    });
  }
  Status TraceJob(ServerContext*, const v1::TraceJobRequest* request, v1::TraceJobResponse* response) override {
    return unary([&] {
      if (fake_.trace) return fake_.trace(*request, response);
      return Status(StatusCode::UNIMPLEMENTED, "no trace");
    });
  }
  Status ListAttempts(ServerContext*, const v1::ListAttemptsRequest*, v1::ListAttemptsResponse* response) override {
    return unary([&] {
      response->mutable_attempts()->Add(fake_.attempts.begin(), fake_.attempts.end());
      return Status::OK;
    });
  }
  Status GetCheckpoint(ServerContext*, const v1::GetCheckpointRequest* request, v1::Checkpoint* result) override {
    return unary([&] {
      for (const v1::Checkpoint& checkpoint : fake_.checkpoints) {
        if (checkpoint.name() != request->name()) continue;
        *result = checkpoint;
        return Status::OK;
      }
      return Status(StatusCode::NOT_FOUND, "there is no checkpoint " + request->name());
    });
  }
  Status ListCheckpoints(ServerContext*, const v1::ListCheckpointsRequest*,
                         v1::ListCheckpointsResponse* response) override {
    return unary([&] {
      response->mutable_checkpoints()->Add(fake_.checkpoints.begin(), fake_.checkpoints.end());
      return Status::OK;
    });
  }
  Status Evaluate(ServerContext*, const v1::EvaluateRequest* request, Operation* operation) override {
    return unary([&] {
      fake_.evaluate_requests.push_back(*request);
      if (fake_.on_evaluate) fake_.on_evaluate(*request);
      return show(operation);
    });
  }
  Status Convert(ServerContext*, const v1::ConvertRequest* request, Operation* operation) override {
    return unary([&] {
      fake_.convert_requests.push_back(*request);
      return show(operation);
    });
  }
  Status Verify(ServerContext*, const v1::VerifyRequest* request, Operation* operation) override {
    return unary([&] {
      fake_.verify_requests.push_back(*request);
      return show(operation);
    });
  }
  Status GetOperation(ServerContext*, const google::longrunning::GetOperationRequest* request,
                      Operation* operation) override {
    return unary([&] {
      const Status shown = show(operation);
      if (operation->name() == request->name()) return shown;
      return Status(StatusCode::NOT_FOUND, "there is no operation " + request->name());
    });
  }
  Status WaitOperation(ServerContext*, const google::longrunning::WaitOperationRequest*,
                       Operation* operation) override {
    return unary([&] { return show(operation); });
  }
  Status ListOperations(ServerContext*, const google::longrunning::ListOperationsRequest*,
                        google::longrunning::ListOperationsResponse* response) override {
    return unary([&] { return show(response->add_operations()); });
  }
  Status CancelOperation(ServerContext*, const google::longrunning::CancelOperationRequest*,
                         google::protobuf::Empty*) override {
    return unary([&] {
      fake_.operation_cancelled = true;
      return Status::OK;
    });
  }
  Status ListWorkers(ServerContext*, const v1::ListWorkersRequest*, v1::ListWorkersResponse* response) override {
    return unary([&] {
      response->mutable_workers()->Add(fake_.workers.begin(), fake_.workers.end());
      return Status::OK;
    });
  }
  Status GetServerInfo(ServerContext*, const v1::GetServerInfoRequest*, v1::ServerInfo* info) override {
    return unary([&] {
      info->set_version("9.9.9");
      info->set_build_id("fake");
      return Status::OK;
    });
  }

  Status WatchEvents(ServerContext* context, const v1::WatchRequest* request,
                     grpc::ServerWriter<v1::WatchEventsResponse>* writer) override {
    return stream(context, *request, writer, fake_.events, &v1::WatchEventsResponse::mutable_event);
  }
  Status WatchMetrics(ServerContext* context, const v1::WatchRequest* request,
                      grpc::ServerWriter<v1::WatchMetricsResponse>* writer) override {
    return stream(context, *request, writer, fake_.metrics, &v1::WatchMetricsResponse::mutable_record);
  }
  Status WatchLogs(ServerContext* context, const v1::WatchLogsRequest* request,
                   grpc::ServerWriter<v1::WatchLogsResponse>* writer) override {
    std::vector<v1::LogRecord> wanted;
    for (const v1::LogRecord& record : fake_.logs) {
      const auto& ranks = request->ranks();
      if (ranks.empty() || std::count(ranks.begin(), ranks.end(), record.rank()) > 0) wanted.push_back(record);
    }
    return stream(context, *request, writer, wanted, &v1::WatchLogsResponse::mutable_record);
  }
  Status WatchCheckpoints(ServerContext* context, const v1::WatchRequest* request,
                          grpc::ServerWriter<v1::WatchCheckpointsResponse>* writer) override {
    return stream(context, *request, writer, fake_.checkpoints, &v1::WatchCheckpointsResponse::mutable_checkpoint);
  }

 private:
  template <class Body>
  Status unary(const Body& body) {
    ++fake_.calls_;
    Status failure;
    if (fake_.take_failure(&failure)) return failure;
    std::scoped_lock lock(fake_.mu_);
    return body();
  }

  Status show(Operation* operation) {
    if (fake_.operation_steps.empty()) return Status(StatusCode::NOT_FOUND, "there is no operation");
    *operation = fake_.operation_steps.front();
    operation->set_name("tenants/default/operations/op-made");
    if (fake_.operation_steps.size() > 1) fake_.operation_steps.erase(fake_.operation_steps.begin());
    return Status::OK;
  }

  Status find(const std::string& name, v1::Job* job) {
    const auto found = fake_.jobs.find(name);
    if (found == fake_.jobs.end()) return Status(StatusCode::NOT_FOUND, "there is no job " + name);
    *job = found->second;
    return Status::OK;
  }

  // The token is the number of records already sent; `field` is the response's mutable_...() of its record.
  template <class Request, class Response, class Record>
  Status stream(ServerContext* context, const Request& request, grpc::ServerWriter<Response>* writer,
                const std::vector<Record>& records, Record* (Response::*field)()) {
    ++fake_.streams_;
    Status failure;
    if (fake_.take_failure(&failure)) return failure;
    int records_to_cut = -1;  // -1: this stream is not cut
    int way = 0;
    {
      std::scoped_lock lock(fake_.mu_);
      v1::Job job;
      if (const Status found = find(request.name(), &job); !found.ok()) return found;
      if (fake_.cuts_ > 0) {
        records_to_cut = static_cast<int>(fake_.random_() % 4);
        way = static_cast<int>(fake_.random_() % 3);
        --fake_.cuts_;
      }
    }
    if (fake_.mutes_ > 0) {
      --fake_.mutes_;
      return hold(context);
    }
    size_t next = request.resume_token().empty() ? 0 : std::stoul(request.resume_token());
    while (next < records.size()) {
      if (records_to_cut-- == 0) return cut(context, way);
      Response response;
      *(response.*field)() = records[next++];
      response.set_resume_token(std::to_string(next));
      if (!writer->Write(response)) return Status::CANCELLED;
      if (fake_.drains_ > 0) {
        --fake_.drains_;
        return end(writer, next, "DRAINING");
      }
    }
    if (records_to_cut >= 0) return cut(context, way);
    if (fake_.hold_ && !request.no_follow()) return hold(context);
    return end(writer, next, request.no_follow() ? "NO_FOLLOW" : "JOB_TERMINAL");
  }

  template <class Response>
  static Status end(grpc::ServerWriter<Response>* writer, size_t next, const std::string& reason) {
    Response response;
    response.set_resume_token(std::to_string(next));
    response.mutable_end()->set_reason(reason);
    writer->Write(response);
    return Status::OK;
  }

  static Status cut(ServerContext* context, int way) {
    if (way == 0) return Status(StatusCode::UNAVAILABLE, "cut by the test");
    if (way == 1) return Status::OK;  // ended without `end`
    context->TryCancel();             // what was written may be lost on its way
    return Status::CANCELLED;
  }

  Status hold(ServerContext* context) {
    while (!context->IsCancelled() && !fake_.stopping_) std::this_thread::sleep_for(std::chrono::milliseconds(2));
    return Status(StatusCode::UNAVAILABLE, "the fake server stops");
  }

  FakeServer& fake_;
};

FakeServer::FakeServer() : services_(std::make_unique<Services>(*this)) { start(); }

FakeServer::~FakeServer() { stop(); }

void FakeServer::start() {
  stopping_ = false;
  grpc::ServerBuilder builder;
  builder.AddListeningPort("127.0.0.1:" + std::to_string(port_), grpc::InsecureServerCredentials(), &port_);
  builder.RegisterService(static_cast<v1::JobService::Service*>(services_.get()));
  builder.RegisterService(static_cast<v1::WatchService::Service*>(services_.get()));
  builder.RegisterService(static_cast<v1::WorkerService::Service*>(services_.get()));
  builder.RegisterService(static_cast<v1::CheckpointService::Service*>(services_.get()));
  builder.RegisterService(static_cast<v1::EvaluationService::Service*>(services_.get()));
  builder.RegisterService(static_cast<v1::ConversionService::Service*>(services_.get()));
  builder.RegisterService(static_cast<google::longrunning::Operations::Service*>(services_.get()));
  builder.RegisterService(static_cast<v1::ServerService::Service*>(services_.get()));
  server_ = builder.BuildAndStart();
  if (!server_) throw std::runtime_error("the fake server cannot listen");
}

void FakeServer::stop() {
  if (!server_) return;
  stopping_ = true;
  server_->Shutdown(std::chrono::system_clock::now());
  server_->Wait();
  server_.reset();
}

void FakeServer::restart() {
  stop();
  start();
}

void FakeServer::fail_next(int calls, const Status& status) {
  std::scoped_lock lock(mu_);
  failures_.assign(calls, status);
}

void FakeServer::cut_streams(int cuts, unsigned seed) {
  std::scoped_lock lock(mu_);
  random_.seed(seed);
  cuts_ = cuts;
}

bool FakeServer::take_failure(Status* status) {
  std::scoped_lock lock(mu_);
  if (failures_.empty()) return false;
  *status = failures_.back();
  failures_.pop_back();
  return true;
}

}  // namespace qwen3::client::testing
