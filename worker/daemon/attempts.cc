#include "worker/daemon/attempts.h"

#include <google/protobuf/util/time_util.h>
#include <signal.h>
#include <spdlog/spdlog.h>

#include <algorithm>

#include "absl/strings/str_cat.h"

namespace qwen3::worker {
namespace {

using internal::v1::CoordinatorMessage;
using internal::v1::DaemonToRank;
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
      std::erase_if(waiting_, [&](const internal::v1::Assign& assign) { return id_of(assign.key()) == id; });
      if (Attempt* attempt = find(id)) {
        spdlog::info("{}: aborted: {}", to_string(id), message.abort().reason());
        abort(*attempt);
        for (auto& [rank, state] : attempt->ranks) state.prepared.clear();
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
    case CoordinatorMessage::kBeatAck:
    case CoordinatorMessage::kWelcome:
    case CoordinatorMessage::MESSAGE_NOT_SET:
      return;
  }
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
    case RankToDaemon::kProgress:
      attempt->task = std::move(*message.mutable_progress());  // the next beat tells it
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
  if (status.signal != SIGKILL) state.exit.set_aborted(false);  // it ended by itself, a moment before
  state.exit.set_oom_killed(out_of_memory && status.signal == SIGKILL && !state.killed);
  if (status.signal != 0) {
    spdlog::info("{}: rank {} ended by signal {} at step {}", to_string(id), rank, status.signal, state.step);
  } else {
    spdlog::info("{}: rank {} exited {} at step {}", to_string(id), rank, status.exit_code, state.step);
  }
  if (!attempt->stale) report_exit(id, rank);
  forget_if_over(id);
  start_waiting();
  outlet_.changed();
}

// A watcher of the job is to miss nothing of a rank whose end he is told.
void Attempts::report_exit(const AttemptId& id, int32_t rank) {
  Rank& state = find(id)->ranks.at(rank);
  if (!spool_.holds(id, rank)) return send_exit(state);
  state.exit_waits = true;
  loop_->after(options_.exit_record_wait, [this, id, rank] {
    Attempt* attempt = find(id);
    if (attempt != nullptr && attempt->ranks.at(rank).exit_waits) send_exit(attempt->ranks.at(rank));
  });
}

void Attempts::send_exit(Rank& rank) {
  rank.exit_waits = false;
  WorkerMessage message;
  *message.mutable_rank_exit() = rank.exit;
  outlet_.send(std::move(message));
}

void Attempts::records_taken() {
  for (auto& [id, attempt] : attempts_) {
    for (auto& [rank, state] : attempt.ranks) {
      if (state.exit_waits && !spool_.holds(id, rank)) send_exit(state);
    }
  }
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
    abort(*attempt);
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
    }
    if (!attempt.store.empty()) outlet_.send(store_message(id, attempt.store));
    for (const auto& [rank, state] : attempt.ranks) {
      for (const auto& [step, checkpoint] : state.prepared) outlet_.send(prepared_message(id, rank, checkpoint));
    }
    for (const auto& skip : std::exchange(attempt.unsent_skips, {})) {
      WorkerMessage message;
      *message.mutable_checkpoint_skipped() = skip;
      outlet_.send(std::move(message));
    }
    for (const auto& [rank, state] : attempt.ranks) {
      if (!state.process && !state.exit_acknowledged) report_exit(id, rank);
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
    if (attempt.task) *progress.mutable_task() = *attempt.task;
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
  for (auto& [id, attempt] : attempts_) abort(attempt);
}

void Attempts::abort(Attempt& attempt) {
  for (auto& [rank, state] : attempt.ranks) {
    if (!state.process) continue;
    state.killed = true;
    state.exit.set_aborted(true);
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
    it->second.killed = true;
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
