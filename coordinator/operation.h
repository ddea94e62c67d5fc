// A task as users see it. Pure.
#pragma once
#include "coordinator/controller.h"
#include "google/longrunning/operations.pb.h"

namespace qwen3::coordinator {

// `live` is what the controller knows beyond the stored row; null: the task is over. Failures by their class:
// INVALID_ARGUMENT (RESOURCE_EXHAUSTED for lack of memory), UNAVAILABLE for infrastructure, INTERNAL, CANCELLED; with
// the first cause's sentence and an ErrorInfo that names reason, rank and worker.
google::longrunning::Operation operation_of(const internal::v1::StoredJob& stored, const LiveView* live);

}  // namespace qwen3::coordinator
