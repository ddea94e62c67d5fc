#include "worker/daemon/attempts.h"

#include <google/protobuf/util/time_util.h>
#include <signal.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <cstdlib>
#include <set>

#include "absl/strings/str_cat.h"
#include "worker/daemon/host.h"
#include "worker/daemon/rank_environment.h"

namespace qwen3::worker {
namespace {

using internal::v1::Assign;
using internal::v1::CoordinatorMessage;
using internal::v1::DaemonToRank;
using internal::v1::RankAssignment;
using internal::v1::RankToDaemon;
using internal::v1::WorkerMessage;

std::string host_port(const std::string& host, int port) {
  return host.find(':') == std::string::npos ? absl::StrCat(host, ":", port) : absl::StrCat("[", host, "]:", port);
}

WorkerMessage prepared_message(const AttemptId& id, int32_t rank, const internal::v1::PreparedCheckpoint& checkpoint) {
  WorkerMessage message;
  auto* prepared = message.mutable_prepared();
  *prepared->mutable_key() = key_of(id);
  prepared->set_rank(rank);
  *prepared->mutable_checkpoint() = checkpoint;
  return message;
}

WorkerMessage store_message(const AttemptId& id, const std::string& address) {
  WorkerMessage message;
  *message.mutable_store_ready()->mutable_key() = key_of(id);
  message.mutable_store_ready()->set_address(address);
  return message;
}

WorkerMessage exit_message(const internal::v1::RankExit& exit) {
  WorkerMessage message;
  *message.mutable_rank_exit() = exit;
  return message;
}

}  // namespace

Attempts::Attempts(const DaemonOptions& options, std::shared_ptr<EventLoop> loop, Spool& spool, Outlet outlet)
    : options_(options), loop_(std::move(loop)), spool_(spool), outlet_(std::move(outlet)) {}

void Attempts::handle(const CoordinatorMessage& message) {
  switch (message.message_case()) {
    case CoordinatorMessage::kAssign:
      return assign(message.assign());
    case CoordinatorMessage::kStoreAddress:
      return on_store_address(message.store_address());
    case CoordinatorMessage::kAbort: {
      const AttemptId id = id_of(message.abort().key());
      std::erase_if(waiting_, [&](const Assign& assign) { return id_of(assign.key()) == id; });
      if (Attempt* attempt = find(id)) {
        spdlog::info("{}: aborted: {}", to_string(id), message.abort().reason());
        kill(*attempt);
      }
      return;
    }
    case CoordinatorMessage::kControl: {
      DaemonToRank control;
      *control.mutable_control() = message.control().control();
      return tell(id_of(message.control().key()), 0, control);
    }
    case CoordinatorMessage::kPreparedAck:
      return on_prepared_ack(message.prepared_ack());
    case CoordinatorMessage::kRankExitAck:
      return on_exit_ack(message.rank_exit_ack());
    case CoordinatorMessage::kCheckpointCommitted: {
      const AttemptId id = id_of(message.checkpoint_committed().key());
      DaemonToRank committed;
      committed.set_committed_step(message.checkpoint_committed().step());
      if (Attempt* attempt = find(id)) {
        for (const auto& [rank, state] : attempt->ranks) tell(id, rank, committed);
      }
      return;
    }
    case CoordinatorMessage::kWelcome:
    case CoordinatorMessage::MESSAGE_NOT_SET:
      return;
  }
}

// ---- Starting ----

void Attempts::assign(const Assign& assign) {
  const AttemptId id = id_of(assign.key());
  if (find(id) != nullptr) return reply(id, absl::OkStatus());  // said before, the answer was lost
  const bool waits =
      std::any_of(waiting_.begin(), waiting_.end(), [&](const Assign& other) { return id_of(other.key()) == id; });
  if (waits) return;
  if (const absl::Status status = check(assign); !status.ok()) return reply(id, status);
  if (slots_are_leaving(assign)) {
    waiting_.push_back(assign);
    return;
  }
  reply(id, start_ranks(assign));
}

absl::Status Attempts::check(const Assign& assign) const {
  const AttemptId id = id_of(assign.key());
  if (assign.ranks().empty()) return absl::InvalidArgumentError(absl::StrCat(to_string(id), ": no ranks to start"));
  std::set<int32_t> slots, ranks;
  for (const auto& item : assign.ranks()) {
    if (item.slot() < 0 || item.slot() >= options_.slots) {
      return absl::InvalidArgumentError(absl::StrCat(to_string(id), ": rank ", item.rank(), " is for slot ",
                                                     item.slot(), ", but this worker has slots 0 to ",
                                                     options_.slots - 1));
    }
    if (!slots.insert(item.slot()).second || !ranks.insert(item.rank()).second) {
      return absl::InvalidArgumentError(
          absl::StrCat(to_string(id), ": rank ", item.rank(), " or slot ", item.slot(), " is named twice"));
    }
  }
  for (const auto& [other, attempt] : attempts_) {
    if (other.job == id.job && other.epoch > id.epoch) {
      return absl::FailedPreconditionError(absl::StrCat(to_string(id), ": epoch ", other.epoch, " runs here"));
    }
    for (const auto& [rank, state] : attempt.ranks) {
      if (state.process && !state.killed && slots.count(state.slot) != 0) {
        return absl::FailedPreconditionError(
            absl::StrCat(to_string(id), ": slot ", state.slot, " is held by rank ", rank, " of ", to_string(other)));
      }
    }
  }
  return absl::OkStatus();
}

bool Attempts::slots_are_leaving(const Assign& assign) const {
  for (const auto& [id, attempt] : attempts_) {
    for (const auto& [rank, state] : attempt.ranks) {
      for (const auto& item : assign.ranks()) {
        if (state.process && state.slot == item.slot()) return true;
      }
    }
  }
  return false;
}

absl::Status Attempts::start_ranks(const Assign& assign) {
  const AttemptId id = id_of(assign.key());
  Attempt& attempt = attempts_[id];
  for (const auto& item : assign.ranks()) {
    RankAssignment assignment = assign.assignment();
    assignment.set_job(id.job);
    assignment.set_attempt(id.attempt);
    assignment.set_epoch(id.epoch);
    assignment.set_rank(item.rank());
    assignment.set_slot(item.slot());
    assignment.set_advertise_address(options_.advertise_address);
    assignment.set_advertise_interface(options_.advertise_interface);
    if (const absl::Status status = start_rank(id, attempt, assignment); !status.ok()) {
      attempts_.erase(id);  // kills those that were started
      spool_.close(id);
      return status;
    }
  }
  spdlog::info("{}: {} ranks started", to_string(id), assign.ranks_size());
  return absl::OkStatus();
}

absl::Status Attempts::start_rank(const AttemptId& id, Attempt& attempt, const RankAssignment& assignment) {
  const int32_t number = assignment.rank();
  const Command command{
      .binary = options_.rank_binary,
      .arguments = {"--control-fd", "3"},
      .environment =
          rank_environment(assignment, options_, host_cores(), [](const char* name) { return getenv(name); }),
  };
  oom_.increased();  // what the kernel killed before is not this rank
  auto process =
      RankProcess::start(command, {.on_message =
                                       [this, id, number](RankToDaemon message) {
                                         loop_->post([this, id, number, message = std::move(message)]() mutable {
                                           on_rank_message(id, number, std::move(message));
                                         });
                                       },
                                   .on_output =
                                       [this, id, number](std::vector<LogLine> lines) {
                                         loop_->post([this, id, number, lines = std::move(lines)]() mutable {
                                           on_rank_output(id, number, std::move(lines));
                                         });
                                       },
                                   .on_exit =
                                       [this, id, number](ExitStatus status) {
                                         loop_->post([this, id, number, status] { on_rank_exit(id, number, status); });
                                       }});
  if (!process.ok()) return process.status();
  Rank& rank = attempt.ranks[number];
  rank.slot = assignment.slot();
  rank.process = *std::move(process);
  *rank.exit.mutable_key() = key_of(id);
  rank.exit.set_rank(number);
  DaemonToRank message;
  *message.mutable_assignment() = assignment;
  tell(id, number, message);
  return absl::OkStatus();
}

void Attempts::start_waiting() {
  for (Assign& assign : std::exchange(waiting_, {})) this->assign(assign);
}

void Attempts::reply(const AttemptId& id, const absl::Status& status) {
  if (!status.ok()) spdlog::warn("assignment refused: {}", std::string(status.message()));
  WorkerMessage message;
  auto* answer = message.mutable_assign_reply();
  *answer->mutable_key() = key_of(id);
  answer->set_accepted(status.ok());
  answer->set_message(std::string(status.message()));
  outlet_.send(std::move(message));
}

// ---- What ranks say ----

void Attempts::on_rank_message(const AttemptId& id, int32_t rank, RankToDaemon message) {
  Attempt* attempt = find(id);
  if (attempt == nullptr || attempt->stale) return;
  Rank& state = attempt->ranks.at(rank);
  switch (message.message_case()) {
    case RankToDaemon::kStorePort:
      return on_store_port(id, *attempt, message.store_port());
    case RankToDaemon::kStepDone:
      return on_step(id, *attempt, rank, std::move(*message.mutable_step_done()));
    case RankToDaemon::kPrepared: {
      auto& prepared = state.prepared[message.prepared().step()] = std::move(*message.mutable_prepared());
      outlet_.send(prepared_message(id, rank, prepared));
      return;
    }
    case RankToDaemon::kSkipped: {
      WorkerMessage skipped;
      *skipped.mutable_checkpoint_skipped()->mutable_key() = key_of(id);
      skipped.mutable_checkpoint_skipped()->set_step(message.skipped().step());
      skipped.mutable_checkpoint_skipped()->set_reason(message.skipped().reason());
      if (!outlet_.send(skipped)) attempt->unsent_skips.push_back(skipped.checkpoint_skipped());
      return;
    }
    case RankToDaemon::kFinished:
      state.exit.set_finished(true);
      *state.exit.mutable_result() = std::move(*message.mutable_finished());
      return on_last_word(id, rank);
    case RankToDaemon::kFailed:
      *state.exit.mutable_failure() = std::move(*message.mutable_failed()->mutable_failure());
      state.exit.set_peer_lost(message.failed().peer_lost());
      return on_last_word(id, rank);
    case RankToDaemon::kPhase:
      state.phase = message.phase();
      spdlog::debug("{}: rank {}: {}", to_string(id), rank, state.phase);
      return;
    case RankToDaemon::MESSAGE_NOT_SET:
      return;
  }
}

void Attempts::on_store_port(const AttemptId& id, Attempt& attempt, int port) {
  attempt.store = host_port(options_.advertise_address, port);
  outlet_.send(store_message(id, attempt.store));
}

void Attempts::on_step(const AttemptId& id, Attempt& attempt, int32_t rank, internal::v1::StepDone step) {
  Rank& state = attempt.ranks.at(rank);
  state.step = std::max(state.step, step.step());
  if (!attempt.first_step) {
    WorkerMessage message;
    auto* first = message.mutable_first_step();
    *first->mutable_key() = key_of(id);
    first->set_rank(rank);
    first->set_step(step.step());
    attempt.first_step = *first;
    outlet_.send(std::move(message));
  }
  if (!step.has_report()) return;
  v1::MetricRecord record;
  record.set_rank(rank);
  *record.mutable_time() = google::protobuf::util::TimeUtil::GetCurrentTime();
  *record.mutable_report() = std::move(*step.mutable_report());
  spool_.add(id, std::move(record));
  outlet_.records_added();
}

// A rank that is done ends by itself. One that hangs on the way out, in a driver say, would hold its slot for ever.
void Attempts::on_last_word(const AttemptId& id, int32_t rank) {
  attempts_.at(id).ranks.at(rank).said_last_word = true;
  loop_->after(options_.exit_grace, [this, id, rank] {
    Attempt* attempt = find(id);
    if (attempt == nullptr) return;
    Rank& state = attempt->ranks.at(rank);
    if (!state.process || state.killed) return;
    spdlog::warn("{}: rank {} said its last word {} ms ago and still runs: killed", to_string(id), rank,
                 options_.exit_grace.count());
    state.killed = true;
    state.process->kill();
  });
}

void Attempts::on_rank_output(const AttemptId& id, int32_t rank, std::vector<LogLine> lines) {
  if (find(id) == nullptr) return;
  const auto now = google::protobuf::util::TimeUtil::GetCurrentTime();
  for (LogLine& line : lines) {
    v1::LogRecord record;
    record.set_rank(rank);
    *record.mutable_time() = now;
    record.set_line(std::move(line.line));
    record.set_is_stderr(line.is_stderr);
    record.set_dropped(line.dropped);
    spool_.add(id, std::move(record));
  }
  outlet_.records_added();
}

void Attempts::on_rank_exit(const AttemptId& id, int32_t rank, ExitStatus status) {
  Attempt* attempt = find(id);
  if (attempt == nullptr) return;
  Rank& state = attempt->ranks.at(rank);
  state.process.reset();  // reaps it
  const bool out_of_memory = oom_.increased();
  state.exit.set_exit_code(status.exit_code);
  state.exit.set_signal(status.signal);
  state.exit.set_oom_killed(out_of_memory && status.signal == SIGKILL && !state.killed);
  if (status.signal != 0) {
    spdlog::info("{}: rank {} ended by signal {} at step {}", to_string(id), rank, status.signal, state.step);
  } else {
    spdlog::info("{}: rank {} exited {} at step {}", to_string(id), rank, status.exit_code, state.step);
  }
  if (!attempt->stale) outlet_.send(exit_message(state.exit));
  forget_if_over(id);
  start_waiting();
  outlet_.changed();
}

// ---- What the coordinator says ----

void Attempts::on_store_address(const internal::v1::StoreAddress& message) {
  const AttemptId id = id_of(message.key());
  Attempt* attempt = find(id);
  if (attempt == nullptr || attempt->told_store == message.address()) return;
  attempt->told_store = message.address();
  DaemonToRank store;
  store.set_store_address(message.address());
  for (const auto& [rank, state] : attempt->ranks) {
    if (rank != 0) tell(id, rank, store);
  }
}

void Attempts::on_prepared_ack(const internal::v1::PreparedAck& ack) {
  const AttemptId id = id_of(ack.key());
  Attempt* attempt = find(id);
  if (attempt == nullptr) return;
  const auto rank = attempt->ranks.find(ack.rank());
  if (rank == attempt->ranks.end() || rank->second.prepared.erase(ack.step()) == 0) return;
  DaemonToRank message;
  message.set_prepared_ack_step(ack.step());
  tell(id, ack.rank(), message);
}

void Attempts::on_exit_ack(const internal::v1::RankExitAck& ack) {
  const AttemptId id = id_of(ack.key());
  Attempt* attempt = find(id);
  if (attempt == nullptr) return;
  const auto rank = attempt->ranks.find(ack.rank());
  if (rank == attempt->ranks.end() || rank->second.process) return;
  rank->second.exit_acknowledged = true;
  forget_if_over(id);
  outlet_.changed();
}

void Attempts::drop_stale(const google::protobuf::RepeatedPtrField<internal::v1::AttemptKey>& stale) {
  for (const internal::v1::AttemptKey& key : stale) {
    const AttemptId id = id_of(key);
    Attempt* attempt = find(id);
    if (attempt == nullptr) continue;
    spdlog::warn("{}: no longer current, its ranks are killed", to_string(id));
    attempt->stale = true;
    kill(*attempt);
    forget_if_over(id);
  }
}

void Attempts::say_again() {
  for (auto& [id, attempt] : attempts_) {
    if (attempt.stale) continue;
    if (attempt.first_step) {
      WorkerMessage message;
      *message.mutable_first_step() = *attempt.first_step;
      outlet_.send(std::move(message));
    } else {
      reply(id, absl::OkStatus());
      if (!attempt.store.empty()) outlet_.send(store_message(id, attempt.store));
    }
    for (const auto& [rank, state] : attempt.ranks) {
      for (const auto& [step, checkpoint] : state.prepared) outlet_.send(prepared_message(id, rank, checkpoint));
    }
    for (const auto& skip : std::exchange(attempt.unsent_skips, {})) {
      WorkerMessage message;
      *message.mutable_checkpoint_skipped() = skip;
      outlet_.send(std::move(message));
    }
    for (const auto& [rank, state] : attempt.ranks) {
      if (!state.process && !state.exit_acknowledged) outlet_.send(exit_message(state.exit));
    }
  }
}

// ---- State ----

std::vector<internal::v1::RunningAttempt> Attempts::running() const {
  std::vector<internal::v1::RunningAttempt> result;
  for (const auto& [id, attempt] : attempts_) {
    internal::v1::RunningAttempt running;
    *running.mutable_key() = key_of(id);
    for (const auto& [rank, state] : attempt.ranks) running.add_ranks(rank);
    result.push_back(std::move(running));
  }
  return result;
}

std::vector<internal::v1::AttemptProgress> Attempts::progress() const {
  std::vector<internal::v1::AttemptProgress> result;
  for (const auto& [id, attempt] : attempts_) {
    internal::v1::AttemptProgress progress;
    *progress.mutable_key() = key_of(id);
    const auto lowest = std::min_element(attempt.ranks.begin(), attempt.ranks.end(),
                                         [](const auto& a, const auto& b) { return a.second.step < b.second.step; });
    progress.set_step(lowest->second.step);
    result.push_back(std::move(progress));
  }
  return result;
}

bool Attempts::any_alive() const {
  for (const auto& [id, attempt] : attempts_) {
    for (const auto& [rank, state] : attempt.ranks) {
      if (state.process) return true;
    }
  }
  return false;
}

bool Attempts::any_unacknowledged() const { return !attempts_.empty(); }

void Attempts::kill_all() {
  waiting_.clear();
  for (auto& [id, attempt] : attempts_) kill(attempt);
}

void Attempts::kill(Attempt& attempt) {
  for (auto& [rank, state] : attempt.ranks) {
    if (!state.process) continue;
    state.killed = true;
    state.process->kill();
  }
}

Attempts::Attempt* Attempts::find(const AttemptId& id) {
  const auto it = attempts_.find(id);
  return it == attempts_.end() ? nullptr : &it->second;
}

// A rank that is gone or does not listen is no error here: its exit says it.
void Attempts::tell(const AttemptId& id, int32_t rank, const DaemonToRank& message) {
  Attempt* attempt = find(id);
  if (attempt == nullptr) return;
  const auto it = attempt->ranks.find(rank);
  if (it == attempt->ranks.end() || !it->second.process) return;
  const absl::Status status = it->second.process->send(message);
  if (absl::IsDeadlineExceeded(status)) {
    spdlog::error("{}: rank {} does not read its control socket: killed", to_string(id), rank);
    it->second.process->kill();
  }
}

// All ranks are reaped, and the coordinator knows or does not care. What they prepared it has seen before their exits.
void Attempts::forget_if_over(const AttemptId& id) {
  const Attempt& attempt = attempts_.at(id);
  const bool reaped = std::none_of(attempt.ranks.begin(), attempt.ranks.end(),
                                   [](const auto& entry) { return entry.second.process != nullptr; });
  if (reaped) spool_.close(id);
  const bool known = attempt.stale || std::all_of(attempt.ranks.begin(), attempt.ranks.end(),
                                                  [](const auto& entry) { return entry.second.exit_acknowledged; });
  if (reaped && known) attempts_.erase(id);
}

}  // namespace qwen3::worker
