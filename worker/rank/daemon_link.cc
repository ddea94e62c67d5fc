#include "worker/rank/daemon_link.h"

#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <stdexcept>

#include "worker/rank/wire.h"

namespace qwen3::rank {
namespace {

// A rank is crash-only: without a daemon there is nobody to report to, and its peers see the closed connections.
[[noreturn]] void exit_orphaned() {
  std::fputs("the daemon closed the control socket; this rank ends\n", stderr);
  _exit(70);
}

}  // namespace

DaemonLink::DaemonLink(int fd) : channel_(fd) {
  internal::v1::DaemonToRank message;
  const absl::Status status = channel_.receive(message);
  if (!status.ok() || !message.has_assignment()) {
    throw std::runtime_error("the daemon's first message is not an assignment: " + std::string(status.message()));
  }
  assignment_ = message.assignment();
  reader_ = std::thread([this] { read_loop(); });
}

DaemonLink::~DaemonLink() {
  {
    const std::lock_guard lock(mutex_);
    closing_ = true;
  }
  channel_.shutdown();
  reader_.join();
}

void DaemonLink::read_loop() {
  internal::v1::DaemonToRank message;
  while (channel_.receive(message).ok()) {
    const std::lock_guard lock(mutex_);
    if (message.has_store_address()) store_address_ = message.store_address();
    if (message.control().word() == internal::v1::RANK_WORD_TRACE) {
      const TraceOrder order{message.control().trace_steps(), message.control().trace()};
      if (known_traces_.insert(order.trace).second) traces_.push_back(order);  // told again after a lost session
    } else if (message.has_control()) {
      control_ = message.control();
    }
    if (message.has_committed_step()) committed_step_ = std::max(committed_step_, message.committed_step());
    if (message.has_prepared_ack_step() && message.prepared_ack_step() > committed_step_) {
      given_up_.insert(message.prepared_ack_step());  // of a commit we would have heard before
    }
    changed_.notify_all();
  }
  const std::lock_guard lock(mutex_);
  if (!closing_) exit_orphaned();
}

void DaemonLink::send(const internal::v1::RankToDaemon& message) {
  if (!channel_.send(message).ok()) exit_orphaned();
}

void DaemonLink::store_ready(int port) {
  internal::v1::RankToDaemon message;
  message.set_store_port(port);
  send(message);
}

std::string DaemonLink::store_address() {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [this] { return !store_address_.empty(); });
  return store_address_;
}

Orders::Word DaemonLink::word_for(int64_t step) {
  const std::lock_guard lock(mutex_);
  if (control_.word() == internal::v1::RANK_WORD_UNSPECIFIED || control_.step() > step) return Orders::kNone;
  const auto word = static_cast<Orders::Word>(control_.word());
  control_.Clear();
  return word;
}

TraceOrder DaemonLink::take_trace() {
  const std::lock_guard lock(mutex_);
  if (traces_.empty()) return {};
  const TraceOrder oldest = traces_.front();
  traces_.pop_front();
  return oldest;
}

void DaemonLink::step_done(int64_t step, const StepMetrics* metrics) {
  internal::v1::RankToDaemon message;
  message.mutable_step_done()->set_step(step);
  if (metrics != nullptr) *message.mutable_step_done()->mutable_report() = to_wire(*metrics);
  send(message);
}

void DaemonLink::progress(int64_t done, int64_t total, const std::string& unit) {
  internal::v1::RankToDaemon message;
  message.mutable_progress()->set_done(done);
  message.mutable_progress()->set_total(total);
  message.mutable_progress()->set_unit(unit);
  send(message);
}

void DaemonLink::prepared(const internal::v1::PreparedCheckpoint& checkpoint) {
  internal::v1::RankToDaemon message;
  *message.mutable_prepared() = checkpoint;
  send(message);
}

void DaemonLink::skipped(int64_t step, const std::string& reason) {
  internal::v1::RankToDaemon message;
  message.mutable_skipped()->set_step(step);
  message.mutable_skipped()->set_reason(reason);
  send(message);
}

bool DaemonLink::settled(int64_t step) {
  const std::lock_guard lock(mutex_);
  return step <= committed_step_ || given_up_.contains(step);
}

void DaemonLink::wait_committed(int64_t step) {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [&] { return committed_step_ >= step; });
}

void DaemonLink::finished(const internal::v1::RunFinished& result) {
  internal::v1::RankToDaemon message;
  *message.mutable_finished() = result;
  send(message);
}

void DaemonLink::failed(const internal::v1::RankFailed& failure) {
  internal::v1::RankToDaemon message;
  *message.mutable_failed() = failure;
  send(message);
}

}  // namespace qwen3::rank
