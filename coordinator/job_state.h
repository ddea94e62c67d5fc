// The life of a job: which state may follow which. Pure.
#pragma once
#include "qwen3/v1/job.pb.h"

namespace qwen3::coordinator {

// SUCCEEDED, FAILED or CANCELLED: absorbing.
bool is_terminal(v1::JobState state);

// The job waits for slots: QUEUED or RECOVERING.
bool waits_for_slots(v1::JobState state);

// Whether `to` may follow `from`. A state never follows itself.
bool may_follow(v1::JobState from, v1::JobState to);

}  // namespace qwen3::coordinator
