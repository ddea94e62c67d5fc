// qwen3.v1.JobService.
#pragma once
#include <functional>
#include <string>

#include "coordinator/answer.h"
#include "coordinator/core.h"
#include "qwen3/v1/job.grpc.pb.h"

namespace qwen3::coordinator {

class JobService final : public v1::JobService::CallbackService {
 public:
  explicit JobService(Core& core) : core_(core) {}

  grpc::ServerUnaryReactor* CreateJob(grpc::CallbackServerContext* context, const v1::CreateJobRequest* request,
                                      v1::Job* response) override;
  grpc::ServerUnaryReactor* GetJob(grpc::CallbackServerContext* context, const v1::GetJobRequest* request,
                                   v1::Job* response) override;
  grpc::ServerUnaryReactor* ListJobs(grpc::CallbackServerContext* context, const v1::ListJobsRequest* request,
                                     v1::ListJobsResponse* response) override;
  grpc::ServerUnaryReactor* CancelJob(grpc::CallbackServerContext* context, const v1::CancelJobRequest* request,
                                      v1::Job* response) override;
  grpc::ServerUnaryReactor* TraceJob(grpc::CallbackServerContext* context, const v1::TraceJobRequest* request,
                                     v1::TraceJobResponse* response) override;
  grpc::ServerUnaryReactor* ListAttempts(grpc::CallbackServerContext* context, const v1::ListAttemptsRequest* request,
                                         v1::ListAttemptsResponse* response) override;

 private:
  void check_and_create(grpc::CallbackServerContext* context, const v1::CreateJobRequest* request, v1::Job* response,
                        bool fast_bfloat16, Respond respond);
  void answer_created(grpc::CallbackServerContext* context, const absl::StatusOr<CreatedJob>& created,
                      v1::Job* response, Respond respond);
  // Fills in the stored job and what is live of it.
  void answer_job(const std::string& name, v1::Job* response, Respond respond);

  Core& core_;
};

}  // namespace qwen3::coordinator
