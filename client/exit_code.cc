#include "client/exit_code.h"

namespace qwen3::client {

ExitCode exit_code(const absl::Status& status) {
  switch (status.code()) {
    case absl::StatusCode::kOk:
      return kSucceeded;
    case absl::StatusCode::kInvalidArgument:
    case absl::StatusCode::kFailedPrecondition:
    case absl::StatusCode::kAlreadyExists:
    case absl::StatusCode::kOutOfRange:
    case absl::StatusCode::kResourceExhausted:
    case absl::StatusCode::kAborted:
    case absl::StatusCode::kUnimplemented:
      return kRefused;
    case absl::StatusCode::kNotFound:
      return kNotFound;
    case absl::StatusCode::kPermissionDenied:
    case absl::StatusCode::kUnauthenticated:
      return kDenied;
    case absl::StatusCode::kUnavailable:
      return kUnavailable;
    case absl::StatusCode::kDeadlineExceeded:
      return kDeadline;
    case absl::StatusCode::kCancelled:
      return kDetached;
    default:
      return kUsage;
  }
}

ExitCode exit_code(const v1::Job& job) {
  switch (job.state()) {
    case v1::JOB_STATE_SUCCEEDED:
      return kSucceeded;
    case v1::JOB_STATE_CANCELLED:
      return kJobCancelled;
    default:
      return job.failure().class_() == v1::FAILURE_CLASS_USER ? kJobFailedUser : kJobFailedInfra;
  }
}

ExitCode exit_code(const google::longrunning::Operation& operation) {
  if (!operation.has_error()) return kSucceeded;
  switch (static_cast<absl::StatusCode>(operation.error().code())) {
    case absl::StatusCode::kCancelled:
      return kJobCancelled;
    case absl::StatusCode::kInvalidArgument:
    case absl::StatusCode::kResourceExhausted:
      return kJobFailedUser;
    default:
      return kJobFailedInfra;
  }
}

}  // namespace qwen3::client
