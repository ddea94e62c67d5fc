#include "coordinator/job_state.h"

namespace qwen3::coordinator {

bool is_terminal(v1::JobState state) {
  return state == v1::JOB_STATE_SUCCEEDED || state == v1::JOB_STATE_FAILED || state == v1::JOB_STATE_CANCELLED;
}

bool waits_for_slots(v1::JobState state) { return state == v1::JOB_STATE_QUEUED || state == v1::JOB_STATE_RECOVERING; }

bool may_follow(v1::JobState from, v1::JobState to) {
  switch (from) {
    case v1::JOB_STATE_QUEUED:
      return to == v1::JOB_STATE_SCHEDULED || to == v1::JOB_STATE_CANCELLED || to == v1::JOB_STATE_FAILED ||
             to == v1::JOB_STATE_PAUSED;
    case v1::JOB_STATE_SCHEDULED:  // QUEUED: a worker declined, or was lost before the start
      return to == v1::JOB_STATE_STARTING || to == v1::JOB_STATE_QUEUED || to == v1::JOB_STATE_STOPPING;
    case v1::JOB_STATE_STARTING:
      return to == v1::JOB_STATE_RUNNING || to == v1::JOB_STATE_RECOVERING || to == v1::JOB_STATE_STOPPING;
    case v1::JOB_STATE_RUNNING:
      return to == v1::JOB_STATE_RECOVERING || to == v1::JOB_STATE_PAUSING || to == v1::JOB_STATE_STOPPING;
    case v1::JOB_STATE_RECOVERING:
      return to == v1::JOB_STATE_STARTING || to == v1::JOB_STATE_QUEUED || to == v1::JOB_STATE_STOPPING;
    case v1::JOB_STATE_PAUSING:
      return to == v1::JOB_STATE_PAUSED || to == v1::JOB_STATE_QUEUED || to == v1::JOB_STATE_RECOVERING ||
             to == v1::JOB_STATE_STOPPING;
    case v1::JOB_STATE_PAUSED:
      return to == v1::JOB_STATE_QUEUED || to == v1::JOB_STATE_STOPPING;
    case v1::JOB_STATE_STOPPING:
      return is_terminal(to);
    default:
      return false;
  }
}

}  // namespace qwen3::coordinator
