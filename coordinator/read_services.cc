#include "coordinator/read_services.h"

#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "coordinator/names.h"
#include "spec/build_info/build_info.h"

namespace qwen3::coordinator {

grpc::ServerUnaryReactor* WorkerService::GetWorker(grpc::CallbackServerContext* context,
                                                   const v1::GetWorkerRequest* request, v1::Worker* response) {
  return answer(context, "GetWorker", core_.metrics(), core_.state(), [=, this](Respond respond) {
    for (v1::Worker& worker : core_.controller().workers()) {
      if (worker.name() != request->name()) continue;
      *response = std::move(worker);
      return respond(absl::OkStatus());
    }
    respond(absl::NotFoundError(absl::StrCat("there is no worker \"", request->name(), "\" (names are workers/ID)")));
  });
}

grpc::ServerUnaryReactor* WorkerService::ListWorkers(grpc::CallbackServerContext* context,
                                                     const v1::ListWorkersRequest*, v1::ListWorkersResponse* response) {
  return answer(context, "ListWorkers", core_.metrics(), core_.state(), [=, this](Respond respond) {
    for (v1::Worker& worker : core_.controller().workers()) *response->add_workers() = std::move(worker);
    respond(absl::OkStatus());
  });
}

grpc::ServerUnaryReactor* CheckpointService::GetCheckpoint(grpc::CallbackServerContext* context,
                                                           const v1::GetCheckpointRequest* request,
                                                           v1::Checkpoint* response) {
  return answer(context, "GetCheckpoint", core_.metrics(), core_.readers(), [=, this](Respond respond) {
    const auto name = parse_checkpoint_name(request->name());
    if (!name) {
      return respond(absl::InvalidArgumentError(
          absl::StrCat("name is \"", request->name(), "\"; it must be tenants/default/jobs/ID/checkpoints/step-N")));
    }
    auto checkpoints = core_.reader().checkpoints(name->job);
    if (!checkpoints.ok()) return respond(checkpoints.status());
    for (v1::Checkpoint& checkpoint : *checkpoints) {
      if (checkpoint.step() != name->step) continue;
      *response = std::move(checkpoint);
      return respond(absl::OkStatus());
    }
    respond(absl::NotFoundError(absl::StrCat("there is no checkpoint \"", request->name(), "\"")));
  });
}

grpc::ServerUnaryReactor* CheckpointService::ListCheckpoints(grpc::CallbackServerContext* context,
                                                             const v1::ListCheckpointsRequest* request,
                                                             v1::ListCheckpointsResponse* response) {
  return answer(context, "ListCheckpoints", core_.metrics(), core_.readers(), [=, this](Respond respond) {
    if (const auto job = core_.reader().job(request->parent()); !job.ok()) return respond(job.status());
    auto checkpoints = core_.reader().checkpoints(request->parent());
    if (!checkpoints.ok()) return respond(checkpoints.status());
    for (v1::Checkpoint& checkpoint : *checkpoints) *response->add_checkpoints() = std::move(checkpoint);
    respond(absl::OkStatus());
  });
}

grpc::ServerUnaryReactor* ServerService::GetServerInfo(grpc::CallbackServerContext* context,
                                                       const v1::GetServerInfoRequest*, v1::ServerInfo* response) {
  return answer(context, "GetServerInfo", core_.metrics(), core_.readers(), [=, this](Respond respond) {
    response->set_version(std::string(version()));
    response->set_build_id(std::string(build_id()));
    for (const char* capability : {"validate_only", "watch", "warm_start", "hf_export", "evaluate", "convert"}) {
      response->add_capabilities(capability);
    }
    response->set_checkpoint_root(core_.options().checkpoint_root);
    respond(absl::OkStatus());
  });
}

}  // namespace qwen3::coordinator
