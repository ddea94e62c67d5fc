// The generated stubs over one channel. Private to the client library.
#pragma once
#include <grpcpp/channel.h>

#include <memory>

#include "client/client.h"
#include "qwen3/v1/checkpoint.grpc.pb.h"
#include "qwen3/v1/job.grpc.pb.h"
#include "qwen3/v1/server.grpc.pb.h"
#include "qwen3/v1/watch.grpc.pb.h"
#include "qwen3/v1/worker.grpc.pb.h"

namespace qwen3::client {

struct Client::Stubs {
  explicit Stubs(const std::shared_ptr<grpc::Channel>& channel)
      : jobs(channel), watch(channel), workers(channel), checkpoints(channel), server(channel) {}

  v1::JobService::Stub jobs;
  v1::WatchService::Stub watch;
  v1::WorkerService::Stub workers;
  v1::CheckpointService::Stub checkpoints;
  v1::ServerService::Stub server;
};

}  // namespace qwen3::client
