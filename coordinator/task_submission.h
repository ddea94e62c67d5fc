// From a request for a task to what may be stored, or to everything that is wrong with it. Blocks on disk.
#pragma once
#include "absl/status/statusor.h"
#include "coordinator/submission.h"
#include "qwen3/v1/operation.pb.h"

namespace qwen3::coordinator {

// Defaults filled in, the source resolved to a folder, checked: paths must exist and be absolute, the mesh must satisfy
// the rules of a job's. INVALID_ARGUMENT carries a google.rpc.BadRequest with every violation and an ErrorInfo.
absl::StatusOr<NewJob> check_task(const v1::EvaluateRequest& request, const SubmissionContext& context);
absl::StatusOr<NewJob> check_task(const v1::ConvertRequest& request, const SubmissionContext& context);
absl::StatusOr<NewJob> check_task(const v1::VerifyRequest& request, const SubmissionContext& context);

}  // namespace qwen3::coordinator
