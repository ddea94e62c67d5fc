// Whether a job gets a new attempt after one failed, when, and on which workers not yet. Pure.
#pragma once
#include <cstdint>
#include <optional>

#include "absl/time/time.h"
#include "qwen3/v1/job.pb.h"

namespace qwen3::coordinator {

struct RetryState {
  int32_t infra_retries = 0;              // attempts that ended by infrastructure, this one included
  int32_t attempts_without_progress = 0;  // in a row without a new committed step, this one included
};

struct RetryBounds {
  int64_t max_infra_retries = 10;
  int64_t max_attempts_without_progress = 3;     // 0: no bound
  const char* name = "retry.max_infra_retries";  // of the first bound, for messages
};

// A task makes no progress that survives its ranks: each attempt is a new beginning.
inline constexpr RetryBounds kTaskRetryBounds = {3, 0, "the bound on an operation's retries"};

// Nothing: try again. Otherwise the failure the job ends with: `cause` itself for USER and INTERNAL (never retried) and
// for a spent budget, NO_PROGRESS for a job that fails again and again at one place.
std::optional<v1::Failure> final_failure(const v1::Failure& cause, const RetryState& state, const RetryBounds& bounds);

// From the end of an attempt to the next one: nothing after the first in a row without progress, so that a killed rank
// is replaced at once; then 1 s, doubling to 60 s.
absl::Duration retry_delay(int32_t attempts_without_progress);

// How long a worker rests (is given no ranks) after `faults` attempts in a row that it declined or whose ranks died on
// it before they worked: 1 s, doubling to 60 s. A first death is the job's fault as likely, and costs no rest.
absl::Duration rest_after(int32_t faults, bool declined);
// From so many faults in a row on, a worker that rests is as good as absent: no job keeps its place for its slots.
inline constexpr int32_t kFaultsOfAnAbsentWorker = 3;

}  // namespace qwen3::coordinator
