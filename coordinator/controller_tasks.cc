// Controller: what is different about a task. Its ranks start and end like those of a job; but it has no checkpoint to
// restore or to commit, so that a new attempt is a new beginning, and the last word of rank 0 is its result.
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "coordinator/controller.h"
#include "coordinator/job_state.h"
#include "coordinator/names.h"

namespace qwen3::coordinator {

using internal::v1::StoredTask;

namespace {

std::string summary(const internal::v1::RunFinished& result) {
  if (result.has_evaluation()) {
    return absl::StrFormat("loss %.6f over %d tokens", result.evaluation().loss(), result.evaluation().tokens());
  }
  const v1::ConversionResult& conversion = result.conversion();
  const std::string read = absl::StrCat(conversion.tensors(), " tensors, ", conversion.bytes(), " bytes");
  if (!conversion.folder().empty()) return absl::StrCat(read, ", written to ", conversion.folder());
  return absl::StrCat(read, ", ", conversion.problems_size(), " problems");
}

// What the checkpoint's row gets to know; nothing unless the task evaluated a job's checkpoint.
std::optional<StoredEvaluation> evaluation_of(const internal::v1::StoredJob& stored, absl::Time now) {
  const StoredTask& task = stored.task();
  const auto checkpoint = parse_checkpoint_name(task.checkpoint());
  if (!task.has_evaluation() || !checkpoint) return std::nullopt;
  StoredEvaluation result{.job = checkpoint->job, .step = checkpoint->step};
  result.evaluation.set_operation(stored.job().name());
  const v1::EvaluationSpec& spec = task.evaluation();
  result.evaluation.set_data(spec.has_tokens_file() ? spec.tokens_file() : spec.text_path());
  result.evaluation.set_dtype(spec.dtype());
  *result.evaluation.mutable_result() = task.evaluation_result();
  *result.evaluation.mutable_end_time() = to_timestamp(now);
  return result;
}

}  // namespace

void Controller::fill_task(const JobRun& job, internal::v1::RankAssignment& rank) const {
  const StoredTask& task = job.stored.task();
  if (task.has_evaluation()) {
    *rank.mutable_evaluation() = task.evaluation();
    *rank.mutable_evaluation()->mutable_model() = task.source();
  } else {
    *rank.mutable_conversion() = task.conversion();
    *rank.mutable_conversion()->mutable_from() = task.source();
  }
}

// Kept in memory; on disk with the next change of state.
void Controller::mark_task_progress(JobRun& job, const internal::v1::TaskProgress& progress, absl::Time now) {
  *job.stored.mutable_task()->mutable_progress() = progress;
  mark_working(job, absl::StrCat("working: ", progress.total(), " ", progress.unit(), " in all"), now);
}

// All ranks have finished.
void Controller::succeed_task(JobRun& job, absl::Time now) {
  const internal::v1::RunFinished result = job.attempt->exits.at(0).result();
  StoredTask& task = *job.stored.mutable_task();
  const bool right_kind = task.has_evaluation() ? result.has_evaluation() : result.has_conversion();
  if (!right_kind) {
    v1::Failure& failure = job.attempt->failure.emplace();
    failure.set_class_(v1::FAILURE_CLASS_INTERNAL);
    failure.set_rank(0);
    failure.set_reason("NO_RESULT");
    failure.set_message(absl::StrCat("all ranks finished, but rank 0 reported no ",
                                     task.has_evaluation() ? "evaluation" : "conversion"));
    end_attempt(job, now);
    return;
  }
  if (result.has_evaluation()) *task.mutable_evaluation_result() = result.evaluation();
  if (result.has_conversion()) *task.mutable_conversion_result() = result.conversion();
  if (task.has_progress()) task.mutable_progress()->set_done(task.progress().total());
  job.stored.mutable_job()->clear_failure();
  job.stored.set_decided(v1::JOB_STATE_SUCCEEDED);

  std::vector<Draft> drafts;
  const auto evaluation = evaluation_of(job.stored, now);
  move(job, v1::JOB_STATE_STOPPING, summary(result), drafts);
  drafts.back().evaluation = evaluation;
  auto acknowledge = close_attempt(job, now);
  finish(job, std::move(drafts), now, std::move(acknowledge));  // `job` is gone
  if (evaluation) attach_evaluation(*evaluation, now);
  schedule(now);
}

// To the checkpoint of a job that still runs: its best ones may be others now.
void Controller::attach_evaluation(const StoredEvaluation& stored, absl::Time now) {
  JobRun* job = find(stored.job);
  if (job == nullptr) return;
  const auto checkpoint = job->committed.find(stored.step);
  if (checkpoint == job->committed.end()) return;
  *checkpoint->second.add_evaluations() = stored.evaluation;
  std::vector<Draft> drafts;
  note(*job, "EVALUATED",
       absl::StrFormat("step %d: loss %.6f on %s", stored.step, stored.evaluation.result().loss(),
                       stored.evaluation.data()),
       drafts);
  save(*job, std::move(drafts), now);
  prune(*job, now);
}

// A task has ended: what it read may be pruned.
void Controller::release_source(const StoredTask& task, absl::Time now) {
  const auto checkpoint = parse_checkpoint_name(task.checkpoint());
  if (!checkpoint) return;
  if (JobRun* job = find(checkpoint->job)) prune(*job, now);
}

}  // namespace qwen3::coordinator
