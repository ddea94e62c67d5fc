// What bad hosts, slow or full disks and lost messages may cost a job: time, but nothing that it has saved.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "coordinator/controller.h"
#include "tests/coordinator/simulated_world.h"

namespace qwen3::coordinator {
namespace {

using internal::v1::AttemptKey;
using internal::v1::CoordinatorMessage;
using testing::count;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using testing::RunningJob;
using testing::SimulatedWorld;

std::vector<CoordinatorMessage::MessageCase> kinds(const std::vector<CoordinatorMessage>& messages) {
  std::vector<CoordinatorMessage::MessageCase> kinds;
  for (const CoordinatorMessage& message : messages) kinds.push_back(message.message_case());
  return kinds;
}

// Both ranks of the job are gone, by no fault of theirs.
void kill_both(SimulatedWorld& world, const AttemptKey& key) {
  world.exit_by_signal("a", key, 0, 9);
  world.exit_by_signal("b", key, 1, 9, /*aborted=*/true);
}

// Lets the attempt that a was assigned last do a step.
AttemptKey start(SimulatedWorld& world) {
  const AttemptKey key = world.read_assign("a")->key();
  world.accept("a", key);
  world.accept("b", key);
  world.step("a", key, 1);
  return key;
}

TEST(Recovery, AWorkerThatDeclinesRestsAndCostsTheJobOnlyTime) {
  SimulatedWorld world;
  const std::string name = world.submit("j", 1);
  world.connect("bad", 1);
  for (int attempt = 1; attempt <= 5; ++attempt) {
    const auto assign = world.read_assign("bad");
    ASSERT_NE(assign, nullptr) << "attempt " << attempt;
    world.decline("bad", assign->key());
    EXPECT_EQ(world.job(name).state(), v1::JOB_STATE_QUEUED);
    EXPECT_THAT(world.controller().live(name)->status_message, HasSubstr("workers/bad did not take its ranks: no"));
    world.pass_with_beats(absl::Seconds(1 << (attempt - 1)) - absl::Milliseconds(100));
    EXPECT_EQ(world.read_assign("bad"), nullptr) << "it rests";
    world.pass_with_beats(absl::Milliseconds(100));
  }
  world.decline("bad", world.read_assign("bad")->key());
  EXPECT_EQ(world.jobs.at(name).infra_retries(), 0);
  EXPECT_EQ(world.jobs.at(name).attempts_without_progress(), 0);
  world.connect("good", 1);
  EXPECT_NE(world.read_assign("good"), nullptr);
}

TEST(Recovery, AWorkerThatDeclinesAgainAndAgainHoldsUpNoOtherJob) {
  SimulatedWorld world;
  const std::string wide = world.submit("wide", 2);
  const std::string narrow = world.submit("narrow", 1);
  world.connect("bad", 1);
  EXPECT_EQ(world.read_assign("bad")->key().job(), narrow) << "wide waits for a second worker";
  world.controller().cancel(narrow, world.now, [](const absl::Status&) {});
  world.pass(absl::Seconds(6));
  world.connect("good", 1);
  for (int attempt = 1; attempt <= 3; ++attempt) {
    const auto assign = world.read_assign("bad");
    ASSERT_NE(assign, nullptr) << "attempt " << attempt;
    world.decline("bad", assign->key());
    world.exit_by_signal("good", assign->key(), 1, 9, /*aborted=*/true);
    if (attempt < 3) world.pass_with_beats(absl::Seconds(attempt));
  }
  EXPECT_EQ(world.controller().live(wide)->pending_reason, "WAITING_FOR_WORKERS");
  EXPECT_EQ(world.job(world.submit("next", 1)).state(), v1::JOB_STATE_SCHEDULED);
}

TEST(Recovery, AJobWhoseRanksDieAtTheirStartGoesToAnotherWorkerBeforeItFails) {
  SimulatedWorld world;
  world.connect("bad", 1);
  world.connect("good", 1);
  const std::string name = world.submit("j", 1);
  for (int attempt = 1; attempt <= 2; ++attempt) {
    const auto assign = world.read_assign("bad");
    ASSERT_NE(assign, nullptr) << "attempt " << attempt;
    world.accept("bad", assign->key());
    world.exit_by_signal("bad", assign->key(), 0, 11);
  }
  EXPECT_EQ(world.job(name).state(), v1::JOB_STATE_RECOVERING);
  world.pass(absl::Seconds(1));
  EXPECT_EQ(world.read_assign("bad"), nullptr);
  EXPECT_NE(world.read_assign("good"), nullptr);
}

TEST(Recovery, TheFirstRetryIsAtOnceTheSecondWaitsAndKeepsItsPlace) {
  SimulatedWorld world;
  const RunningJob job(world);
  kill_both(world, job.key);
  const AttemptKey second = start(world);
  EXPECT_EQ(second.attempt(), 2) << "no time has passed";
  kill_both(world, second);
  EXPECT_EQ(world.read_assign("a"), nullptr);
  EXPECT_EQ(world.controller().live(job.name)->pending_reason, "WAITING_TO_RETRY");
  EXPECT_THAT(world.controller().live(job.name)->status_message, HasSubstr("waits 1s; the last one: rank 0"));
  const std::string other = world.submit("other", 1);
  EXPECT_EQ(world.job(other).state(), v1::JOB_STATE_QUEUED) << "the slots are kept for the older job";
  world.pass(absl::Seconds(1));
  EXPECT_EQ(start(world).attempt(), 3);
}

TEST(Recovery, ACommitIsToldBeforeItsPartsAreAcknowledged) {
  SimulatedWorld world;
  const RunningJob job(world);
  world.prepare("a", job.key, 0, 100);
  world.prepare("b", job.key, 1, 100);
  EXPECT_THAT(kinds(world.read("a")),
              ElementsAre(CoordinatorMessage::kCheckpointCommitted, CoordinatorMessage::kPreparedAck));
  world.prepare("a", job.key, 0, 100);  // said again
  EXPECT_THAT(kinds(world.read("a")),
              ElementsAre(CoordinatorMessage::kCheckpointCommitted, CoordinatorMessage::kPreparedAck));
}

TEST(Recovery, ADaemonThatComesBackHearsOfTheNewestCommit) {
  SimulatedWorld world;
  const RunningJob job(world);
  world.prepare("a", job.key, 0, 100);
  world.prepare("b", job.key, 1, 100);
  world.disconnect("b");  // it may have got the acknowledgement and not the rest
  world.connect("b", 1, "1", {job.key});
  EXPECT_EQ(count(world.read("b"), CoordinatorMessage::kCheckpointCommitted), 1);
}

TEST(Recovery, AStoresAddressThatIsKnownIsToldToADaemonThatAcceptsLater) {
  SimulatedWorld world;
  world.submit("j", 2);
  world.connect("a", 1);
  world.connect("b", 1);
  const AttemptKey key = world.read_assign("a")->key();
  world.accept("a", key);
  world.store_ready("a", key, "127.0.0.1:5");
  world.read("b");  // it has no rank to tell yet: the slot's last one is not reaped
  world.accept("b", key);
  EXPECT_EQ(count(world.read("b"), CoordinatorMessage::kStoreAddress), 1);
}

TEST(Recovery, AnAttemptIsNotWithoutProgressWhileItsCheckpointIsBeingCommitted) {
  SimulatedWorld world;
  const RunningJob job(world);
  AttemptKey key = job.key;
  for (int attempt = 1; attempt <= 2; ++attempt) {
    kill_both(world, key);
    world.pass(absl::Seconds(1));
    key = start(world);
  }
  world.hold_manifests = true;
  world.prepare("a", key, 0, 10);
  world.prepare("b", key, 1, 10);
  kill_both(world, key);
  EXPECT_EQ(world.job(job.name).state(), v1::JOB_STATE_RUNNING);
  world.release_manifests();
  EXPECT_EQ(world.job(job.name).state(), v1::JOB_STATE_RECOVERING) << "the third attempt in a row would be the last";
  EXPECT_EQ(world.read_assign("a")->assignment().restore_step(), 10);
}

TEST(Recovery, ACancelledJobEndsAfterTheCommitThatIsUnderWay) {
  SimulatedWorld world;
  const RunningJob job(world);
  world.hold_manifests = true;
  world.prepare("a", job.key, 0, 10);
  world.prepare("b", job.key, 1, 10);
  world.controller().cancel(job.name, world.now, [](const absl::Status&) {});
  world.settle();
  world.finish("a", job.key, 0, 11, /*stopped=*/true);
  world.finish("b", job.key, 1, 11, /*stopped=*/true);
  EXPECT_EQ(world.job(job.name).state(), v1::JOB_STATE_STOPPING);
  world.release_manifests();
  EXPECT_EQ(world.job(job.name).state(), v1::JOB_STATE_CANCELLED);
  EXPECT_EQ(world.checkpoints.at(job.name).at(10).state(), v1::CHECKPOINT_STATE_COMMITTED);
}

TEST(Recovery, RanksAreStoppedOnlyWhenTheCancelIsOnDisk) {
  SimulatedWorld world;
  const RunningJob job(world);
  world.controller().cancel(job.name, world.now, [](const absl::Status&) {});
  EXPECT_THAT(world.read("a"), IsEmpty());
  world.settle();
  EXPECT_EQ(count(world.read("a"), CoordinatorMessage::kControl), 1);
}

TEST(Recovery, ACheckpointOfWhichARankCouldNotWriteItsPartIsGivenUp) {
  SimulatedWorld world;
  const RunningJob job(world);
  world.fail_to_prepare("b", job.key, 1, 10, "disk full");
  EXPECT_THAT(world.removed_folders, IsEmpty()) << "rank 0 may be writing there";
  world.prepare("a", job.key, 0, 10);
  EXPECT_THAT(world.removed_folders, ElementsAre("/root/checkpoint/j/step-10.attempt-1"));
  EXPECT_EQ(world.events.at(job.name).back().event.kind(), "CHECKPOINT_SKIPPED");
  EXPECT_EQ(world.events.at(job.name).back().event.message(), "step 10: rank 1: disk full");
  for (const char* worker : {"a", "b"}) {
    EXPECT_THAT(kinds(world.read(worker)), ElementsAre(CoordinatorMessage::kPreparedAck)) << "it waits no longer";
  }
  world.prepare("a", job.key, 0, 10);  // said again after a reconnect
  EXPECT_THAT(kinds(world.read("a")), ElementsAre(CoordinatorMessage::kPreparedAck));
  world.prepare("a", job.key, 0, 20);
  world.prepare("b", job.key, 1, 20);
  EXPECT_EQ(world.job(job.name).latest_checkpoint(), job.name + "/checkpoints/step-20");
}

// The attempt that a was assigned last cannot read its checkpoint; returns the step it was to start from.
int64_t fail_to_restore(SimulatedWorld& world) {
  const auto assign = world.read_assign("a");
  if (assign == nullptr) return -1;
  world.accept("a", assign->key());
  world.accept("b", assign->key());
  world.fail("a", assign->key(), 0, v1::FAILURE_CLASS_INFRA, "chunk 3 differs", "CHECKPOINT_UNREADABLE");
  world.exit_by_signal("b", assign->key(), 1, 9, /*aborted=*/true);
  return assign->assignment().restore_step();
}

void commit(SimulatedWorld& world, const AttemptKey& key, int64_t step) {
  world.prepare("a", key, 0, step);
  world.prepare("b", key, 1, step);
}

// Commits these checkpoints, then both ranks are killed.
void commit_and_kill(SimulatedWorld& world, const AttemptKey& key, const std::vector<int64_t>& steps) {
  for (const int64_t step : steps) commit(world, key, step);
  world.read_assign("a");
  kill_both(world, key);
}

TEST(Recovery, AJobWhoseNewestCheckpointCannotBeReadGoesOnFromTheOneBefore) {
  SimulatedWorld world;
  const RunningJob job(world);
  commit_and_kill(world, job.key, {10, 20});
  EXPECT_EQ(fail_to_restore(world), 20);
  EXPECT_EQ(world.checkpoints.at(job.name).at(20).state(), v1::CHECKPOINT_STATE_COMMITTED) << "perhaps a host's fault";
  EXPECT_EQ(fail_to_restore(world), 20);
  EXPECT_EQ(world.checkpoints.at(job.name).at(20).state(), v1::CHECKPOINT_STATE_UNREADABLE);
  EXPECT_EQ(world.jobs.at(job.name).attempts_without_progress(), 0) << "each had something new to try";
  EXPECT_THAT(world.removed_folders, IsEmpty());
  EXPECT_EQ(world.job(job.name).latest_checkpoint(), job.name + "/checkpoints/step-10");

  world.restart_coordinator();  // remembers it
  world.connect("a", 1);
  world.connect("b", 1);
  const auto assign = world.read_assign("a");
  ASSERT_NE(assign, nullptr);
  EXPECT_EQ(assign->assignment().restore_step(), 10);
  world.accept("a", assign->key());
  world.accept("b", assign->key());
  world.step("a", assign->key(), 11);
  commit(world, assign->key(), 20);  // the same step again, elsewhere
  EXPECT_EQ(world.checkpoints.at(job.name).at(20).state(), v1::CHECKPOINT_STATE_COMMITTED);
  EXPECT_EQ(world.job(job.name).latest_checkpoint(), job.name + "/checkpoints/step-20");
}

TEST(Recovery, ACheckpointThatWasReadInBetweenIsNotInDoubt) {
  SimulatedWorld world;
  const RunningJob job(world);
  commit_and_kill(world, job.key, {10, 20});
  EXPECT_EQ(fail_to_restore(world), 20);
  const auto assign = world.read_assign("a");
  world.accept("a", assign->key());
  world.accept("b", assign->key());
  world.step("a", assign->key(), 21);
  kill_both(world, assign->key());
  world.pass_with_beats(absl::Seconds(1));
  EXPECT_EQ(fail_to_restore(world), 20);
  EXPECT_EQ(world.checkpoints.at(job.name).at(20).state(), v1::CHECKPOINT_STATE_COMMITTED);
}

TEST(Recovery, AJobWhoseOnlyCheckpointCannotBeReadFailsAndDoesNotBeginAnew) {
  SimulatedWorld world;
  const RunningJob job(world);
  commit_and_kill(world, job.key, {10});
  for (int attempt = 1; attempt <= 3; ++attempt) {
    world.pass_with_beats(absl::Seconds(2));
    EXPECT_EQ(fail_to_restore(world), 10);
  }
  EXPECT_EQ(world.job(job.name).state(), v1::JOB_STATE_FAILED);
  EXPECT_THAT(world.job(job.name).failure().message(), HasSubstr("chunk 3 differs"));
  EXPECT_EQ(world.checkpoints.at(job.name).at(10).state(), v1::CHECKPOINT_STATE_COMMITTED);
}

TEST(Recovery, AWarmStartFromACheckpointThatWasPrunedDuringTheCheckIsNotPromised) {
  SimulatedWorld world;
  const RunningJob job(world);
  for (const int64_t step : {10, 20, 30}) {  // two are kept
    world.prepare("a", job.key, 0, step);
    world.prepare("b", job.key, 1, step);
  }
  const auto warm_start = [&](const std::string& id, const std::string& folder) {
    NewJob next;
    next.stored.mutable_job()->set_name("tenants/default/jobs/" + id);
    next.stored.mutable_job()->mutable_plan()->set_world_size(9);
    next.stored.set_initial_load_folder(folder);
    absl::Status answer;
    world.controller().create(std::move(next), world.now,
                              [&](const absl::StatusOr<CreatedJob>& created) { answer = created.status(); });
    world.settle();
    return answer;
  };
  const absl::Status pruned = warm_start("late", "/root/checkpoint/j/step-10.attempt-1");
  EXPECT_TRUE(absl::IsUnavailable(pruned)) << pruned;
  const absl::Status kept = warm_start("in-time", "/root/checkpoint/j/step-20.attempt-1");
  EXPECT_TRUE(kept.ok()) << kept;
}

}  // namespace
}  // namespace qwen3::coordinator
