// kill -9 of each kind of process in the middle of training, once with its checkpoint damaged. The job must succeed,
// and since float32 ordered mode makes every run bitwise the same, its final loss and state must equal those of an
// undisturbed run, bit for bit.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <functional>
#include <vector>

#include "tests/e2e/service_fixture.h"

namespace qwen3::e2e {
namespace {

constexpr int kSlots = 2, kSteps = 16;
constexpr int kKillAfter = 6;  // between the checkpoints of steps 4 and 8

// Runs the job on two workers, with layers cut over `tp` ranks, and disturbs it once. Empty function: not disturbed.
v1::Job run(int tp, const std::function<void(Service&)>& disturb) {
  Service service(/*workers=*/2);
  v1::JobSpec spec = service.small_job(kSlots, kSteps);
  spec.mutable_parallelism()->set_tensor_parallel_degree(tp);
  spec.mutable_debug()->set_step_delay_ms(100);  // the kill falls well inside the run
  const auto name = service.submit(spec);
  EXPECT_TRUE(name.ok()) << name.status();
  if (!name.ok()) return {};
  if (disturb) {
    EXPECT_TRUE(service.wait_for_step(*name, kKillAfter)) << service.logs();
    disturb(service);
  }
  const auto job = service.wait(*name);
  EXPECT_TRUE(job.ok()) << job.status() << service.logs();
  if (!job.ok()) return {};
  EXPECT_EQ(job->state(), v1::JOB_STATE_SUCCEEDED) << job->ShortDebugString() << service.logs();
  return *job;
}

void expect_the_same_end(const v1::Job& job, const v1::Job& undisturbed) {
  EXPECT_EQ(job.progress().step(), kSteps);
  EXPECT_FALSE(job.result().final_loss_hex().empty());
  EXPECT_EQ(job.result().final_loss_hex(), undisturbed.result().final_loss_hex());
  EXPECT_EQ(job.result().state_digest(), undisturbed.result().state_digest());
}

void invert_last_byte(const std::string& path) {
  std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
  file.seekg(-1, std::ios::end);
  const auto byte = static_cast<char>(~file.get());
  file.seekp(-1, std::ios::end);
  file.put(byte);
  ASSERT_TRUE(file.flush()) << path;
}

class Kill : public ::testing::Test {
 protected:
  static void SetUpTestSuite() { undisturbed_ = run(/*tp=*/1, nullptr); }

  static v1::Job undisturbed_;
};

v1::Job Kill::undisturbed_;

TEST_F(Kill, OfARankStartsANewAttemptThatEndsTheSame) {
  const v1::Job job = run(/*tp=*/1, [](Service& service) { service.kill_rank(1); });
  EXPECT_EQ(job.attempt_count(), 2);
  expect_the_same_end(job, undisturbed_);
}

TEST_F(Kill, OfADaemonStartsANewAttemptThatEndsTheSame) {
  const v1::Job job = run(/*tp=*/1, [](Service& service) {
    service.kill_worker(0);
    service.start_worker(0);
  });
  EXPECT_EQ(job.attempt_count(), 2);
  expect_the_same_end(job, undisturbed_);
}

TEST_F(Kill, OfTheCoordinatorLosesNoStepAndEndsTheSame) {
  const v1::Job job = run(/*tp=*/1, [](Service& service) {
    service.kill_coordinator();
    service.start_coordinator();
  });
  EXPECT_EQ(job.attempt_count(), 1);
  expect_the_same_end(job, undisturbed_);
}

// Not only its process is lost, but what its rank wrote last.
TEST_F(Kill, OfARankWhoseNewestCheckpointIsDamagedGoesBackOneCheckpointAndEndsTheSame) {
  const v1::Job job = run(/*tp=*/1, [](Service& service) {
    const auto client = service.patient_client();
    std::vector<v1::Checkpoint> committed;
    for (int step = kKillAfter; committed.size() < 2 && step < kSteps; ++step) {
      const std::string name = client->list_jobs(1)->front().name();
      ASSERT_TRUE(service.wait_for_step(name, step));
      committed = *client->list_checkpoints(name);
    }
    ASSERT_GE(committed.size(), 2u);
    invert_last_byte(committed.back().folder() + "/rank-1.safetensors");
    service.kill_rank(1);
  });
  EXPECT_EQ(job.attempt_count(), 4) << "the killed one, two that could not read, and the last";
  expect_the_same_end(job, undisturbed_);
}

// Its bits are its own: other sums are rounded than with whole layers, in an order as fixed.
TEST(KillUnderTensorParallelism, OfARankStartsANewAttemptThatEndsTheSame) {
  const v1::Job undisturbed = run(/*tp=*/2, nullptr);
  const v1::Job job = run(/*tp=*/2, [](Service& service) { service.kill_rank(1); });
  EXPECT_EQ(job.attempt_count(), 2);
  expect_the_same_end(job, undisturbed);
}

}  // namespace
}  // namespace qwen3::e2e
