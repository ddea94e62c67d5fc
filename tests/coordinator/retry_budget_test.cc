#include "coordinator/retry_budget.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace qwen3::coordinator {
namespace {

v1::Failure failure(v1::FailureClass kind) {
  v1::Failure result;
  result.set_class_(kind);
  result.set_reason("RANK_KILLED");
  result.set_message("rank 1 was killed");
  return result;
}

TEST(RetryBudget, UserAndInternalFailuresAreFinalAtOnce) {
  EXPECT_TRUE(final_failure(failure(v1::FAILURE_CLASS_USER), {.infra_retries = 0}, {}).has_value());
  EXPECT_TRUE(final_failure(failure(v1::FAILURE_CLASS_INTERNAL), {.infra_retries = 0}, {}).has_value());
}

TEST(RetryBudget, InfrastructureIsRetriedUntilTheBudgetIsSpent) {
  const RetryBounds bounds{.max_infra_retries = 2, .max_attempts_without_progress = 100};
  const v1::Failure cause = failure(v1::FAILURE_CLASS_INFRA);
  EXPECT_FALSE(final_failure(cause, {.infra_retries = 2}, bounds).has_value());
  const auto last = final_failure(cause, {.infra_retries = 3}, bounds);
  ASSERT_TRUE(last.has_value());
  EXPECT_EQ(last->reason(), "RANK_KILLED");
  EXPECT_THAT(last->message(), ::testing::HasSubstr("retry.max_infra_retries = 2"));
}

TEST(RetryBudget, AJobThatFailsAtOnePlaceIsStopped) {
  const auto last =
      final_failure(failure(v1::FAILURE_CLASS_INFRA), {.infra_retries = 3, .attempts_without_progress = 3},
                    {.max_infra_retries = 10, .max_attempts_without_progress = 3});
  ASSERT_TRUE(last.has_value());
  EXPECT_EQ(last->reason(), "NO_PROGRESS");
  EXPECT_THAT(last->message(), ::testing::HasSubstr("rank 1 was killed"));
}

TEST(RetryBudget, TheFirstRetryIsAtOnceAndTheNextOnesBackOff) {
  EXPECT_EQ(retry_delay(0), absl::ZeroDuration());
  EXPECT_EQ(retry_delay(1), absl::ZeroDuration());
  EXPECT_EQ(retry_delay(2), absl::Seconds(1));
  EXPECT_EQ(retry_delay(3), absl::Seconds(2));
  EXPECT_EQ(retry_delay(8), absl::Seconds(60));
  EXPECT_EQ(retry_delay(1'000'000), absl::Seconds(60));
}

TEST(RetryBudget, AWorkerThatDeclinesRestsAtOnceAndOneWhoseRanksDieFromTheSecondOn) {
  EXPECT_EQ(rest_after(1, /*declined=*/true), absl::Seconds(1));
  EXPECT_EQ(rest_after(3, /*declined=*/true), absl::Seconds(4));
  EXPECT_EQ(rest_after(1, /*declined=*/false), absl::ZeroDuration());
  EXPECT_EQ(rest_after(2, /*declined=*/false), absl::Seconds(2)) << "longer than the job waits";
  EXPECT_EQ(rest_after(100, /*declined=*/false), absl::Seconds(60));
}

}  // namespace
}  // namespace qwen3::coordinator
