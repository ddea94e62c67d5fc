// Whose fault an exception of a rank is said to be: the coordinator retries a job, or does not, by these words.
#include "worker/rank/error_boundary.h"

#include <c10/util/Exception.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <new>

namespace qwen3::rank {
namespace {

using ::testing::StartsWith;

internal::v1::RankFailed report_of(const std::function<void()>& body) {
  const auto failed = run_guarded(body);
  EXPECT_TRUE(failed) << "nothing was caught";
  return failed.value_or(internal::v1::RankFailed());
}

TEST(ErrorBoundary, OnlyALostPeerMakesARankAVictim) {
  const auto lost = report_of([] { C10_THROW_ERROR(DistBackendError, "a peer is lost"); });
  EXPECT_TRUE(lost.peer_lost());
  EXPECT_EQ(lost.failure().class_(), v1::FAILURE_CLASS_INFRA);

  const auto own = report_of([] { TORCH_CHECK_VALUE(false, "expected [2], got [3]"); });
  EXPECT_FALSE(own.peer_lost());
  EXPECT_EQ(own.failure().class_(), v1::FAILURE_CLASS_INTERNAL);
  EXPECT_THAT(own.failure().message(), StartsWith("expected [2], got [3]"));
}

TEST(ErrorBoundary, LackOfMemoryIsTheUsers) {
  const auto tensor = report_of([] { C10_THROW_ERROR(OutOfMemoryError, "no memory for a tensor"); });
  const auto host = report_of([] { throw std::bad_alloc(); });
  for (const auto& failed : {tensor, host}) {
    EXPECT_FALSE(failed.peer_lost());
    EXPECT_EQ(failed.failure().class_(), v1::FAILURE_CLASS_USER);
    EXPECT_EQ(failed.failure().reason(), "OUT_OF_MEMORY");
  }
}

TEST(ErrorBoundary, ABodyThatReturnsIsNoFailure) {
  EXPECT_FALSE(run_guarded([] {}));
}

}  // namespace
}  // namespace qwen3::rank
