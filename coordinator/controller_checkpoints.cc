// Controller: from the ranks' prepared parts to a committed checkpoint.
#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "coordinator/controller.h"
#include "coordinator/job_state.h"
#include "coordinator/names.h"
#include "coordinator/retention.h"

namespace qwen3::coordinator {

using internal::v1::AttemptKey;
using internal::v1::CoordinatorMessage;

// A part of the current epoch, or a rank's word that it could not write its own. It is acknowledged once its checkpoint
// is committed or given up; until then the daemon keeps it. What is acknowledged is not said again, so a commit is told
// before it.
void Controller::on_prepared(JobRun& job, const std::string& worker, const internal::v1::Prepared& prepared,
                             absl::Time now) {
  const int64_t step = prepared.checkpoint().step();
  const bool committed = step <= job.stored.committed_step();  // and perhaps pruned already
  if (committed || job.attempt->given_up.contains(step)) {     // sent again after a reconnect
    if (committed) tell_committed(worker, prepared.key(), step);
    acknowledge_part(worker, prepared.key(), prepared.rank(), step);
    return;
  }
  auto& parts = job.attempt->prepared[step];
  parts.emplace(prepared.rank(), prepared.checkpoint());
  const bool failed = std::ranges::any_of(parts, [](const auto& part) { return !part.second.error().empty(); });
  if (failed && static_cast<int64_t>(parts.size()) == world_size(job)) {
    give_up_checkpoint(job, step, now);
  } else {
    commit_next(job, now);
  }
}

// Every rank has spoken, and one of them could not write its part. The run goes on without this checkpoint: what the
// others wrote of it is deleted, now that nobody writes there any more, and their ranks need not wait for it.
void Controller::give_up_checkpoint(JobRun& job, int64_t step, absl::Time now) {
  AttemptRun& attempt = *job.attempt;
  std::vector<Draft> drafts;
  for (const auto& [rank, part] : attempt.prepared.at(step)) {
    if (part.error().empty()) continue;
    note(job, "CHECKPOINT_SKIPPED", absl::StrCat("step ", step, ": rank ", rank, ": ", part.error()), drafts);
    break;  // the others' reasons are in their logs
  }
  attempt.prepared.erase(step);
  attempt.given_up.insert(step);
  const std::string folder = absl::StrCat(job.stored.checkpoint_folder(), "/",
                                          checkpoint_folder_name(step, attempt.stored.attempt().number()));
  save(job, std::move(drafts), now, [this, folder, step, key = key_of(attempt.stored)] {
    effects_.remove_folders({folder});
    if (const JobRun* job = living(key)) acknowledge_parts(*job, step);
  });
}

// One manifest at a time per job, in order of step.
void Controller::commit_next(JobRun& job, absl::Time now) {
  if (job.committing || !job.attempt) return;
  for (const auto& [step, parts] : job.attempt->prepared) {
    if (static_cast<int64_t>(parts.size()) != world_size(job) || job.committed.contains(step)) continue;
    job.committing = true;
    v1::Checkpoint checkpoint;
    checkpoint.set_name(checkpoint_name(job.stored.job().name(), step));
    checkpoint.set_step(step);
    checkpoint.set_state(v1::CHECKPOINT_STATE_COMMITTED);
    checkpoint.set_attempt(job.attempt->stored.attempt().number());
    checkpoint.set_folder(parts.begin()->second.folder());
    CheckpointParts all{.folder = checkpoint.folder()};
    for (const auto& [rank, part] : parts) all.parts.push_back(part);
    effects_.commit_checkpoint(std::move(all), [this, name = std::string(job.stored.job().name()),
                                                checkpoint](const absl::StatusOr<CommittedCheckpoint>& result) {
      on_commit_done(name, checkpoint, result);
    });
    return;
  }
}

void Controller::on_commit_done(const std::string& name, v1::Checkpoint checkpoint,
                                const absl::StatusOr<CommittedCheckpoint>& result) {
  JobRun* job = find(name);
  if (job == nullptr) return;
  job->committing = false;
  const int64_t step = checkpoint.step();
  const bool live = job->attempt && job->attempt->stored.attempt().number() == checkpoint.attempt();
  if (result.ok()) {
    checkpoint.set_size_bytes(result->size_bytes);
    checkpoint.set_state_digest(result->state_digest);
    if (live) {
      job->attempt->committed_any = true;
      job->attempt->prepared.erase(step);
    }
    const AttemptKey key = live ? key_of(job->attempt->stored) : AttemptKey();  // of nobody
    record_checkpoint(*job, checkpoint, now_, [this, step, key] {
      const JobRun* job = living(key);
      if (job == nullptr) return;
      for (const auto& [worker, slots] : job->attempt->parts) tell_committed(worker, key, step);
      acknowledge_parts(*job, step);
    });
    prune(*job, now_);
    effects_.sweep(job->stored.checkpoint_folder(), checkpoint.attempt());
    commit_next(*job, now_);
    end_if_over(*job, now_);
  } else {
    std::vector<Draft> drafts;
    const std::string message = absl::StrCat("the checkpoint of step ", step,
                                             " could not be committed: ", absl::string_view(result.status().message()));
    note(*job, "CHECKPOINT_SKIPPED", message, drafts);
    save(*job, std::move(drafts), now_);
    if (live) job->attempt->prepared.erase(step);
    if (live && !job->attempt->failure && !job->attempt->aborted) {
      v1::Failure& failure = job->attempt->failure.emplace();
      failure.set_class_(v1::FAILURE_CLASS_INFRA);
      failure.set_reason("CHECKPOINT_COMMIT_FAILED");
      failure.set_rank(-1);
      failure.set_step(step);
      failure.set_message(message);
      begin_failure(*job, /*cause_known=*/true, now_);
    }
    end_if_over(*job, now_);
  }
}

void Controller::record_checkpoint(JobRun& job, v1::Checkpoint checkpoint, absl::Time now, std::function<void()> done) {
  *checkpoint.mutable_commit_time() = to_timestamp(now);
  job.committed[checkpoint.step()] = checkpoint;
  if (checkpoint.step() >= job.stored.committed_step()) {
    job.stored.set_committed_step(checkpoint.step());
    job.stored.set_committed_folder(checkpoint.folder());
    job.stored.mutable_job()->set_latest_checkpoint(checkpoint.name());
  }
  job.stored.set_attempts_without_progress(0);
  std::vector<Draft> drafts;
  const std::string message =
      absl::StrCat("step ", checkpoint.step(), ", ", checkpoint.size_bytes(), " bytes in ", checkpoint.folder());
  note(job, "CHECKPOINT_COMMITTED", message, drafts, std::move(checkpoint));
  save(job, std::move(drafts), now, std::move(done));
}

void Controller::tell_committed(const std::string& worker, const AttemptKey& key, int64_t step) {
  CoordinatorMessage message;
  *message.mutable_checkpoint_committed()->mutable_key() = key;
  message.mutable_checkpoint_committed()->set_step(step);
  send_to(worker, message);
}

void Controller::acknowledge_part(const std::string& worker, const AttemptKey& key, int32_t rank, int64_t step) {
  CoordinatorMessage message;
  *message.mutable_prepared_ack()->mutable_key() = key;
  message.mutable_prepared_ack()->set_rank(rank);
  message.mutable_prepared_ack()->set_step(step);
  send_to(worker, message);
}

void Controller::acknowledge_parts(const JobRun& job, int64_t step) {
  const AttemptKey key = key_of(job.attempt->stored);
  for (const auto& [worker, slots] : job.attempt->parts) {
    for (const internal::v1::RankSlot& slot : slots) acknowledge_part(worker, key, slot.rank(), step);
  }
}

// An attempt could not read the checkpoint of `step`. Once may be a host's trouble; after the second attempt in a row
// the job goes on from the checkpoint before, and this one stays where it is for a person to look at. False: there is
// none before; never does a job begin anew by itself.
bool Controller::doubt_checkpoint(JobRun& job, int64_t step, std::vector<Draft>& drafts) {
  const auto doubted = job.committed.find(step);
  if (doubted == job.committed.end() || doubted == job.committed.begin()) return false;
  if (std::exchange(job.doubted_step, step) != step) return true;
  v1::Checkpoint unreadable = std::move(doubted->second);
  const v1::Checkpoint& before = std::prev(doubted)->second;
  job.stored.set_committed_step(before.step());
  job.stored.set_committed_folder(before.folder());
  job.stored.mutable_job()->set_latest_checkpoint(before.name());
  job.committed.erase(doubted);
  unreadable.clear_evaluations();  // they are kept beside it
  unreadable.set_state(v1::CHECKPOINT_STATE_UNREADABLE);
  note(job, "CHECKPOINT_UNREADABLE",
       absl::StrCat("step ", step, ", by two attempts; the job goes on from step ", before.step()), drafts,
       std::move(unreadable));
  return true;
}

// Files go only after the event that says so is on disk.
void Controller::prune(JobRun& job, absl::Time now) {
  std::vector<int64_t> steps;
  for (const auto& [step, checkpoint] : job.committed) steps.push_back(step);
  std::set<int64_t> in_use;
  for (const auto& [number, other] : jobs_) {  // warm starts that may not have been read yet, and what tasks read
    for (const std::string* folder : {&other.stored.initial_load_folder(), &other.stored.task().source().native()}) {
      if (folder->empty()) continue;
      for (const auto& [step, checkpoint] : job.committed) {
        if (checkpoint.folder() == *folder) in_use.insert(step);
      }
    }
  }
  if (job.attempt) in_use.insert(job.attempt->stored.attempt().restored_step());
  std::vector<Draft> drafts;
  std::vector<std::string> folders;
  const v1::CheckpointSection& section = job.stored.job().spec().checkpoint();
  const Keep keep{.latest = section.keep_latest_k(), .best = section.keep_best_k()};
  for (const int64_t step : to_prune(steps, keep, comparable_losses(job.committed), in_use)) {
    v1::Checkpoint checkpoint = job.committed.at(step);
    checkpoint.clear_evaluations();  // they are kept beside it
    job.committed.erase(step);
    checkpoint.set_state(v1::CHECKPOINT_STATE_DELETED);
    folders.push_back(checkpoint.folder());
    note(job, "CHECKPOINT_PRUNED",
         absl::StrCat("step ", step, ", keep_latest_k = ", keep.latest,
                      keep.best > 0 ? absl::StrCat(", keep_best_k = ", keep.best) : ""),
         drafts, std::move(checkpoint));
  }
  if (folders.empty()) return;
  save(job, std::move(drafts), now, [this, folders] { effects_.remove_folders(folders); });
}

// What a new job or task reads was resolved off this thread: retention may have pruned it meanwhile. From here on it is
// held. `folder`: a checkpoint, or anything else.
absl::Status Controller::check_source(const std::string& folder) const {
  const size_t slash = folder.rfind('/');
  if (slash == std::string::npos || !parse_checkpoint_folder(folder.substr(slash + 1))) return absl::OkStatus();
  const std::string job_folder = folder.substr(0, slash);
  for (const auto& [number, job] : jobs_) {
    if (job.stored.has_task() || job.stored.checkpoint_folder() != job_folder) continue;
    for (const auto& [step, checkpoint] : job.committed) {
      if (checkpoint.folder() == folder) return absl::OkStatus();
    }
    return absl::UnavailableError(
        absl::StrCat("checkpoint ", folder, " was pruned while the request was checked; call again"));
  }
  return absl::OkStatus();
}

void Controller::on_found_checkpoint(const v1::Checkpoint& checkpoint, const std::string& name, absl::Time now) {
  now_ = now;
  JobRun* job = find(name);
  if (job == nullptr || job->committed.contains(checkpoint.step())) return;
  record_checkpoint(*job, checkpoint, now, nullptr);
}

}  // namespace qwen3::coordinator
