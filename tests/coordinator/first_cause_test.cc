#include "coordinator/first_cause.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

namespace qwen3::coordinator {
namespace {

using ::testing::HasSubstr;

Evidence exited(int32_t rank, int32_t code) {
  Evidence evidence{.worker = "workers/w" + std::to_string(rank)};
  evidence.exit.set_rank(rank);
  evidence.exit.set_exit_code(code);
  return evidence;
}
Evidence killed(int32_t rank, int32_t signal) {
  Evidence evidence = exited(rank, -1);
  evidence.exit.set_signal(signal);
  return evidence;
}
Evidence oom(int32_t rank) {
  Evidence evidence = killed(rank, 9);
  evidence.exit.set_oom_killed(true);
  return evidence;
}
Evidence aborted(int32_t rank) {
  Evidence evidence = killed(rank, 9);
  evidence.exit.set_aborted(true);
  return evidence;
}
Evidence victim(int32_t rank) {
  Evidence evidence = exited(rank, 1);
  evidence.exit.set_peer_lost(true);
  return evidence;
}
Evidence said(int32_t rank, v1::FailureClass kind, const std::string& reason) {
  Evidence evidence = exited(rank, 1);
  evidence.exit.mutable_failure()->set_class_(kind);
  evidence.exit.mutable_failure()->set_reason(reason);
  return evidence;
}
Evidence lost(const std::string& worker) {
  return {.worker = worker, .worker_lost = true, .message = "its lease expired"};
}

TEST(FirstCause, IsTheSameInWhateverOrderTheRanksReport) {
  // From most to least to blame; in every order each subset is blamed on its first.
  const std::vector<Evidence> blame = {
      oom(0),       lost("workers/w9"), killed(2, 11), said(3, v1::FAILURE_CLASS_INTERNAL, "BUG"),
      exited(4, 3), victim(5),          aborted(6)};
  const std::vector<std::string> reasons = {"OOM_KILLED",  "WORKER_LOST", "RANK_KILLED", "BUG",
                                            "RANK_EXITED", "PEER_LOST",   "ABORTED"};
  for (size_t first = 0; first < blame.size(); ++first) {
    std::vector<size_t> order;
    for (size_t i = first; i < blame.size(); ++i) order.push_back(i);
    do {
      std::vector<Evidence> evidence;
      for (const size_t i : order) evidence.push_back(blame[i]);
      ASSERT_EQ(first_cause(evidence, 7).reason(), reasons[first]);
    } while (std::ranges::next_permutation(order).found);
  }
}

TEST(FirstCause, AKillWeSentIsNeverBlamed) {
  EXPECT_FALSE(is_cause(aborted(0)));
  EXPECT_EQ(first_cause({aborted(0), victim(1)}, 0).reason(), "PEER_LOST");
}

TEST(FirstCause, NamesRankWorkerStepAndSignal) {
  const v1::Failure failure = first_cause({victim(0), killed(1, 9)}, 12);
  EXPECT_EQ(failure.class_(), v1::FAILURE_CLASS_INFRA);
  EXPECT_EQ(failure.rank(), 1);
  EXPECT_EQ(failure.worker(), "workers/w1");
  EXPECT_EQ(failure.step(), 12);
  EXPECT_EQ(failure.message(), "rank 1 on workers/w1 was killed by signal 9 (Killed) after step 12");
}

TEST(FirstCause, ARanksOwnWordKeepsItsClass) {
  const v1::Failure failure = first_cause({victim(0), said(1, v1::FAILURE_CLASS_USER, "NON_FINITE")}, 3);
  EXPECT_EQ(failure.class_(), v1::FAILURE_CLASS_USER);
  EXPECT_EQ(failure.reason(), "NON_FINITE");
  EXPECT_EQ(failure.rank(), 1);
}

TEST(FirstCause, OfEqualEvidenceTheFirstReported) {
  EXPECT_EQ(first_cause({killed(3, 11), killed(1, 9)}, 0).rank(), 3);
}

}  // namespace
}  // namespace qwen3::coordinator
