#include "worker/daemon/coordinator_link.h"

#include <grpcpp/create_channel.h>
#include <grpcpp/security/credentials.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <utility>

namespace qwen3::worker {
namespace {

using internal::v1::CoordinatorMessage;
using internal::v1::Hello;
using internal::v1::RecordAck;
using internal::v1::RecordBatch;
using internal::v1::Welcome;
using internal::v1::WorkerMessage;
using internal::v1::WorkerSessionService;

constexpr size_t kBatchBytes = 512 << 10;

// Beats and records must not share a connection, and gRPC shares silently unless told not to.
std::unique_ptr<WorkerSessionService::Stub> connect(const std::string& address) {
  grpc::ChannelArguments arguments;
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, 100);
  arguments.SetInt(GRPC_ARG_MIN_RECONNECT_BACKOFF_MS, 2000);  // also the time one try may take
  arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, 2000);
  arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
  return WorkerSessionService::NewStub(
      grpc::CreateCustomChannel(address, grpc::InsecureChannelCredentials(), arguments));
}

// What the probe file holds; in its place, so that the coordinator's refusal says it, why it cannot be read.
std::string read_probe(const Welcome& welcome) {
  const std::filesystem::path path = std::filesystem::path(welcome.checkpoint_root()) / welcome.probe_file();
  std::ifstream file(path);
  if (!file) {
    const std::string reason = std::strerror(errno);
    spdlog::error(
        "checkpoint root {}: cannot read {}: {}; it must be one file system for the coordinator and all "
        "workers",
        welcome.checkpoint_root(), path.string(), reason);
    return "cannot read " + path.string() + ": " + reason;
  }
  std::ostringstream content;
  content << file.rdbuf();
  return content.str();
}

}  // namespace

EventLoop::Clock::duration Backoff::next() {
  const double seconds = std::min(2.0, 0.1 * std::pow(2.0, tries_++));
  const double share = std::uniform_real_distribution<double>(0.5, 1.0)(random_);
  return std::chrono::duration_cast<EventLoop::Clock::duration>(std::chrono::duration<double>(seconds * share));
}

CoordinatorLink::CoordinatorLink(std::string address, std::string worker, std::shared_ptr<EventLoop> loop, Spool& spool,
                                 Handlers handlers)
    : address_(std::move(address)),
      worker_(std::move(worker)),
      loop_(std::move(loop)),
      spool_(spool),
      handlers_(std::move(handlers)),
      session_stub_(connect(address_)),
      records_stub_(connect(address_)),
      session_backoff_(std::random_device()()),
      records_backoff_(std::random_device()()) {}

void CoordinatorLink::open() {
  if (closed_ || session_) return;
  probe_answered_ = silent_ = false;
  heard_ = EventLoop::Clock::now();
  session_ = Session::open([this](grpc::ClientContext* context,
                                  Session::Reactor* reactor) { session_stub_->async()->Session(context, reactor); },
                           {.on_message =
                                [this, loop = loop_](CoordinatorMessage message) {
                                  loop->post([this, message = std::move(message)] { on_session_message(message); });
                                },
                            .on_closed =
                                [this, loop = loop_](std::shared_ptr<Session> stream, const grpc::Status& status) {
                                  loop->post([this, stream = std::move(stream), status] { on_session_closed(status); });
                                }});
  WorkerMessage message;
  *message.mutable_hello() = handlers_.hello();
  session_->send(std::move(message));
}

void CoordinatorLink::close(std::function<void()> closed) {
  closed_ = std::move(closed);
  ready_ = false;
  if (session_) session_->cancel();
  if (records_) records_->cancel();
  finish_closing();
}

void CoordinatorLink::finish_closing() {
  if (closed_ && !session_ && !records_) closed_();
}

bool CoordinatorLink::send(WorkerMessage message) {
  if (!ready_) return false;
  session_->send(std::move(message));
  return true;
}

void CoordinatorLink::check_silence() {
  if (!session_ || silent_ || EventLoop::Clock::now() - heard_ < patience_) return;
  silent_ = true;
  session_->cancel();
}

void CoordinatorLink::on_session_message(const CoordinatorMessage& message) {
  if (closed_ || !session_) return;
  heard_ = EventLoop::Clock::now();
  if (message.has_welcome()) {
    on_welcome(message.welcome());
  } else if (ready_) {
    handlers_.on_message(message);
  }
}

// The first Welcome asks for the probe's content, the second admits.
void CoordinatorLink::on_welcome(const Welcome& welcome) {
  if (welcome.lease_ms() > 0) patience_ = std::chrono::milliseconds(welcome.lease_ms());
  if (!welcome.probe_file().empty()) {
    if (std::exchange(probe_answered_, true)) return;
    WorkerMessage answer;
    *answer.mutable_hello() = handlers_.hello();
    answer.mutable_hello()->set_checkpoint_root_probe(read_probe(welcome));
    session_->send(std::move(answer));
    return;
  }
  if (std::exchange(ready_, true)) return;
  spdlog::info("admitted by the coordinator at {}", address_);
  session_backoff_.reset();
  last_error_.clear();
  handlers_.on_admitted(welcome);
  open_records();
}

void CoordinatorLink::on_session_closed(const grpc::Status& status) {
  session_.reset();
  ready_ = false;
  if (records_) records_->cancel();
  if (closed_) {
    finish_closing();
    return;
  }
  std::string error = status.ok() ? "closed by the coordinator" : status.error_message();
  if (silent_) {
    error = "nothing heard for " +
            std::to_string(std::chrono::duration_cast<std::chrono::milliseconds>(patience_).count()) + " ms";
  }
  if (error != last_error_) spdlog::warn("no session with the coordinator at {}: {}; trying again", address_, error);
  last_error_ = error;
  loop_->after(session_backoff_.next(), [this] { open(); });
}

void CoordinatorLink::open_records() {
  if (!ready_ || records_) return;
  records_ = Records::open(
      [this](grpc::ClientContext* context, Records::Reactor* reactor) {
        records_stub_->async()->PushRecords(context, reactor);
      },
      {.on_message = [this, loop = loop_](const RecordAck& ack) { loop->post([this, ack] { on_record_ack(ack); }); },
       .on_closed =
           [this, loop = loop_](std::shared_ptr<Records> stream, const grpc::Status& status) {
             loop->post([this, stream = std::move(stream), status] { on_records_closed(status); });
           }});
  push_records();
}

void CoordinatorLink::on_record_ack(const RecordAck& ack) {
  records_backoff_.reset();
  batch_in_flight_ = false;
  spool_.acknowledge(ack.batch());
  push_records();
  handlers_.on_records_taken();
}

void CoordinatorLink::on_records_closed(const grpc::Status& status) {
  records_.reset();
  batch_in_flight_ = false;
  if (closed_) {
    finish_closing();
    return;
  }
  if (ready_) spdlog::warn("stream of records to {} lost: {}", address_, status.error_message());
  loop_->after(records_backoff_.next(), [this] { open_records(); });
}

void CoordinatorLink::records_added() { push_records(); }

// One batch is under way at a time: what collects meanwhile makes the next one larger.
void CoordinatorLink::push_records() {
  if (!records_ || batch_in_flight_ || closed_) return;
  std::optional<RecordBatch> batch = spool_.next_batch(kBatchBytes);
  if (!batch) return;
  batch->set_worker(worker_);
  batch_in_flight_ = true;
  records_->send(*std::move(batch));
}

}  // namespace qwen3::worker
