#include "coordinator/retry_budget.h"

#include <algorithm>

#include "absl/strings/str_cat.h"

namespace qwen3::coordinator {
namespace {

// The n-th of 1, 2, 4, ... 60 s. REQUIRES: n > 0.
absl::Duration doubling(int32_t n) { return absl::Seconds(std::min(60, 1 << std::min(n - 1, 6))); }

}  // namespace

std::optional<v1::Failure> final_failure(const v1::Failure& cause, const RetryState& state, const RetryBounds& bounds) {
  if (cause.class_() != v1::FAILURE_CLASS_INFRA) return cause;
  v1::Failure failure = cause;
  if (bounds.max_attempts_without_progress > 0 &&
      state.attempts_without_progress >= bounds.max_attempts_without_progress) {
    failure.set_reason("NO_PROGRESS");
    failure.set_message(absl::StrCat(state.attempts_without_progress,
                                     " attempts in a row ended without a new checkpoint "
                                     "(retry.max_attempts_without_progress = ",
                                     bounds.max_attempts_without_progress, "); the last one: ", cause.message()));
    return failure;
  }
  if (state.infra_retries > bounds.max_infra_retries) {
    failure.set_message(absl::StrCat(cause.message(), "; all ", bounds.name, " = ", bounds.max_infra_retries,
                                     " new attempts are spent"));
    return failure;
  }
  return std::nullopt;
}

absl::Duration retry_delay(int32_t attempts_without_progress) {
  return attempts_without_progress < 2 ? absl::ZeroDuration() : doubling(attempts_without_progress - 1);
}

absl::Duration rest_after(int32_t faults, bool declined) {
  return faults < (declined ? 1 : 2) ? absl::ZeroDuration() : doubling(faults);
}

}  // namespace qwen3::coordinator
