#include "coordinator/retry_budget.h"

#include "absl/strings/str_cat.h"

namespace qwen3::coordinator {

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

}  // namespace qwen3::coordinator
