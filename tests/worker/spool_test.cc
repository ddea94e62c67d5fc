#include "worker/daemon/spool.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace qwen3::worker {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

constexpr size_t kAll = 1 << 20;
const AttemptId kFirst{"tenants/default/jobs/a", 1, 1};
const AttemptId kSecond{"tenants/default/jobs/b", 1, 1};

v1::LogRecord log(const std::string& line, int rank = 0) {
  v1::LogRecord record;
  record.set_rank(rank);
  record.set_line(line);
  return record;
}

v1::MetricRecord metric(int64_t step) {
  v1::MetricRecord record;
  record.mutable_report()->set_step(step);
  return record;
}

std::vector<std::string> lines(const internal::v1::RecordBatch& batch) {
  std::vector<std::string> result;
  for (const auto& record : batch.logs()) result.push_back(record.line());
  return result;
}

std::vector<int64_t> seqs(const internal::v1::RecordBatch& batch) {
  std::vector<int64_t> result;
  for (const auto& record : batch.logs()) result.push_back(record.seq());
  return result;
}

TEST(Spool, EachRankOfAnAttemptHasADenseSeqForLogsAndOneForMetrics) {
  Spool spool;
  spool.add(kFirst, log("a"));
  spool.add(kFirst, log("b", /*rank=*/1));
  spool.add(kFirst, metric(1));
  spool.add(kFirst, log("c"));
  const auto batch = spool.next_batch(kAll);
  ASSERT_TRUE(batch.has_value());
  EXPECT_THAT(lines(*batch), ElementsAre("a", "b", "c"));
  EXPECT_THAT(seqs(*batch), ElementsAre(1, 1, 2));
  ASSERT_EQ(batch->metrics_size(), 1);
  EXPECT_EQ(batch->metrics(0).seq(), 1);
  EXPECT_EQ(batch->metrics(0).attempt(), 1);
  EXPECT_EQ(batch->key().job(), kFirst.job);
}

TEST(Spool, RecordsComeAgainUntilTheirBatchIsAcknowledged) {
  Spool spool;
  spool.add(kFirst, log("a"));
  const auto lost = spool.next_batch(kAll);
  spool.add(kFirst, log("b"));
  const auto again = spool.next_batch(kAll);
  EXPECT_THAT(lines(*again), ElementsAre("a", "b"));
  spool.acknowledge(lost->batch());  // late: of a stream that is gone
  EXPECT_FALSE(spool.empty());
  spool.acknowledge(again->batch());
  EXPECT_TRUE(spool.empty());
  spool.acknowledge(again->batch());  // twice is harmless
  EXPECT_FALSE(spool.next_batch(kAll).has_value());
}

TEST(Spool, WhatIsAddedWhileABatchIsUnderWayStays) {
  Spool spool;
  spool.add(kFirst, log("a"));
  const auto batch = spool.next_batch(kAll);
  spool.add(kFirst, log("b"));
  spool.acknowledge(batch->batch());
  EXPECT_THAT(lines(*spool.next_batch(kAll)), ElementsAre("b"));
}

TEST(Spool, ABatchIsBoundedAndTheNextGoesOn) {
  Spool spool;
  for (int i = 0; i < 10; ++i) spool.add(kFirst, log(std::string(1000, 'a' + i)));
  std::vector<int64_t> all;
  while (const auto batch = spool.next_batch(/*max_bytes=*/2500)) {
    EXPECT_LE(batch->logs_size(), 3);
    for (int64_t seq : seqs(*batch)) all.push_back(seq);
    spool.acknowledge(batch->batch());
  }
  EXPECT_THAT(all, ElementsAre(1, 2, 3, 4, 5, 6, 7, 8, 9, 10));
}

TEST(Spool, AFloodOfOneAttemptDoesNotHoldUpAnother) {
  Spool spool;
  for (int i = 0; i < 100; ++i) spool.add(kFirst, log(std::string(1000, 'x')));
  spool.add(kSecond, log("one line"));
  const auto first = spool.next_batch(2500);
  spool.acknowledge(first->batch());
  EXPECT_THAT(lines(*spool.next_batch(2500)), ElementsAre("one line"));
}

TEST(Spool, MetricsOvertakeLogs) {
  Spool spool;
  for (int i = 0; i < 100; ++i) spool.add(kFirst, log(std::string(1000, 'x')));
  spool.add(kFirst, metric(7));
  const auto batch = spool.next_batch(2500);
  ASSERT_EQ(batch->metrics_size(), 1);
  EXPECT_EQ(batch->metrics(0).report().step(), 7);
}

TEST(Spool, WhenFullTheOldestLinesStayAndTheNextOneTellsHowManyWereDropped) {
  Spool spool(/*max_bytes=*/10'000);
  for (int i = 0; i < 100; ++i) spool.add(kFirst, log(std::string(1000, 'x')));
  auto batch = spool.next_batch(kAll);
  const int kept = batch->logs_size();
  EXPECT_GT(kept, 5);
  EXPECT_LT(kept, 10);
  spool.acknowledge(batch->batch());
  spool.add(kFirst, log("after"));
  batch = spool.next_batch(kAll);
  EXPECT_THAT(lines(*batch), ElementsAre("after"));
  EXPECT_EQ(batch->logs(0).dropped(), 100 - kept);
  EXPECT_EQ(batch->logs(0).seq(), kept + 1);  // dense all the same
}

TEST(Spool, FullOfLogsItStillTakesMetrics) {
  Spool spool(/*max_bytes=*/10'000);
  for (int i = 0; i < 100; ++i) spool.add(kFirst, log(std::string(1000, 'x')));
  spool.add(kFirst, metric(1));
  EXPECT_EQ(spool.next_batch(kAll)->metrics_size(), 1);
}

TEST(Spool, ARestartedAttemptNumberOfAnotherEpochCountsAnew) {
  Spool spool;
  spool.add(kFirst, log("a"));
  spool.close(kFirst);
  spool.acknowledge(spool.next_batch(kAll)->batch());
  spool.add({kFirst.job, 2, 2}, log("b"));
  const auto batch = spool.next_batch(kAll);
  EXPECT_THAT(seqs(*batch), ElementsAre(1));
  EXPECT_EQ(batch->logs(0).attempt(), 2);
}

TEST(Spool, KnowsWhoseRecordsAreNotAcknowledged) {
  Spool spool;
  EXPECT_FALSE(spool.holds(kFirst, 0));
  spool.add(kFirst, log("a"));
  spool.add(kFirst, metric(1));
  EXPECT_TRUE(spool.holds(kFirst, 0));
  EXPECT_FALSE(spool.holds(kFirst, 1));
  EXPECT_FALSE(spool.holds(kSecond, 0));
  spool.acknowledge(spool.next_batch(kAll)->batch());
  EXPECT_FALSE(spool.holds(kFirst, 0));
}

TEST(Spool, AClosedAttemptKeepsWhatIsNotAcknowledged) {
  Spool spool;
  spool.add(kFirst, log("last words"));
  spool.close(kFirst);
  EXPECT_THAT(lines(*spool.next_batch(kAll)), ElementsAre("last words"));
}

}  // namespace
}  // namespace qwen3::worker
