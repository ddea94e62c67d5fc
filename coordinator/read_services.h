// qwen3.v1.WorkerService, CheckpointService and ServerService: they only read.
#pragma once
#include "coordinator/answer.h"
#include "coordinator/core.h"
#include "qwen3/v1/checkpoint.grpc.pb.h"
#include "qwen3/v1/server.grpc.pb.h"
#include "qwen3/v1/worker.grpc.pb.h"

namespace qwen3::coordinator {

class WorkerService final : public v1::WorkerService::CallbackService {
 public:
  explicit WorkerService(Core& core) : core_(core) {}
  grpc::ServerUnaryReactor* GetWorker(grpc::CallbackServerContext* context, const v1::GetWorkerRequest* request,
                                      v1::Worker* response) override;
  grpc::ServerUnaryReactor* ListWorkers(grpc::CallbackServerContext* context, const v1::ListWorkersRequest* request,
                                        v1::ListWorkersResponse* response) override;

 private:
  Core& core_;
};

class CheckpointService final : public v1::CheckpointService::CallbackService {
 public:
  explicit CheckpointService(Core& core) : core_(core) {}
  grpc::ServerUnaryReactor* GetCheckpoint(grpc::CallbackServerContext* context, const v1::GetCheckpointRequest* request,
                                          v1::Checkpoint* response) override;
  grpc::ServerUnaryReactor* ListCheckpoints(grpc::CallbackServerContext* context,
                                            const v1::ListCheckpointsRequest* request,
                                            v1::ListCheckpointsResponse* response) override;

 private:
  Core& core_;
};

class ServerService final : public v1::ServerService::CallbackService {
 public:
  explicit ServerService(Core& core) : core_(core) {}
  grpc::ServerUnaryReactor* GetServerInfo(grpc::CallbackServerContext* context, const v1::GetServerInfoRequest* request,
                                          v1::ServerInfo* response) override;

 private:
  Core& core_;
};

}  // namespace qwen3::coordinator
