// Whether a job gets a new attempt after one failed. Pure.
#pragma once
#include <cstdint>
#include <optional>

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

}  // namespace qwen3::coordinator
