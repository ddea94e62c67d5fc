// qwen3.v1.WatchService: four kinds of records through one kind of stream.
//
// A resume token is "e1:N" (events: seq N), "c1:N" (checkpoints: seq of the event N), "m1:N" or "l1:N" (metrics, logs:
// position N in the job's record file). Clients must not read it.
#pragma once
#include "coordinator/core.h"
#include "qwen3/v1/watch.grpc.pb.h"

namespace qwen3::coordinator {

class WatchService final : public v1::WatchService::CallbackService {
 public:
  explicit WatchService(Core& core) : core_(core) {}

  grpc::ServerWriteReactor<v1::WatchEventsResponse>* WatchEvents(grpc::CallbackServerContext* context,
                                                                 const v1::WatchRequest* request) override;
  grpc::ServerWriteReactor<v1::WatchMetricsResponse>* WatchMetrics(grpc::CallbackServerContext* context,
                                                                   const v1::WatchRequest* request) override;
  grpc::ServerWriteReactor<v1::WatchLogsResponse>* WatchLogs(grpc::CallbackServerContext* context,
                                                             const v1::WatchLogsRequest* request) override;
  grpc::ServerWriteReactor<v1::WatchCheckpointsResponse>* WatchCheckpoints(grpc::CallbackServerContext* context,
                                                                           const v1::WatchRequest* request) override;

 private:
  Core& core_;
};

}  // namespace qwen3::coordinator
