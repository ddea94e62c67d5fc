// The generated stubs over one channel. Private to the client library.
#pragma once
#include <grpcpp/channel.h>

#include <memory>

#include "client/client.h"
#include "google/longrunning/operations.grpc.pb.h"
#include "qwen3/v1/checkpoint.grpc.pb.h"
#include "qwen3/v1/job.grpc.pb.h"
#include "qwen3/v1/operation.grpc.pb.h"
#include "qwen3/v1/server.grpc.pb.h"
#include "qwen3/v1/watch.grpc.pb.h"
#include "qwen3/v1/worker.grpc.pb.h"

namespace qwen3::client {

struct Client::Stubs {
  explicit Stubs(const std::shared_ptr<grpc::Channel>& channel)
      : jobs(channel),
        watch(channel),
        workers(channel),
        checkpoints(channel),
        evaluations(channel),
        conversions(channel),
        operations(channel),
        server(channel) {}

  v1::JobService::Stub jobs;
  v1::WatchService::Stub watch;
  v1::WorkerService::Stub workers;
  v1::CheckpointService::Stub checkpoints;
  v1::EvaluationService::Stub evaluations;
  v1::ConversionService::Stub conversions;
  google::longrunning::Operations::Stub operations;
  v1::ServerService::Stub server;
};

}  // namespace qwen3::client
