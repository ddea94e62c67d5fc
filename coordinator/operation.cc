#include "coordinator/operation.h"

#include "absl/strings/str_cat.h"
#include "coordinator/job_state.h"
#include "google/rpc/error_details.pb.h"
#include "qwen3/v1/operation.pb.h"

namespace qwen3::coordinator {
namespace {

absl::StatusCode code_of(const v1::Failure& failure) {
  switch (failure.class_()) {
    case v1::FAILURE_CLASS_USER:
      return failure.reason() == "OUT_OF_MEMORY" ? absl::StatusCode::kResourceExhausted
                                                 : absl::StatusCode::kInvalidArgument;
    case v1::FAILURE_CLASS_INFRA:
      return absl::StatusCode::kUnavailable;
    default:
      return absl::StatusCode::kInternal;
  }
}

void fill_error(const v1::Failure& failure, google::rpc::Status& error) {
  error.set_code(static_cast<int>(code_of(failure)));
  error.set_message(failure.message());
  google::rpc::ErrorInfo info;
  info.set_reason(failure.reason());
  info.set_domain("qwen3");
  if (failure.rank() >= 0) (*info.mutable_metadata())["rank"] = absl::StrCat(failure.rank());
  if (!failure.worker().empty()) (*info.mutable_metadata())["worker"] = failure.worker();
  error.add_details()->PackFrom(info);
}

v1::TaskMetadata metadata_of(const internal::v1::StoredJob& stored, const LiveView* live) {
  const v1::Job& job = stored.job();
  const internal::v1::StoredTask& task = stored.task();
  const internal::v1::TaskProgress& progress = live != nullptr ? live->task : task.progress();
  v1::TaskMetadata metadata;
  metadata.set_state(job.state());
  metadata.set_status_message(job.status_message());
  if (live != nullptr) {
    metadata.set_pending_reason(live->pending_reason);
    if (!live->status_message.empty()) metadata.set_status_message(live->status_message);
  }
  metadata.set_done(progress.done());
  metadata.set_total(progress.total());
  metadata.set_unit(progress.unit());
  metadata.set_attempt_count(job.attempt_count());
  *metadata.mutable_create_time() = job.create_time();
  if (job.has_end_time()) *metadata.mutable_end_time() = job.end_time();
  if (task.has_evaluation()) *metadata.mutable_evaluation() = task.evaluation();
  if (task.has_conversion()) *metadata.mutable_conversion() = task.conversion();
  return metadata;
}

}  // namespace

google::longrunning::Operation operation_of(const internal::v1::StoredJob& stored, const LiveView* live) {
  google::longrunning::Operation operation;
  const v1::Job& job = stored.job();
  operation.set_name(job.name());
  operation.mutable_metadata()->PackFrom(metadata_of(stored, live));
  operation.set_done(is_terminal(job.state()));
  if (job.state() == v1::JOB_STATE_FAILED) {
    fill_error(job.failure(), *operation.mutable_error());
  } else if (job.state() == v1::JOB_STATE_CANCELLED) {
    operation.mutable_error()->set_code(static_cast<int>(absl::StatusCode::kCancelled));
    operation.mutable_error()->set_message(job.status_message());
  } else if (stored.task().has_evaluation_result() && operation.done()) {
    operation.mutable_response()->PackFrom(stored.task().evaluation_result());
  } else if (operation.done()) {
    operation.mutable_response()->PackFrom(stored.task().conversion_result());
  }
  return operation;
}

}  // namespace qwen3::coordinator
