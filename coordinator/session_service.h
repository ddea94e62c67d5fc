// qwen3.internal.v1.WorkerSessionService: the daemons' streams.
#pragma once
#include "coordinator/core.h"
#include "qwen3/internal/v1/session.grpc.pb.h"

namespace qwen3::coordinator {

class SessionService final : public internal::v1::WorkerSessionService::CallbackService {
 public:
  explicit SessionService(Core& core) : core_(core) {}

  grpc::ServerBidiReactor<internal::v1::WorkerMessage, internal::v1::CoordinatorMessage>* Session(
      grpc::CallbackServerContext* context) override;
  grpc::ServerBidiReactor<internal::v1::RecordBatch, internal::v1::RecordAck>* PushRecords(
      grpc::CallbackServerContext* context) override;

 private:
  Core& core_;
};

}  // namespace qwen3::coordinator
