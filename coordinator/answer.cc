#include "coordinator/answer.h"

#include <grpcpp/server_context.h>

#include <exception>
#include <utility>

#include "proto/status.h"

namespace qwen3::coordinator {

grpc::ServerUnaryReactor* answer(grpc::CallbackServerContext* context, const std::string& method, Metrics& metrics,
                                 Executor& on, std::function<void(Respond respond)> body) {
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  Respond respond = [reactor, method, &metrics](const absl::Status& status) {
    metrics.count_rpc(method, status.code());
    reactor->Finish(to_grpc(status));
  };
  on.post(guarded(respond, [body = std::move(body), respond] { body(respond); }));
  return reactor;
}

std::function<void()> guarded(Respond respond, std::function<void()> part) {
  return [respond = std::move(respond), part = std::move(part)] {
    try {
      part();
    } catch (const std::exception& error) {  // a handler answers last, so it has not answered yet
      respond(absl::InternalError(error.what()));
    }
  };
}

}  // namespace qwen3::coordinator
