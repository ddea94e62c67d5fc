// The one door between a unary handler and gRPC: runs the handler off the callback thread, turns an exception into
// INTERNAL, counts the call, finishes exactly once.
#pragma once
#include <grpcpp/support/server_callback.h>

#include <functional>
#include <string>

#include "absl/status/status.h"
#include "coordinator/executor.h"
#include "coordinator/metrics.h"

namespace qwen3::coordinator {

// Answers the call; to be called once, from any thread, with the response filled in before.
using Respond = std::function<void(const absl::Status&)>;

// `body` runs on `on` and may hand `respond` on to other threads.
grpc::ServerUnaryReactor* answer(grpc::CallbackServerContext* context, const std::string& method, Metrics& metrics,
                                 Executor& on, std::function<void(Respond respond)> body);

// A later part of a handler, for another thread: an exception answers INTERNAL.
std::function<void()> guarded(Respond respond, std::function<void()> part);

}  // namespace qwen3::coordinator
