// Controller: starting attempts, and how they end.
#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "coordinator/controller.h"
#include "coordinator/names.h"
#include "coordinator/retry_budget.h"

namespace qwen3::coordinator {

using internal::v1::CoordinatorMessage;

CoordinatorMessage store_address_of(const internal::v1::StoredAttempt& attempt) {
  CoordinatorMessage message;
  *message.mutable_store_address()->mutable_key() = key_of(attempt);
  message.mutable_store_address()->set_address(attempt.store_address());
  return message;
}

CoordinatorMessage stop_of(const internal::v1::StoredAttempt& attempt) {
  CoordinatorMessage message;
  *message.mutable_control()->mutable_key() = key_of(attempt);
  message.mutable_control()->mutable_control()->set_word(internal::v1::RANK_WORD_STOP);
  return message;
}

int64_t Controller::world_size(const JobRun& job) const { return job.stored.job().plan().world_size(); }

void Controller::start_attempt(JobRun& job, const std::vector<Place>& places, absl::Time now) {
  v1::Job& record = *job.stored.mutable_job();
  if (job.stored.has_task()) job.stored.mutable_task()->clear_progress();
  record.set_attempt_count(record.attempt_count() + 1);
  record.set_epoch(record.epoch() + 1);
  AttemptRun& attempt = job.attempt.emplace();
  attempt.assign_deadline = now + options_.assign_window;
  attempt.stored.set_job(record.name());
  v1::Attempt& wire = *attempt.stored.mutable_attempt();
  wire.set_name(attempt_name(record.name(), record.attempt_count()));
  wire.set_number(record.attempt_count());
  wire.set_epoch(record.epoch());
  wire.set_restored_step(job.stored.committed_step());
  wire.set_last_step(job.stored.committed_step());
  *wire.mutable_start_time() = to_timestamp(now);
  record.mutable_plan()->clear_placement();
  for (size_t rank = 0; rank < places.size(); ++rank) {
    v1::RankPlacement placement;
    placement.set_rank(static_cast<int32_t>(rank));
    placement.set_worker(worker_name(places[rank].worker));
    placement.set_slot(places[rank].slot);
    *wire.add_placement() = placement;
    *record.mutable_plan()->add_placement() = placement;
    internal::v1::RankSlot& slot = attempt.parts[places[rank].worker].emplace_back();
    slot.set_rank(static_cast<int32_t>(rank));
    slot.set_slot(places[rank].slot);
  }
  std::vector<Draft> drafts;
  const std::string where = job.stored.task().has_conversion()
                                ? worker_name(places.front().worker)
                                : absl::StrCat(places.size(), places.size() == 1 ? " slot" : " slots");
  const std::string message =
      absl::StrCat("attempt ", record.attempt_count(), " on ", where, ", from ",
                   job.stored.committed_step() > 0 ? absl::StrCat("step ", job.stored.committed_step())
                                                   : std::string("the beginning"));
  if (record.state() == v1::JOB_STATE_QUEUED) move(job, v1::JOB_STATE_SCHEDULED, message, drafts);
  note(job, "ATTEMPT_STARTED", message, drafts);
  if (record.attempt_count() == 1) {
    effects_.on_queue_wait(now - absl::FromUnixSeconds(record.create_time().seconds()) -
                           absl::Nanoseconds(record.create_time().nanos()));
  }
  save(job, std::move(drafts), now, [this, key = key_of(attempt.stored)] {
    const JobRun* job = living(key);
    if (job == nullptr || job->attempt->aborted) return;
    for (const auto& [worker, slots] : job->attempt->parts) assign(*job, worker);
  });
}

// What "auto" precision is on the workers of the attempt.
std::string Controller::auto_precision(const JobRun& job) const {
  if (job.stored.job().spec().debug().ordered()) return "float32";
  for (const auto& [worker, slots] : job.attempt->parts) {
    const auto known = workers_.find(worker);
    if (known == workers_.end() || !computes_bfloat16(known->second.hello)) return "float32";
  }
  return "bfloat16";
}

void Controller::assign(const JobRun& job, const std::string& worker) {
  const AttemptRun& attempt = *job.attempt;
  CoordinatorMessage message;
  internal::v1::Assign& assign = *message.mutable_assign();
  *assign.mutable_key() = key_of(attempt.stored);
  for (const internal::v1::RankSlot& slot : attempt.parts.at(worker)) *assign.add_ranks() = slot;
  internal::v1::RankAssignment& rank = *assign.mutable_assignment();
  rank.set_job(job.stored.job().name());
  rank.set_attempt(attempt.stored.attempt().number());
  rank.set_epoch(attempt.stored.attempt().epoch());
  rank.set_world_size(static_cast<int32_t>(world_size(job)));
  *rank.mutable_spec() = job.stored.job().spec();
  if (rank.spec().training().mixed_precision_param() == "auto") {  // one answer for all ranks, whatever their hosts
    rank.mutable_spec()->mutable_training()->set_mixed_precision_param(auto_precision(job));
  }
  rank.set_checkpoint_folder(job.stored.checkpoint_folder());
  if (attempt.stored.attempt().restored_step() > 0) {
    rank.set_restore_folder(job.stored.committed_folder());
    rank.set_restore_step(attempt.stored.attempt().restored_step());
  }
  rank.set_initial_load_folder(job.stored.initial_load_folder());
  if (job.stored.has_task()) fill_task(job, rank);
  if (const auto known = workers_.find(worker); known != workers_.end()) {
    rank.set_advertise_address(known->second.hello.advertise_address());
  }
  send_to(worker, message);
}

void Controller::mark_accepted(JobRun& job, const std::string& worker, absl::Time now) {
  AttemptRun& attempt = *job.attempt;
  attempt.accepted.insert(worker);
  // Before it had ranks there was nobody to tell it.
  if (!attempt.stored.store_address().empty()) send_to(worker, store_address_of(attempt.stored));
  const v1::JobState state = job.stored.job().state();
  if (attempt.accepted.size() < attempt.parts.size()) return;
  attempt.assign_deadline = absl::InfiniteFuture();
  if (state != v1::JOB_STATE_SCHEDULED && state != v1::JOB_STATE_RECOVERING) return;
  std::vector<Draft> drafts;
  move(job, v1::JOB_STATE_STARTING, "ranks are starting", drafts);
  save(job, std::move(drafts), now);
}

// The attempt has done an optimizer step.
void Controller::mark_stepping(JobRun& job, int64_t step, absl::Time now) {
  AttemptRun& attempt = *job.attempt;
  v1::Attempt& wire = *attempt.stored.mutable_attempt();
  wire.set_last_step(std::max(wire.last_step(), step));
  if (step > wire.restored_step()) mark_working(job, absl::StrCat("training since step ", step), now);
}

// The ranks do what they are for; their workers are proven.
void Controller::mark_working(JobRun& job, const std::string& what, absl::Time now) {
  AttemptRun& attempt = *job.attempt;
  v1::Job& record = *job.stored.mutable_job();
  std::vector<Draft> drafts;
  if (record.state() == v1::JOB_STATE_SCHEDULED || record.state() == v1::JOB_STATE_RECOVERING) {
    for (const auto& [worker, slots] : attempt.parts) attempt.accepted.insert(worker);  // or they could not work
    attempt.assign_deadline = absl::InfiniteFuture();
    move(job, v1::JOB_STATE_STARTING, "ranks are starting", drafts);
  }
  if (record.state() != v1::JOB_STATE_STARTING) return;
  move(job, v1::JOB_STATE_RUNNING, what, drafts);
  record.clear_failure();
  job.doubted_step = 0;
  if (!record.has_start_time()) *record.mutable_start_time() = to_timestamp(now);
  for (const auto& [worker, slots] : attempt.parts) {
    if (const auto known = workers_.find(worker); known != workers_.end()) known->second.faults = 0;
  }
  save(job, std::move(drafts), now);
}

// The ranks of `worker` are gone with it.
void Controller::lose_worker_of(JobRun& job, const std::string& worker, const std::string& how, absl::Time now) {
  AttemptRun& attempt = *job.attempt;
  if (!attempt.lost_workers.insert(worker).second) return;
  bool had_ranks = false;  // whose exits are not known
  for (const internal::v1::RankSlot& slot : attempt.parts.at(worker)) had_ranks |= !attempt.exits.contains(slot.rank());
  std::vector<Draft> drafts;
  note(job, "WORKER_LOST", absl::StrCat(worker_name(worker), ": ", how), drafts);
  save(job, std::move(drafts), now);
  if (had_ranks) {
    attempt.evidence.push_back({.worker = worker_name(worker), .worker_lost = true, .message = how});
    begin_failure(job, /*cause_known=*/true, now);
  }
  end_if_over(job, now);
}

// Something of the attempt is gone for good. With only victims so far, the first cause gets a moment to be reported
// before everything else is killed.
void Controller::begin_failure(JobRun& job, bool cause_known, absl::Time now) {
  AttemptRun& attempt = *job.attempt;
  if (attempt.aborted) return;
  if (cause_known) {
    abort(job, "the attempt failed", now);
  } else {
    attempt.abort_at = std::min(attempt.abort_at, now + options_.evidence_window);
  }
}

void Controller::abort(JobRun& job, const std::string& reason, absl::Time now) {
  AttemptRun& attempt = *job.attempt;
  if (attempt.aborted) return;
  attempt.aborted = true;
  attempt.end_at = now + options_.exit_window;
  CoordinatorMessage message;
  *message.mutable_abort()->mutable_key() = key_of(attempt.stored);
  message.mutable_abort()->set_reason(reason);
  send_to_all(attempt, message);
}

// A cancel is on disk. A job that trains stops at its next step, and by force after a grace; anything else at once.
void Controller::stop_ranks(JobRun& job, bool at_a_step, absl::Time now) {
  AttemptRun& attempt = *job.attempt;
  if (!at_a_step || attempt.aborted) return abort(job, "cancelled by a user", now);
  send_to_all(attempt, stop_of(attempt.stored));  // only the daemon of rank 0 has a rank that listens
  attempt.abort_at = now + options_.cancel_grace;
}

bool Controller::all_gone(const AttemptRun& attempt) const {
  for (const auto& [worker, slots] : attempt.parts) {
    if (attempt.lost_workers.contains(worker)) continue;
    for (const internal::v1::RankSlot& slot : slots) {
      if (!attempt.exits.contains(slot.rank())) return false;
    }
  }
  return true;
}

bool Controller::all_finished(const AttemptRun& attempt) const {
  for (const auto& [worker, slots] : attempt.parts) {
    for (const internal::v1::RankSlot& slot : slots) {
      const auto exit = attempt.exits.find(slot.rank());
      if (exit == attempt.exits.end() || !exit->second.finished()) return false;
    }
  }
  return true;
}

// Not while a manifest is being written: on_commit_done comes back here. So no checkpoint is without its event, and an
// attempt that committed one has made progress.
void Controller::end_if_over(JobRun& job, absl::Time now) {
  if (!job.attempt || job.committing) return;
  AttemptRun& attempt = *job.attempt;
  const bool stopping = job.stored.job().state() == v1::JOB_STATE_STOPPING;
  if (all_finished(attempt) && !stopping) {
    if (job.stored.has_task()) {
      succeed_task(job, now);
      return;
    }
    const internal::v1::RunFinished& result = attempt.exits.at(0).result();
    if (!result.stopped() && job.stored.committed_step() >= result.step()) {
      succeed(job, now);
      return;
    }
    if (!result.stopped() && attempt.end_at == absl::InfiniteFuture()) {
      attempt.end_at = now + options_.final_checkpoint_window;
    }
    if (!result.stopped() && now < attempt.end_at) return;
    v1::Failure& failure = attempt.failure.emplace();
    failure.set_class_(v1::FAILURE_CLASS_INTERNAL);
    failure.set_rank(-1);
    failure.set_step(result.step());
    failure.set_reason(result.stopped() ? "STOPPED_UNASKED" : "FINAL_CHECKPOINT_MISSING");
    failure.set_message(result.stopped() ? absl::StrCat("the ranks stopped at step ", result.step(), " unasked")
                                         : absl::StrCat("all ranks finished at step ", result.step(),
                                                        ", but the newest committed checkpoint is of step ",
                                                        job.stored.committed_step()));
    end_attempt(job, now);
    return;
  }
  if (all_gone(attempt) || (attempt.aborted && now >= attempt.end_at)) end_attempt(job, now);
}

// What every end of an attempt has in common. Returns what to do once the end is on disk: acknowledge the exits.
std::function<void()> Controller::close_attempt(JobRun& job, absl::Time now) {
  AttemptRun& attempt = *job.attempt;
  attempt.stored.set_ended(true);
  *attempt.stored.mutable_attempt()->mutable_end_time() = to_timestamp(now);
  job.previous.clear();
  for (const v1::RankPlacement& placement : attempt.stored.attempt().placement()) {
    job.previous.push_back({placement.worker().substr(worker_name("").size()), placement.slot()});
  }
  std::vector<std::pair<std::string, int32_t>> exits;
  for (const auto& [worker, slots] : attempt.parts) {
    for (const internal::v1::RankSlot& slot : slots) {
      if (attempt.exits.contains(slot.rank())) exits.emplace_back(worker, slot.rank());
    }
  }
  return [this, exits, key = key_of(attempt.stored)] {
    for (const auto& [worker, rank] : exits) {
      CoordinatorMessage message;
      *message.mutable_rank_exit_ack()->mutable_key() = key;
      message.mutable_rank_exit_ack()->set_rank(rank);
      send_to(worker, message);
    }
  };
}

void Controller::succeed(JobRun& job, absl::Time now) {
  const internal::v1::RunFinished result = job.attempt->exits.at(0).result();
  v1::Job& record = *job.stored.mutable_job();
  std::vector<Draft> drafts;
  *record.mutable_result() = result.result();
  if (record.result().state_digest().empty()) {
    const auto last = job.committed.find(result.step());
    if (last != job.committed.end()) record.mutable_result()->set_state_digest(last->second.state_digest());
  }
  record.set_hf_export(result.hf_export());
  record.mutable_progress()->set_step(result.step());
  record.mutable_progress()->set_eta_seconds(0);
  record.clear_failure();
  if (!result.hf_export().empty()) note(job, "EXPORTED", absl::StrCat("exported to ", result.hf_export()), drafts);
  job.stored.set_decided(v1::JOB_STATE_SUCCEEDED);
  move(job, v1::JOB_STATE_STOPPING, "all ranks finished", drafts);
  job.attempt->stored.mutable_attempt()->set_last_step(result.step());
  auto acknowledge = close_attempt(job, now);
  finish(job, std::move(drafts), now, std::move(acknowledge));
  schedule(now);
}

// The attempt is over without success: a new one within the budget, or the end.
void Controller::end_attempt(JobRun& job, absl::Time now) {
  AttemptRun& attempt = *job.attempt;
  v1::Job& record = *job.stored.mutable_job();
  std::vector<Draft> drafts;
  if (record.state() == v1::JOB_STATE_STOPPING) {
    auto acknowledge = close_attempt(job, now);
    finish(job, {}, now, std::move(acknowledge));
    schedule(now);
    return;
  }
  v1::Failure failure;
  if (attempt.failure) {
    failure = *attempt.failure;
  } else if (!attempt.evidence.empty()) {
    failure = first_cause(attempt.evidence, attempt.stored.attempt().last_step());
  } else {
    failure.set_class_(v1::FAILURE_CLASS_INTERNAL);
    failure.set_reason("ENDED_WITHOUT_CAUSE");
    failure.set_rank(-1);
    failure.set_message("the attempt ended and nothing is known to have failed");
  }
  *attempt.stored.mutable_attempt()->mutable_failure() = failure;
  *record.mutable_failure() = failure;
  note(job, "ATTEMPT_FAILED", absl::StrCat(failure.reason(), ": ", failure.message()), drafts);

  const bool worked = record.state() == v1::JOB_STATE_RUNNING;
  const bool died = !attempt.failure && std::ranges::any_of(attempt.evidence, is_cause);
  const bool unreadable = failure.reason() == "CHECKPOINT_UNREADABLE" &&
                          doubt_checkpoint(job, attempt.stored.attempt().restored_step(), drafts);
  if (died && !worked && !unreadable && failure.class_() == v1::FAILURE_CLASS_INFRA && failure.rank() >= 0) {
    blame(failure.worker().substr(worker_name("").size()), /*declined=*/false, failure.message(), now);
  }
  if (!attempt.declined) {
    if (failure.class_() == v1::FAILURE_CLASS_INFRA) job.stored.set_infra_retries(job.stored.infra_retries() + 1);
    if (attempt.committed_any) {
      job.stored.set_attempts_without_progress(0);
    } else if (!unreadable) {  // after one that could not read its checkpoint the next has something else to try
      job.stored.set_attempts_without_progress(job.stored.attempts_without_progress() + 1);
    }
    job.not_before = now + retry_delay(job.stored.attempts_without_progress());
  }
  const RetryState retries{.infra_retries = job.stored.infra_retries(),
                           .attempts_without_progress = job.stored.attempts_without_progress()};
  RetryBounds bounds{record.spec().retry().max_infra_retries(), record.spec().retry().max_attempts_without_progress()};
  if (job.stored.has_task()) bounds = kTaskRetryBounds;
  const bool was_aborted_early = record.state() == v1::JOB_STATE_SCHEDULED;
  record.set_epoch(record.epoch() + 1);  // fences whatever the attempt still does
  auto acknowledge = close_attempt(job, now);
  if (const auto last = final_failure(failure, retries, bounds)) {
    *record.mutable_failure() = *last;
    job.stored.set_decided(v1::JOB_STATE_FAILED);
    move(job, v1::JOB_STATE_STOPPING, last->message(), drafts);
    finish(job, std::move(drafts), now, std::move(acknowledge));
  } else {
    if (record.state() != v1::JOB_STATE_RECOVERING) {
      move(job, was_aborted_early ? v1::JOB_STATE_QUEUED : v1::JOB_STATE_RECOVERING, failure.message(), drafts);
    }
    save(job, std::move(drafts), now, std::move(acknowledge));
    job.attempt.reset();
  }
  schedule(now);
}

}  // namespace qwen3::coordinator
