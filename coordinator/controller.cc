#include "coordinator/controller.h"

#include <stdexcept>
#include <utility>

#include "absl/strings/cord.h"
#include "absl/strings/str_cat.h"
#include "coordinator/job_state.h"
#include "coordinator/names.h"
#include "google/rpc/error_details.pb.h"

namespace qwen3::coordinator {

using internal::v1::StoredAttempt;
using internal::v1::StoredJob;
using internal::v1::StoredRequest;

internal::v1::AttemptKey key_of(const StoredAttempt& attempt) {
  internal::v1::AttemptKey key;
  key.set_job(attempt.job());
  key.set_attempt(attempt.attempt().number());
  key.set_epoch(attempt.attempt().epoch());
  return key;
}

google::protobuf::Timestamp to_timestamp(absl::Time time) {
  const int64_t nanos = absl::ToUnixNanos(time);
  google::protobuf::Timestamp timestamp;
  timestamp.set_seconds(nanos / 1'000'000'000);
  timestamp.set_nanos(static_cast<int32_t>(nanos % 1'000'000'000));
  return timestamp;
}

absl::Status with_reason(absl::Status status, const std::string& reason) {
  google::rpc::ErrorInfo info;
  info.set_reason(reason);
  info.set_domain("qwen3");
  status.SetPayload("type.googleapis.com/google.rpc.ErrorInfo", absl::Cord(info.SerializeAsString()));
  return status;
}

Controller::Controller(ControllerOptions options, Effects& effects, absl::Time now)
    : options_(std::move(options)), effects_(effects), leases_(options_.leases, now), now_(now) {}

void Controller::load(const StoredState& state, absl::Time now) {
  now_ = now;
  for (const StoredJob& stored : state.jobs) {
    const std::string& name = stored.job().name();
    next_number_ = std::max(next_number_, stored.number() + 1);
    if (is_terminal(stored.job().state())) {
      ended_[name] = stored.job().state();
      continue;
    }
    JobRun job{.stored = stored};
    if (const auto known = state.checkpoints.find(name); known != state.checkpoints.end()) {
      for (const v1::Checkpoint& checkpoint : known->second) job.committed[checkpoint.step()] = checkpoint;
    }
    if (const auto known = state.attempts.find(name); known != state.attempts.end() && !known->second.empty()) {
      const StoredAttempt& newest = known->second.back();
      std::vector<Place> places;
      for (const v1::RankPlacement& placement : newest.attempt().placement()) {
        places.push_back({placement.worker().substr(worker_name("").size()), placement.slot()});
      }
      if (newest.ended()) {
        job.previous = places;
      } else {
        AttemptRun& attempt = job.attempt.emplace();
        attempt.stored = newest;
        for (size_t rank = 0; rank < places.size(); ++rank) {
          internal::v1::RankSlot& slot = attempt.parts[places[rank].worker].emplace_back();
          slot.set_rank(static_cast<int32_t>(rank));
          slot.set_slot(places[rank].slot);
        }
        const bool accepted =
            stored.job().state() != v1::JOB_STATE_SCHEDULED && stored.job().state() != v1::JOB_STATE_RECOVERING;
        for (const auto& [worker, slots] : attempt.parts) {
          leases_.expect(worker, now);
          if (accepted) attempt.accepted.insert(worker);
        }
        if (!accepted) attempt.assign_deadline = now + options_.leases.boot_grace + options_.assign_window;
        if (stored.job().state() == v1::JOB_STATE_STOPPING) {  // a cancel that we did not see through
          attempt.abort_at = stored.has_task() ? now : now + options_.cancel_grace;
        }
        attempt.committed_any = stored.committed_step() > newest.attempt().restored_step();
      }
    }
    numbers_[name] = stored.number();
    jobs_.emplace(stored.number(), std::move(job));
  }
  for (const StoredRequest& request : state.requests) requests_[request.request_id()] = request;
  std::vector<std::string> stopping;  // without an attempt nothing is left to wait for
  for (const auto& [number, job] : jobs_) {
    if (job.stored.job().state() == v1::JOB_STATE_STOPPING && !job.attempt) stopping.push_back(job.stored.job().name());
  }
  for (const std::string& name : stopping) finish(*find(name), {}, now);
}

Controller::JobRun* Controller::find(const std::string& job) {
  const auto number = numbers_.find(job);
  return number == numbers_.end() ? nullptr : &jobs_.at(number->second);
}

const Controller::JobRun* Controller::find(const std::string& job) const {
  return const_cast<Controller*>(this)->find(job);
}

void Controller::move(JobRun& job, v1::JobState to, const std::string& message, std::vector<Draft>& drafts) {
  v1::Job& record = *job.stored.mutable_job();
  if (!may_follow(record.state(), to)) {
    throw std::logic_error(absl::StrCat(record.name(), ": ", v1::JobState_Name(record.state()), " -> ",
                                        v1::JobState_Name(to), " is not a transition"));
  }
  record.set_state(to);
  record.set_status_message(message);
  note(job, "STATE_CHANGED", message, drafts);
}

void Controller::note(JobRun& job, const std::string& kind, const std::string& message, std::vector<Draft>& drafts,
                      std::optional<v1::Checkpoint> checkpoint) {
  drafts.push_back({kind, message, std::move(checkpoint), job.stored.job().state()});
}

// Numbers the events and hands projection and events to the store as one transaction.
void Controller::save(JobRun& job, std::vector<Draft> drafts, absl::Time now, std::function<void()> done) {
  v1::Job& record = *job.stored.mutable_job();
  record.set_state_version(record.state_version() + 1);
  Write write;
  for (Draft& draft : drafts) {
    StoredEvent& stored = write.events.emplace_back();
    job.stored.set_last_seq(job.stored.last_seq() + 1);
    stored.event.set_seq(job.stored.last_seq());
    *stored.event.mutable_time() = to_timestamp(now);
    stored.event.set_kind(std::move(draft.kind));
    stored.event.set_message(std::move(draft.message));
    stored.event.set_attempt(record.attempt_count());
    stored.event.set_state(draft.state);
    stored.checkpoint = std::move(draft.checkpoint);
    stored.evaluation = std::move(draft.evaluation);
  }
  write.job = job.stored;
  if (job.attempt) write.attempt = job.attempt->stored;
  effects_.write(std::move(write), std::move(done));
}

std::optional<absl::StatusOr<CreatedJob>> Controller::replay(const std::string& request_id,
                                                             const std::string& digest) const {
  const auto known = requests_.find(request_id);
  if (known == requests_.end()) return std::nullopt;
  if (known->second.digest() == digest) return CreatedJob{known->second.job(), true};
  return with_reason(
      absl::AlreadyExistsError(absl::StrCat("request_id \"", request_id, "\" was used for ", known->second.job(),
                                            " with another body (digest ", known->second.digest(), ", now ", digest,
                                            "); use a new request_id for something new")),
      "REQUEST_ID_REUSED");
}

void Controller::create(NewJob job, absl::Time now, std::function<void(absl::StatusOr<CreatedJob>)> done) {
  now_ = now;
  const std::string name = job.stored.job().name();
  if (auto known = replay(job.request_id, job.digest)) {
    // The first call may still be on its way to the disk.
    effects_.write({}, [done = std::move(done), answer = *std::move(known)] { done(answer); });
    return;
  }
  if (numbers_.contains(name) || ended_.contains(name)) {
    done(with_reason(absl::AlreadyExistsError(absl::StrCat("job \"", name, "\" exists; choose another job_id")),
                     "JOB_EXISTS"));
    return;
  }
  const std::string& source =
      job.stored.has_task() ? job.stored.task().source().native() : job.stored.initial_load_folder();
  if (absl::Status status = check_source(source); !status.ok()) {
    done(status);
    return;
  }
  JobRun run{.stored = std::move(job.stored)};
  run.stored.set_number(next_number_++);
  v1::Job& record = *run.stored.mutable_job();
  record.set_state(v1::JOB_STATE_QUEUED);
  record.set_status_message("accepted");
  *record.mutable_create_time() = to_timestamp(now);
  record.mutable_progress()->set_total_steps(record.spec().training().steps());
  record.set_state_version(1);
  run.stored.set_last_seq(1);

  Write write;
  StoredEvent& event = write.events.emplace_back();
  event.event.set_seq(1);
  *event.event.mutable_time() = to_timestamp(now);
  event.event.set_kind("STATE_CHANGED");
  event.event.set_message("accepted");
  event.event.set_state(v1::JOB_STATE_QUEUED);
  if (!job.request_id.empty()) {
    StoredRequest& request = write.request.emplace();
    request.set_request_id(job.request_id);
    request.set_digest(job.digest);
    request.set_job(name);
    *request.mutable_create_time() = to_timestamp(now);
    requests_[job.request_id] = request;
  }
  write.job = run.stored;
  numbers_[name] = run.stored.number();
  jobs_.emplace(run.stored.number(), std::move(run));
  effects_.write(std::move(write), [done = std::move(done), name] { done(CreatedJob{name, false}); });
  schedule(now);
}

void Controller::cancel(const std::string& name, absl::Time now, std::function<void(absl::Status)> done) {
  now_ = now;
  if (const auto ended = ended_.find(name); ended != ended_.end()) {
    absl::Status answer;
    if (ended->second != v1::JOB_STATE_CANCELLED) {
      answer = with_reason(absl::FailedPreconditionError(absl::StrCat(name, " is ", v1::JobState_Name(ended->second),
                                                                      " and cannot be cancelled any more")),
                           "JOB_TERMINAL");
    }
    effects_.write({}, [done = std::move(done), answer] { done(answer); });
    return;
  }
  JobRun* job = find(name);
  if (job == nullptr) {
    done(absl::NotFoundError(absl::StrCat("there is no ", noun(name), " \"", name, "\"")));
    return;
  }
  const v1::JobState state = job->stored.job().state();
  if (state == v1::JOB_STATE_STOPPING) {
    absl::Status answer;
    if (job->stored.decided() != v1::JOB_STATE_CANCELLED) {
      answer = with_reason(
          absl::FailedPreconditionError(absl::StrCat(name, " is ending ", v1::JobState_Name(job->stored.decided()))),
          "JOB_ENDING");
    }
    effects_.write({}, [done = std::move(done), answer] { done(answer); });
    return;
  }
  std::vector<Draft> drafts;
  job->stored.set_decided(v1::JOB_STATE_CANCELLED);
  if (state == v1::JOB_STATE_QUEUED) {
    move(*job, v1::JOB_STATE_CANCELLED, "cancelled before it started", drafts);
    *job->stored.mutable_job()->mutable_end_time() = to_timestamp(now);
    save(*job, std::move(drafts), now, [done = std::move(done)] { done(absl::OkStatus()); });
    forget_if_terminal(name);
    schedule(now);
    return;
  }
  move(*job, v1::JOB_STATE_STOPPING, "cancelled by a user", drafts);
  if (!job->attempt) {
    finish(*job, std::move(drafts), now, [done = std::move(done)] { done(absl::OkStatus()); });
    schedule(now);
    return;
  }
  const bool at_a_step = state == v1::JOB_STATE_RUNNING && !job->stored.has_task();
  save(*job, std::move(drafts), now, [this, key = key_of(job->attempt->stored), at_a_step, done = std::move(done)] {
    if (JobRun* job = living(key)) stop_ranks(*job, at_a_step, now_);
    done(absl::OkStatus());
  });
  end_if_over(*job, now);
}

// STOPPING -> the decided state, in one transaction with `drafts`.
void Controller::finish(JobRun& job, std::vector<Draft> drafts, absl::Time now, std::function<void()> done) {
  const v1::JobState decided = job.stored.decided();
  const std::string message = decided == v1::JOB_STATE_FAILED      ? job.stored.job().failure().message()
                              : decided == v1::JOB_STATE_CANCELLED ? "cancelled by a user"
                              : job.stored.has_task()              ? "done"
                                                                   : "all steps done, last checkpoint committed";
  move(job, decided, message, drafts);
  *job.stored.mutable_job()->mutable_end_time() = to_timestamp(now);
  save(job, std::move(drafts), now, std::move(done));
  forget_if_terminal(std::string(job.stored.job().name()));
}

void Controller::forget_if_terminal(const std::string& name) {
  JobRun* job = find(name);
  if (job == nullptr || !is_terminal(job->stored.job().state())) return;
  ended_[name] = job->stored.job().state();
  const internal::v1::StoredTask task = job->stored.task();
  jobs_.erase(numbers_.at(name));
  numbers_.erase(name);
  effects_.on_ended(name);
  release_source(task, now_);
}

void Controller::on_metrics(const std::string& name, const std::vector<v1::MetricRecord>& records, absl::Time now) {
  now_ = now;
  JobRun* job = find(name);
  if (job == nullptr) return;
  v1::Progress& progress = *job->stored.mutable_job()->mutable_progress();
  std::vector<Draft> drafts;
  for (const v1::MetricRecord& record : records) {
    const v1::StepReport& report = record.report();
    if (record.attempt() != job->stored.job().attempt_count()) continue;  // a late record of an older attempt
    progress.set_step(report.step());
    progress.set_loss(report.loss());
    if (report.has_split()) *progress.mutable_split() = report.split();
    if (report.has_mean_split()) *progress.mutable_mean_split() = report.mean_split();
    if (report.tokens_per_second() > 0) progress.set_tokens_per_second(report.tokens_per_second());
    progress.set_eta_seconds(static_cast<double>(progress.total_steps() - report.step()) * report.seconds());
    if (job->attempt) {
      v1::Attempt& attempt = *job->attempt->stored.mutable_attempt();
      attempt.set_last_step(std::max(attempt.last_step(), report.step()));
    }
    if (report.has_validation_loss()) {
      note(*job, "VALIDATED",
           absl::StrCat("step ", report.step(), ": validation loss ", report.validation_loss(), " nats per token"),
           drafts);
    }
  }
  effects_.on_progress(name, progress);
  if (!drafts.empty()) save(*job, std::move(drafts), now);
}

void Controller::tick(absl::Time now) {
  now_ = now;
  for (const std::string& worker : leases_.expire(now)) {
    if (const auto known = workers_.find(worker); known != workers_.end()) {
      known->second.lost = true;
      if (known->second.session != 0) {
        sessions_.erase(known->second.session);
        effects_.close(known->second.session,
                       absl::DeadlineExceededError("the lease of this session expired; connect again"));
        known->second.session = 0;
      }
    }
    std::vector<std::string> names;
    for (const auto& [number, job] : jobs_) {
      if (job.attempt && job.attempt->parts.contains(worker)) names.push_back(job.stored.job().name());
    }
    for (const std::string& name : names) {
      if (JobRun* job = find(name)) lose_worker_of(*job, worker, "its lease expired", now);
    }
  }
  std::vector<std::string> names;
  for (const auto& [number, job] : jobs_) {
    if (job.attempt) names.push_back(job.stored.job().name());
  }
  for (const std::string& name : names) {
    JobRun* job = find(name);
    if (job == nullptr || !job->attempt) continue;
    AttemptRun& attempt = *job->attempt;
    if (now >= attempt.assign_deadline) {
      attempt.assign_deadline = absl::InfiniteFuture();
      v1::Failure& failure = attempt.failure.emplace();
      failure.set_class_(v1::FAILURE_CLASS_INFRA);
      failure.set_reason("ASSIGN_TIMEOUT");
      failure.set_rank(-1);
      failure.set_message(
          absl::StrCat("not all daemons accepted their ranks within ", absl::FormatDuration(options_.assign_window)));
      begin_failure(*job, /*cause_known=*/true, now);
    } else if (now >= attempt.abort_at && !attempt.aborted) {
      abort(*job, job->stored.job().state() == v1::JOB_STATE_STOPPING ? "stopping took too long" : "a rank failed",
            now);
    }
    end_if_over(*job, now);
  }
  if (now >= schedule_at_) schedule(now);
}

std::optional<LiveView> Controller::live(const std::string& name) const {
  const JobRun* job = find(name);
  if (job == nullptr) return std::nullopt;
  LiveView view{.progress = job->stored.job().progress(), .task = job->stored.task().progress()};
  if (waits_for_slots(job->stored.job().state()) && !job->attempt) {
    view.pending_reason = job->pending_reason;
    view.status_message = job->pending_message;
  }
  return view;
}

Counts Controller::counts() const {
  Counts counts;
  for (const auto& [name, state] : ended_) ++(job_id(name).empty() ? counts.operations : counts.jobs)[state];
  for (const auto& [number, job] : jobs_) {
    ++(job.stored.has_task() ? counts.operations : counts.jobs)[job.stored.job().state()];
  }
  for (const v1::Worker& worker : workers()) {
    ++counts.workers[worker.state()];
    if (worker.state() == v1::WORKER_STATE_LOST) continue;
    for (const v1::Slot& slot : worker.slots()) {
      ++counts.slots;
      if (slot.job().empty()) ++counts.free_slots;
    }
  }
  return counts;
}

}  // namespace qwen3::coordinator
