// Controller: the daemons' side. Who is admitted, what a reconnect means, and what each message does.
#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "coordinator/controller.h"
#include "coordinator/names.h"

namespace qwen3::coordinator {

using internal::v1::AttemptKey;
using internal::v1::CoordinatorMessage;
using internal::v1::Hello;
using internal::v1::WorkerMessage;

namespace {

absl::Status check_hello(const Hello& hello) {
  if (!is_worker_id(hello.worker())) {
    return absl::InvalidArgumentError(
        absl::StrCat("worker id \"", hello.worker(), "\" is not 1-63 characters of [a-z0-9-]"));
  }
  if (hello.slots() < 1 || hello.slots() > 1024) {
    return absl::InvalidArgumentError(
        absl::StrCat("worker ", hello.worker(), " offers ", hello.slots(), " slots; it must offer 1 to 1024"));
  }
  if (hello.incarnation().empty() || hello.device_kind().empty() || hello.advertise_address().empty()) {
    return absl::InvalidArgumentError(absl::StrCat(
        "worker ", hello.worker(), ": Hello needs an incarnation, a device_kind and an advertise_address"));
  }
  return absl::OkStatus();
}

}  // namespace

void Controller::on_message(int64_t session, const WorkerMessage& message, absl::Time now) {
  now_ = now;
  if (message.has_hello()) {
    on_hello(session, message.hello(), now);
    return;
  }
  const auto known = sessions_.find(session);
  if (known == sessions_.end()) {
    effects_.close(session,
                   absl::FailedPreconditionError(
                       "the first messages of a session are Hello and, with the probe's content, Hello again"));
    return;
  }
  const std::string worker = known->second;
  leases_.heard(worker, now);
  switch (message.message_case()) {
    case WorkerMessage::kBeat:
      on_beat(worker, message.beat(), now);
      break;
    case WorkerMessage::kAssignReply: {
      const internal::v1::AssignReply& reply = message.assign_reply();
      JobRun* job = current(worker, reply.key());
      if (job == nullptr) {
        if (reply.accepted()) refuse_stale(worker, reply.key(), "AssignReply");
      } else if (reply.accepted()) {
        mark_accepted(*job, worker, now);
      } else {
        on_declined(*job, worker, reply.message(), now);
      }
      break;
    }
    case WorkerMessage::kStoreReady:
      if (JobRun* job = current(worker, message.store_ready().key())) on_store_ready(message.store_ready(), *job, now);
      break;
    case WorkerMessage::kFirstStep:
      if (JobRun* job = current(worker, message.first_step().key()))
        mark_stepping(*job, message.first_step().step(), now);
      break;
    case WorkerMessage::kPrepared:
      if (JobRun* job = current(worker, message.prepared().key())) {
        if (places_rank(*job, worker, message.prepared().rank())) on_prepared(*job, worker, message.prepared(), now);
      } else {
        refuse_stale(worker, message.prepared().key(), "Prepared");
      }
      break;
    case WorkerMessage::kRankExit:
      on_exit(worker, message.rank_exit(), now);
      break;
    case WorkerMessage::kCheckpointSkipped:
      if (JobRun* job = current(worker, message.checkpoint_skipped().key())) {
        std::vector<Draft> drafts;
        note(*job, "CHECKPOINT_SKIPPED",
             absl::StrCat("step ", message.checkpoint_skipped().step(), ": ", message.checkpoint_skipped().reason()),
             drafts);
        save(*job, std::move(drafts), now);
      }
      break;
    default:
      break;  // a newer daemon's message: nothing we know to do
  }
}

void Controller::on_closed(int64_t session, absl::Time now) {
  now_ = now;
  const auto known = sessions_.find(session);
  if (known == sessions_.end()) return;
  WorkerRun& worker = workers_.at(known->second);
  if (worker.session == session) {
    worker.session = 0;
    leases_.disconnected(known->second, now);
  }
  sessions_.erase(known);
}

void Controller::on_hello(int64_t session, const Hello& hello, absl::Time now) {
  if (const absl::Status status = check_hello(hello); !status.ok()) {
    effects_.close(session, status);
    return;
  }
  const std::string& id = hello.worker();
  const auto known = workers_.find(id);
  if (known != workers_.end() && known->second.session != 0 && known->second.session != session) {
    if (known->second.hello.incarnation() != hello.incarnation()) {
      effects_.close(session, absl::UnavailableError(absl::StrCat(
                                  "worker id \"", id, "\" is in use by another daemon (",
                                  known->second.hello.incarnation(), "); it is free once that one's session ends")));
      return;
    }
    effects_.close(known->second.session, absl::AbortedError("this daemon opened a newer session"));
    sessions_.erase(known->second.session);
    known->second.session = 0;
  }
  CoordinatorMessage message;
  internal::v1::Welcome& welcome = *message.mutable_welcome();
  welcome.set_lease_ms(absl::ToInt64Milliseconds(options_.leases.lease));
  welcome.set_checkpoint_root(options_.checkpoint_root);
  if (hello.checkpoint_root_probe().empty()) {
    welcome.set_probe_file(options_.probe_file);
    effects_.send(session, message);
    return;
  }
  if (hello.checkpoint_root_probe() != options_.probe_content) {
    effects_.close(session,
                   absl::FailedPreconditionError(absl::StrCat(
                       "worker ", id, " does not see the coordinator's checkpoint root: ", options_.probe_file,
                       " holds other content there; both must mount one file system at ", options_.checkpoint_root)));
    return;
  }
  leases_.heard(id, now);
  WorkerRun& worker = workers_[id];
  if (worker.hello.incarnation() != hello.incarnation()) worker = {};  // a new daemon has no faults yet
  worker.hello = hello;
  worker.session = session;
  worker.lost = false;
  worker.connect_time = now;
  sessions_[session] = id;
  for (const internal::v1::RunningAttempt& running : hello.running()) {
    if (current(id, running.key()) == nullptr) *welcome.add_stale() = running.key();
  }
  effects_.send(session, message);
  reattach(id, hello, now);
  schedule(now);
}

// What the daemon still runs goes on; what it should run and does not is assigned again if it may never have got the
// assignment, and lost otherwise.
void Controller::reattach(const std::string& worker, const Hello& hello, absl::Time now) {
  std::vector<std::string> names;
  for (const auto& [number, job] : jobs_) {
    if (job.attempt && job.attempt->parts.contains(worker)) names.push_back(job.stored.job().name());
  }
  for (const std::string& name : names) {
    JobRun* job = find(name);
    if (job == nullptr || !job->attempt || job->attempt->lost_workers.contains(worker)) continue;
    AttemptRun& attempt = *job->attempt;
    const AttemptKey key = key_of(attempt.stored);
    const bool running = std::ranges::any_of(hello.running(), [&](const internal::v1::RunningAttempt& other) {
      return other.key().job() == key.job() && other.key().attempt() == key.attempt() &&
             other.key().epoch() == key.epoch();
    });
    const bool stopping = job->stored.job().state() == v1::JOB_STATE_STOPPING;
    if (!running) {
      if (attempt.accepted.contains(worker) || attempt.aborted || stopping) {
        lose_worker_of(*job, worker, "its daemon started anew without the ranks", now);
      } else {
        assign(*job, worker);
      }
      continue;
    }
    if (stopping && !attempt.aborted && attempt.abort_at == absl::InfiniteFuture()) continue;  // stop_ranks comes
    if (attempt.aborted || (stopping && job->stored.has_task())) {
      CoordinatorMessage message;
      *message.mutable_abort()->mutable_key() = key;
      message.mutable_abort()->set_reason("the attempt ends");
      send_to(worker, message);
      continue;
    }
    // Its ranks may wait for this; the part that would make us say it again may be acknowledged already.
    if (job->stored.committed_step() > attempt.stored.attempt().restored_step()) {
      tell_committed(worker, key, job->stored.committed_step());
    }
    if (stopping) {
      send_to(worker, stop_of(attempt.stored));
      continue;
    }
    tell_traces_again(worker, attempt.stored);
    mark_accepted(*job, worker, now);
  }
}

void Controller::on_beat(const std::string& worker, const internal::v1::Beat& beat, absl::Time now) {
  CoordinatorMessage ack;
  ack.mutable_beat_ack();
  send_to(worker, ack);
  for (const internal::v1::AttemptProgress& progress : beat.progress()) {
    JobRun* job = current(worker, progress.key());
    if (job == nullptr) continue;
    if (job->stored.has_task()) {
      if (progress.has_task()) mark_task_progress(*job, progress.task(), now);
    } else {
      mark_stepping(*job, progress.step(), now);
    }
  }
}

// `worker` has started none of its ranks. That is no fault of the job's: the worker rests, and the attempt does not
// count.
void Controller::on_declined(JobRun& job, const std::string& worker, const std::string& error, absl::Time now) {
  AttemptRun& attempt = *job.attempt;
  const std::string message = absl::StrCat(worker_name(worker), " did not take its ranks: ", error);
  attempt.lost_workers.insert(worker);  // it has no rank of the attempt
  blame(worker, /*declined=*/true, message, now);
  if (!attempt.failure && !attempt.aborted) {
    attempt.declined = true;
    v1::Failure& failure = attempt.failure.emplace();
    failure.set_class_(v1::FAILURE_CLASS_INFRA);
    failure.set_reason("ASSIGN_DECLINED");
    failure.set_rank(-1);
    failure.set_worker(worker_name(worker));
    failure.set_message(message);
    begin_failure(job, /*cause_known=*/true, now);
  }
  end_if_over(job, now);
}

void Controller::on_exit(const std::string& worker, const internal::v1::RankExit& exit, absl::Time now) {
  JobRun* job = current(worker, exit.key());
  if (job == nullptr) {  // an attempt that is over: nothing depends on it any more
    CoordinatorMessage message;
    *message.mutable_rank_exit_ack()->mutable_key() = exit.key();
    message.mutable_rank_exit_ack()->set_rank(exit.rank());
    send_to(worker, message);
    return;
  }
  if (!places_rank(*job, worker, exit.rank())) return;
  AttemptRun& attempt = *job->attempt;
  if (!attempt.exits.emplace(exit.rank(), exit).second) return;  // sent again; acknowledged when the attempt ends
  if (!exit.finished()) {
    attempt.evidence.push_back({.exit = exit, .worker = worker_name(worker)});
    if (job->stored.job().state() != v1::JOB_STATE_STOPPING)
      begin_failure(*job, is_cause(attempt.evidence.back()), now);
  }
  end_if_over(*job, now);
}

void Controller::on_store_ready(const internal::v1::StoreReady& ready, JobRun& job, absl::Time now) {
  if (job.stored.job().state() == v1::JOB_STATE_RUNNING) return;  // sent again after a reconnect
  job.attempt->stored.set_store_address(ready.address());
  save(job, {}, now, [this, key = ready.key()] {
    const JobRun* job = living(key);
    if (job != nullptr) send_to_all(*job->attempt, store_address_of(job->attempt->stored));
  });
}

// The job whose living attempt `key` is; null: it is over.
Controller::JobRun* Controller::living(const AttemptKey& key) {
  JobRun* job = find(key.job());
  if (job == nullptr || !job->attempt) return nullptr;
  const v1::Attempt& attempt = job->attempt->stored.attempt();
  return attempt.number() == key.attempt() && attempt.epoch() == key.epoch() ? job : nullptr;
}

// The same if it has ranks on `worker`; null: stale, and refused.
Controller::JobRun* Controller::current(const std::string& worker, const AttemptKey& key) {
  JobRun* job = living(key);
  if (job == nullptr) return nullptr;
  return job->attempt->parts.contains(worker) && !job->attempt->lost_workers.contains(worker) ? job : nullptr;
}

// Whether `rank` of the living attempt is on `worker`. A daemon that speaks for a rank of another one is cut off.
bool Controller::places_rank(const JobRun& job, const std::string& worker, int32_t rank) {
  for (const internal::v1::RankSlot& slot : job.attempt->parts.at(worker)) {
    if (slot.rank() == rank) return true;
  }
  effects_.close(workers_.at(worker).session,
                 absl::InvalidArgumentError(absl::StrCat(worker_name(worker), " spoke for rank ", rank, " of ",
                                                         job.stored.job().name(), ", which it does not have")));
  return false;
}

void Controller::refuse_stale(const std::string& worker, const AttemptKey& key, const std::string& what) {
  CoordinatorMessage message;
  *message.mutable_abort()->mutable_key() = key;
  message.mutable_abort()->set_reason(
      absl::StrCat(what, " refused: epoch ", key.epoch(), " of attempt ", key.attempt(), " is over"));
  send_to(worker, message);
}

void Controller::send_to(const std::string& worker, const CoordinatorMessage& message) {
  const auto known = workers_.find(worker);
  if (known != workers_.end() && known->second.session != 0) effects_.send(known->second.session, message);
}

void Controller::send_to_all(const AttemptRun& attempt, const CoordinatorMessage& message) {
  for (const auto& [worker, slots] : attempt.parts) {
    if (!attempt.lost_workers.contains(worker)) send_to(worker, message);
  }
}

std::vector<v1::Worker> Controller::workers() const {
  const auto used = used_slots();
  std::vector<v1::Worker> all;
  for (const auto& [id, worker] : workers_) {
    v1::Worker& wire = all.emplace_back();
    wire.set_name(worker_name(id));
    wire.set_device_kind(worker.hello.device_kind());
    wire.set_build_id(worker.hello.build_id());
    wire.set_advertise_address(worker.hello.advertise_address());
    wire.set_cores(worker.hello.cores());
    wire.set_memory_bytes(worker.hello.memory_bytes());
    *wire.mutable_connect_time() = to_timestamp(worker.connect_time);
    bool any_free = false;
    for (int32_t index = 0; index < worker.hello.slots(); ++index) {
      v1::Slot& slot = *wire.add_slots();
      slot.set_index(index);
      if (const auto holder = used.find({id, index}); holder != used.end()) {
        slot.set_job(holder->second.first);
        slot.set_rank(holder->second.second);
      } else {
        any_free = true;
      }
    }
    wire.set_state(worker.lost ? v1::WORKER_STATE_LOST : any_free ? v1::WORKER_STATE_READY : v1::WORKER_STATE_BUSY);
  }
  return all;
}

bool computes_bfloat16(const internal::v1::Hello& hello) {
  return hello.fast_bfloat16() || hello.device_kind() != "cpu";
}

bool Controller::all_workers_have_fast_bfloat16() const {
  bool any = false;
  for (const auto& [id, worker] : workers_) {
    if (worker.session == 0) continue;
    if (!computes_bfloat16(worker.hello)) return false;
    any = true;
  }
  return any;
}

}  // namespace qwen3::coordinator
