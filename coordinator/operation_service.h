// qwen3.v1.EvaluationService and ConversionService, which start tasks, and google.longrunning.Operations, which shows,
// waits for and cancels them.
#pragma once
#include "coordinator/answer.h"
#include "coordinator/core.h"
#include "google/longrunning/operations.grpc.pb.h"
#include "qwen3/v1/operation.grpc.pb.h"

namespace qwen3::coordinator {

class EvaluationService final : public v1::EvaluationService::CallbackService {
 public:
  explicit EvaluationService(Core& core) : core_(core) {}
  grpc::ServerUnaryReactor* Evaluate(grpc::CallbackServerContext* context, const v1::EvaluateRequest* request,
                                     google::longrunning::Operation* response) override;

 private:
  Core& core_;
};

class ConversionService final : public v1::ConversionService::CallbackService {
 public:
  explicit ConversionService(Core& core) : core_(core) {}
  grpc::ServerUnaryReactor* Convert(grpc::CallbackServerContext* context, const v1::ConvertRequest* request,
                                    google::longrunning::Operation* response) override;
  grpc::ServerUnaryReactor* Verify(grpc::CallbackServerContext* context, const v1::VerifyRequest* request,
                                   google::longrunning::Operation* response) override;

 private:
  Core& core_;
};

class OperationService final : public google::longrunning::Operations::CallbackService {
 public:
  explicit OperationService(Core& core) : core_(core) {}
  grpc::ServerUnaryReactor* ListOperations(grpc::CallbackServerContext* context,
                                           const google::longrunning::ListOperationsRequest* request,
                                           google::longrunning::ListOperationsResponse* response) override;
  grpc::ServerUnaryReactor* GetOperation(grpc::CallbackServerContext* context,
                                         const google::longrunning::GetOperationRequest* request,
                                         google::longrunning::Operation* response) override;
  grpc::ServerUnaryReactor* DeleteOperation(grpc::CallbackServerContext* context,
                                            const google::longrunning::DeleteOperationRequest* request,
                                            google::protobuf::Empty* response) override;
  grpc::ServerUnaryReactor* CancelOperation(grpc::CallbackServerContext* context,
                                            const google::longrunning::CancelOperationRequest* request,
                                            google::protobuf::Empty* response) override;
  grpc::ServerUnaryReactor* WaitOperation(grpc::CallbackServerContext* context,
                                          const google::longrunning::WaitOperationRequest* request,
                                          google::longrunning::Operation* response) override;

 private:
  Core& core_;
};

}  // namespace qwen3::coordinator
