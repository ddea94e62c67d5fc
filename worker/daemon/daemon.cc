#include "worker/daemon/daemon.h"

#include <spdlog/spdlog.h>

#include <utility>

#include "spec/build_info/build_info.h"
#include "spec/config/fast_bfloat16.h"
#include "worker/daemon/host.h"

namespace qwen3::worker {

using internal::v1::CoordinatorMessage;
using internal::v1::Hello;
using internal::v1::Welcome;
using internal::v1::WorkerMessage;

Daemon::Daemon(DaemonOptions options)
    : options_(std::move(options)),
      incarnation_(random_incarnation()),
      attempts_(options_, loop_, spool_,
                {.send = [this](WorkerMessage message) { return link_.send(std::move(message)); },
                 .records_added = [this] { link_.records_added(); },
                 .changed = [this] { close_when_done(); }}),
      link_(options_.coordinator, options_.worker_id, loop_, spool_,
            {.hello = [this] { return hello(); },
             .on_admitted =
                 [this](const Welcome& welcome) {
                   attempts_.drop_stale(welcome.stale());
                   attempts_.say_again();
                 },
             .on_message =
                 [this](const CoordinatorMessage& message) {
                   if (!stopping_ || !message.has_assign()) attempts_.handle(message);
                 },
             .on_records_taken =
                 [this] {
                   attempts_.records_taken();
                   close_when_done();
                 }}) {}

void Daemon::run() {
  spdlog::info("worker {} ({} {} slots, build {}) for the coordinator at {}", options_.worker_id, options_.slots,
               options_.device_kind, build_id(), options_.coordinator);
  loop_->post([this] {
    link_.open();
    beat();
  });
  loop_->run();
}

void Daemon::stop() {
  loop_->post([this] {
    if (std::exchange(stopping_, true)) return;
    spdlog::info("stopping: ranks are killed");
    attempts_.kill_all();
    loop_->after(options_.flush_timeout, [this] { close(); });
    close_when_done();
  });
}

Hello Daemon::hello() const {
  Hello hello;
  hello.set_worker(options_.worker_id);
  hello.set_incarnation(incarnation_);
  hello.set_slots(options_.slots);
  hello.set_device_kind(options_.device_kind);
  hello.set_build_id(std::string(build_id()));
  hello.set_advertise_address(options_.advertise_address);
  hello.set_cores(host_cores());
  hello.set_memory_bytes(host_memory_bytes());
  hello.set_fast_bfloat16(spec::config::host_has_fast_bfloat16());
  for (internal::v1::RunningAttempt& attempt : attempts_.running()) *hello.add_running() = std::move(attempt);
  return hello;
}

void Daemon::beat() {
  WorkerMessage message;
  message.mutable_beat();
  for (internal::v1::AttemptProgress& progress : attempts_.progress()) {
    *message.mutable_beat()->add_progress() = std::move(progress);
  }
  link_.send(std::move(message));
  link_.check_silence();
  loop_->after(options_.beat_interval, [this] { beat(); });
}

void Daemon::close_when_done() {
  if (!stopping_ || attempts_.any_alive()) return;
  const bool all_taken = !attempts_.any_unacknowledged() && spool_.empty();
  if (all_taken || !link_.ready()) close();
}

void Daemon::close() {
  if (std::exchange(closing_, true)) return;
  link_.close([this] { loop_->stop(); });
}

}  // namespace qwen3::worker
