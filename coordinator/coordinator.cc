#include "coordinator/coordinator.h"

#include <grpcpp/ext/proto_server_reflection_plugin.h>
#include <grpcpp/grpcpp.h>
#include <grpcpp/health_check_service_interface.h>
#include <spdlog/spdlog.h>

#include <chrono>
#include <filesystem>
#include <mutex>
#include <system_error>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "coordinator/core.h"
#include "coordinator/http.h"
#include "coordinator/job_service.h"
#include "coordinator/operation_service.h"
#include "coordinator/read_services.h"
#include "coordinator/session_service.h"
#include "coordinator/state_lock.h"
#include "coordinator/watch_service.h"

namespace qwen3::coordinator {
namespace {

constexpr int kUserMessageBytes = 1 << 20;
constexpr int kWorkerMessageBytes = 16 << 20;  // a manifest part of a large model
constexpr auto kShutdownDeadline = std::chrono::seconds(2);

absl::Status check_address(const std::string& flag, const std::string& address, bool insecure) {
  const size_t colon = address.rfind(':');
  if (colon == std::string::npos) {
    return absl::FailedPreconditionError(absl::StrCat(flag, " is \"", address, "\"; it must be HOST:PORT"));
  }
  const std::string host = address.substr(0, colon);
  const bool loopback = absl::StartsWith(host, "127.") || host == "localhost" || host == "[::1]";
  if (loopback || insecure) return absl::OkStatus();
  return absl::FailedPreconditionError(
      absl::StrCat(flag, " ", address,
                   " is not a loopback address, and there are no credentials yet: "
                   "everyone who reaches it may run jobs. Pass --insecure to allow it"));
}

absl::StatusOr<std::string> make_folder(const std::string& flag, const std::string& folder) {
  if (folder.empty()) return absl::FailedPreconditionError(absl::StrCat(flag, " is missing"));
  std::error_code error;
  std::filesystem::create_directories(folder, error);
  const std::filesystem::path path = std::filesystem::canonical(folder, error);
  if (error) return absl::FailedPreconditionError(absl::StrCat(flag, " ", folder, ": ", error.message()));
  return path.string();
}

absl::StatusOr<std::unique_ptr<grpc::Server>> serve(grpc::ServerBuilder& builder, const std::string& address,
                                                    const std::vector<grpc::Service*>& services, int* port) {
  builder.AddListeningPort(address, grpc::InsecureServerCredentials(), port);
  builder.AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);
  builder.AddChannelArgument(GRPC_ARG_MAX_METADATA_SIZE, 16 << 10);
  for (grpc::Service* service : services) builder.RegisterService(service);
  std::unique_ptr<grpc::Server> server = builder.BuildAndStart();
  if (server == nullptr || *port == 0) return absl::UnavailableError(absl::StrCat("cannot listen on ", address));
  return server;
}

}  // namespace

struct Coordinator::Parts {
  std::unique_ptr<StateLock> lock;
  std::unique_ptr<Core> core;
  std::unique_ptr<JobService> jobs;
  std::unique_ptr<EvaluationService> evaluations;
  std::unique_ptr<ConversionService> conversions;
  std::unique_ptr<OperationService> operations;
  std::unique_ptr<WatchService> watches;
  std::unique_ptr<WorkerService> workers;
  std::unique_ptr<CheckpointService> checkpoints;
  std::unique_ptr<ServerService> info;
  std::unique_ptr<SessionService> sessions;
  std::unique_ptr<grpc::Server> api;
  std::unique_ptr<grpc::Server> worker_api;
  std::unique_ptr<HttpServer> http;
  Ports ports;
  std::once_flag stopped;
};

Coordinator::Coordinator(std::unique_ptr<Parts> parts) : parts_(std::move(parts)) {}
Coordinator::~Coordinator() { stop(); }
Coordinator::Ports Coordinator::ports() const { return parts_->ports; }

absl::StatusOr<std::unique_ptr<Coordinator>> Coordinator::start(const Options& given) {
  Options options = given;
  for (const auto& [flag, address] :
       {std::pair("--listen", options.listen), std::pair("--worker-listen", options.worker_listen),
        std::pair("--http-listen", options.http_listen)}) {
    if (absl::Status status = check_address(flag, address, options.insecure); !status.ok()) return status;
  }
  auto state_dir = make_folder("--state-dir", options.state_dir);
  if (!state_dir.ok()) return state_dir.status();
  auto root = make_folder("--checkpoint-root", options.checkpoint_root);
  if (!root.ok()) return root.status();
  options.state_dir = *state_dir;
  options.checkpoint_root = *root;

  auto parts = std::make_unique<Parts>();
  auto lock = StateLock::take(options.state_dir);
  if (!lock.ok()) return lock.status();
  parts->lock = *std::move(lock);
  auto core = Core::open(options);
  if (!core.ok()) return core.status();
  parts->core = *std::move(core);
  Core& shared = *parts->core;
  parts->jobs = std::make_unique<JobService>(shared);
  parts->evaluations = std::make_unique<EvaluationService>(shared);
  parts->conversions = std::make_unique<ConversionService>(shared);
  parts->operations = std::make_unique<OperationService>(shared);
  parts->watches = std::make_unique<WatchService>(shared);
  parts->workers = std::make_unique<WorkerService>(shared);
  parts->checkpoints = std::make_unique<CheckpointService>(shared);
  parts->info = std::make_unique<ServerService>(shared);
  parts->sessions = std::make_unique<SessionService>(shared);

  static std::once_flag plugins;
  std::call_once(plugins, [] {
    grpc::EnableDefaultHealthCheckService(true);
    grpc::reflection::InitProtoReflectionServerBuilderPlugin();
  });
  // Only the server pings: a client that pings every second is cut off for too many pings.
  grpc::ServerBuilder worker_builder;
  worker_builder.SetMaxReceiveMessageSize(kWorkerMessageBytes);
  worker_builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIME_MS, 1000);
  worker_builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, 1000);
  worker_builder.AddChannelArgument(GRPC_ARG_HTTP2_MAX_PINGS_WITHOUT_DATA, 0);
  worker_builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
  auto worker_api = serve(worker_builder, options.worker_listen, {parts->sessions.get()}, &parts->ports.worker);
  if (!worker_api.ok()) return worker_api.status();
  parts->worker_api = *std::move(worker_api);

  grpc::ServerBuilder builder;
  builder.SetMaxReceiveMessageSize(kUserMessageBytes);
  builder.AddChannelArgument(GRPC_ARG_MAX_CONCURRENT_STREAMS, 4096);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIME_MS, 30'000);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, 10'000);
  builder.AddChannelArgument(GRPC_ARG_HTTP2_MAX_PINGS_WITHOUT_DATA, 0);
  auto api = serve(builder, options.listen,
                   {parts->jobs.get(), parts->evaluations.get(), parts->conversions.get(), parts->operations.get(),
                    parts->watches.get(), parts->workers.get(), parts->checkpoints.get(), parts->info.get()},
                   &parts->ports.api);
  if (!api.ok()) {
    parts->worker_api->Shutdown(std::chrono::system_clock::now());
    return api.status();
  }
  parts->api = *std::move(api);

  auto http = HttpServer::start(
      options.http_listen, {.metrics =
                                [&shared] {
                                  auto counts = std::make_shared<Counts>();
                                  if (shared.ask_state([&shared, counts] { *counts = shared.controller().counts(); })) {
                                    shared.metrics().set_counts(*counts);
                                  }
                                  shared.metrics().set_watchers(shared.hub().size());
                                  return shared.metrics().serialize();
                                },
                            .ready = [&shared] { return shared.ask_state([] {}); }});
  std::unique_ptr<Coordinator> coordinator(new Coordinator(std::move(parts)));
  if (!http.ok()) return http.status();  // what serves already is stopped with `coordinator`
  coordinator->parts_->http = *std::move(http);
  coordinator->parts_->ports.http = coordinator->parts_->http->port();
  if (auto* health = coordinator->parts_->api->GetHealthCheckService()) {
    health->SetServingStatus("qwen3.v1.JobService", true);
  }
  return coordinator;
}

// Streams end first: a server's Shutdown waits its whole deadline while one is open.
void Coordinator::stop() {
  std::call_once(parts_->stopped, [this] {
    Parts& parts = *parts_;
    if (auto* health = parts.api->GetHealthCheckService()) health->SetServingStatus(false);
    parts.http.reset();
    parts.core->hub().drain_all();
    parts.core->end_sessions();
    const auto deadline = std::chrono::system_clock::now() + kShutdownDeadline;
    parts.api->Shutdown(deadline);
    parts.worker_api->Shutdown(deadline);
    parts.core->stop();
  });
}

}  // namespace qwen3::coordinator
