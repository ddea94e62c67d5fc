// One scene per rule of the control plane, and a random walk over all of them; over 400 lines because each scene is
// spelled out and they share one world.
#include "coordinator/controller.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>

#include "coordinator/job_state.h"
#include "tests/coordinator/simulated_world.h"

namespace qwen3::coordinator {
namespace {

using internal::v1::AttemptKey;
using internal::v1::CoordinatorMessage;
using ::testing::Contains;
using testing::count;
using ::testing::HasSubstr;
using testing::RunningJob;
using testing::SimulatedWorld;

TEST(Controller, AJobGoesFromTheQueueToSuccess) {
  SimulatedWorld world;
  const std::string name = world.submit("j", 2);
  EXPECT_EQ(world.job(name).state(), v1::JOB_STATE_QUEUED);
  EXPECT_EQ(world.controller().live(name)->pending_reason, "WAITING_FOR_WORKERS");
  world.connect("a", 1);
  EXPECT_EQ(world.job(name).state(), v1::JOB_STATE_QUEUED) << "half a gang is no gang";
  world.connect("b", 1);
  EXPECT_EQ(world.job(name).state(), v1::JOB_STATE_SCHEDULED);
  const AttemptKey key = world.read_assign("a")->key();
  world.accept("a", key);
  EXPECT_EQ(world.job(name).state(), v1::JOB_STATE_SCHEDULED) << "b has not accepted";
  world.accept("b", key);
  EXPECT_EQ(world.job(name).state(), v1::JOB_STATE_STARTING);
  world.step("a", key, 1);
  EXPECT_EQ(world.job(name).state(), v1::JOB_STATE_RUNNING);
  world.prepare("a", key, 0, 100);
  EXPECT_EQ(world.job(name).latest_checkpoint(), "") << "b has not prepared";
  world.prepare("b", key, 1, 100);
  EXPECT_EQ(world.job(name).latest_checkpoint(), name + "/checkpoints/step-100");
  world.finish("a", key, 0, 100);
  EXPECT_EQ(world.job(name).state(), v1::JOB_STATE_RUNNING) << "rank 1 has not finished";
  world.finish("b", key, 1, 100);
  EXPECT_EQ(world.job(name).state(), v1::JOB_STATE_SUCCEEDED);
  EXPECT_EQ(count(world.read("b"), CoordinatorMessage::kRankExitAck), 1);
}

TEST(Controller, TheStoresAddressReachesAllDaemonsOnceItIsOnDisk) {
  SimulatedWorld world;
  world.submit("j", 2);
  world.connect("a", 1);
  world.connect("b", 1);
  const AttemptKey key = world.read_assign("a")->key();
  world.accept("a", key);
  world.accept("b", key);
  world.read("b");
  world.store_ready("a", key, "127.0.0.1:5");
  EXPECT_EQ(count(world.read("b"), CoordinatorMessage::kStoreAddress), 1);
  EXPECT_EQ(world.attempts.begin()->second.at(1).store_address(), "127.0.0.1:5");
}

TEST(Controller, ALostRankCostsAnAttemptAndTheJobResumesFromItsCheckpoint) {
  SimulatedWorld world;
  RunningJob job(world);
  world.prepare("a", job.key, 0, 10);
  world.prepare("b", job.key, 1, 10);
  world.exit_by_signal("b", job.key, 1, 9);
  EXPECT_EQ(count(world.read("a"), CoordinatorMessage::kAbort), 1);
  EXPECT_EQ(world.job(job.name).state(), v1::JOB_STATE_RUNNING) << "a still has a rank";
  world.exit_by_signal("a", job.key, 0, 9, /*aborted=*/true);
  EXPECT_EQ(world.job(job.name).state(), v1::JOB_STATE_RECOVERING);
  EXPECT_EQ(world.job(job.name).failure().reason(), "RANK_KILLED");
  EXPECT_EQ(world.job(job.name).failure().rank(), 1);
  const auto assign = world.read_assign("a");
  ASSERT_NE(assign, nullptr);
  EXPECT_EQ(assign->key().attempt(), 2);
  EXPECT_GT(assign->key().epoch(), job.key.epoch());
  EXPECT_EQ(assign->assignment().restore_folder(), "/root/checkpoint/j/step-10.attempt-1");
  EXPECT_EQ(assign->assignment().restore_step(), 10);
  world.accept("a", assign->key());
  world.accept("b", assign->key());
  world.step("a", assign->key(), 11);
  EXPECT_EQ(world.job(job.name).state(), v1::JOB_STATE_RUNNING);
}

TEST(Controller, AVictimsReportWaitsForTheFirstCause) {
  SimulatedWorld world;
  RunningJob job(world);
  world.exit_as_victim("a", job.key, 0);
  EXPECT_EQ(count(world.read("b"), CoordinatorMessage::kAbort), 0) << "the cause may still be reported";
  world.pass(absl::Milliseconds(500));
  world.exit_by_signal("b", job.key, 1, 11);
  EXPECT_EQ(world.job(job.name).failure().reason(), "RANK_KILLED");
  EXPECT_EQ(world.job(job.name).failure().rank(), 1);
}

TEST(Controller, AVictimAloneStillEndsTheAttempt) {
  SimulatedWorld world;
  RunningJob job(world);
  world.exit_as_victim("a", job.key, 0);
  world.pass(absl::Seconds(2));
  EXPECT_EQ(count(world.read("b"), CoordinatorMessage::kAbort), 1);
  world.pass(absl::Seconds(6));  // b never says that its rank is gone
  EXPECT_EQ(world.job(job.name).state(), v1::JOB_STATE_RECOVERING);
}

TEST(Controller, ALostWorkerFencesItsAttempt) {
  SimulatedWorld world;
  world.pass(absl::Seconds(20));  // past the grace after a start
  RunningJob job(world);
  world.disconnect("b");
  world.pass(absl::Seconds(2));
  EXPECT_EQ(world.job(job.name).state(), v1::JOB_STATE_RUNNING) << "it has 3 s to come back";
  for (int second = 0; second < 3; ++second) {
    internal::v1::WorkerMessage beat;
    beat.mutable_beat();
    world.say("a", beat);
    world.pass(absl::Seconds(1));
  }
  world.exit_by_signal("a", job.key, 0, 9, /*aborted=*/true);
  EXPECT_EQ(world.job(job.name).state(), v1::JOB_STATE_RECOVERING);
  EXPECT_EQ(world.job(job.name).failure().reason(), "WORKER_LOST");

  world.connect("b", 1, "1", {job.key});  // it slept, and its rank still runs
  const auto messages = world.read("b");
  ASSERT_FALSE(messages.empty());
  EXPECT_EQ(messages[1].welcome().stale_size(), 1) << "it is told to kill the old attempt";
  world.prepare("b", job.key, 1, 50);
  EXPECT_EQ(world.job(job.name).latest_checkpoint(), "");
  EXPECT_EQ(count(world.read("b"), CoordinatorMessage::kAbort), 1) << "an old epoch cannot prepare";
}

TEST(Controller, ADaemonThatComesBackInTimeLosesNothing) {
  SimulatedWorld world;
  world.pass(absl::Seconds(20));
  RunningJob job(world);
  world.disconnect("b");
  world.pass(absl::Seconds(2));
  world.connect("b", 1, "1", {job.key});
  world.pass(absl::Seconds(4));
  EXPECT_EQ(world.job(job.name).state(), v1::JOB_STATE_RUNNING);
  EXPECT_EQ(world.job(job.name).attempt_count(), 1);
}

TEST(Controller, ARestartedDaemonHasLostItsRanks) {
  SimulatedWorld world;
  RunningJob job(world);
  world.disconnect("b");
  world.connect("b", 1, "2");
  world.exit_by_signal("a", job.key, 0, 9, /*aborted=*/true);
  EXPECT_EQ(world.job(job.name).state(), v1::JOB_STATE_RECOVERING);
  EXPECT_EQ(world.job(job.name).failure().reason(), "WORKER_LOST");
}

TEST(Controller, AUserFailureIsNotRetried) {
  SimulatedWorld world;
  RunningJob job(world);
  internal::v1::WorkerMessage message;
  *message.mutable_rank_exit()->mutable_key() = job.key;
  message.mutable_rank_exit()->set_exit_code(1);
  message.mutable_rank_exit()->mutable_failure()->set_class_(v1::FAILURE_CLASS_USER);
  message.mutable_rank_exit()->mutable_failure()->set_reason("NON_FINITE");
  world.say("a", message);
  world.exit_by_signal("b", job.key, 1, 9, /*aborted=*/true);
  EXPECT_EQ(world.job(job.name).state(), v1::JOB_STATE_FAILED);
  EXPECT_EQ(world.job(job.name).failure().reason(), "NON_FINITE");
  EXPECT_EQ(world.job(job.name).attempt_count(), 1);
}

TEST(Controller, AJobThatMakesNoProgressFails) {
  SimulatedWorld world;
  RunningJob job(world);
  AttemptKey key = job.key;
  for (int attempt = 1; attempt <= 3; ++attempt) {
    world.exit_by_signal("a", key, 0, 9);
    world.exit_by_signal("b", key, 1, 9, /*aborted=*/true);
    world.pass(absl::Seconds(1));
    if (const auto assign = world.read_assign("a")) key = assign->key();
  }
  EXPECT_EQ(world.job(job.name).state(), v1::JOB_STATE_FAILED);
  EXPECT_EQ(world.job(job.name).failure().reason(), "NO_PROGRESS");
  EXPECT_EQ(world.job(job.name).attempt_count(), 3);
}

TEST(Controller, ARestartOfTheCoordinatorKeepsARunningAttempt) {
  SimulatedWorld world;
  RunningJob job(world);
  world.restart_coordinator();
  world.connect("a", 1, "1", {job.key});
  world.pass(absl::Seconds(14));  // b takes its time, within the grace after a start
  EXPECT_EQ(world.job(job.name).state(), v1::JOB_STATE_RUNNING);
  world.connect("b", 1, "1", {job.key});
  world.prepare("a", job.key, 0, 100);
  world.prepare("b", job.key, 1, 100);
  world.finish("a", job.key, 0, 100);
  world.finish("b", job.key, 1, 100);
  EXPECT_EQ(world.job(job.name).state(), v1::JOB_STATE_SUCCEEDED);
  EXPECT_EQ(world.job(job.name).attempt_count(), 1);
}

TEST(Controller, AnAssignmentLostWithTheCoordinatorIsSentAgain) {
  SimulatedWorld world;
  world.submit("j", 1);
  world.connect("a", 1);
  ASSERT_NE(world.read_assign("a"), nullptr);
  world.restart_coordinator();
  world.connect("a", 1);  // it never got it
  const auto again = world.read_assign("a");
  ASSERT_NE(again, nullptr);
  EXPECT_EQ(again->key().attempt(), 1);
}

TEST(Controller, PreparedIsAcknowledgedOnlyWhenItsCheckpointIsCommittedAndAgainWhenAsked) {
  SimulatedWorld world;
  RunningJob job(world);
  world.prepare("a", job.key, 0, 10);
  EXPECT_EQ(count(world.read("a"), CoordinatorMessage::kPreparedAck), 0);
  world.prepare("b", job.key, 1, 10);
  EXPECT_EQ(count(world.read("a"), CoordinatorMessage::kPreparedAck), 1);
  EXPECT_EQ(world.events.at(job.name).back().event.message(),
            "step 10, 10 bytes in /root/checkpoint/j/step-10.attempt-1");
  world.prepare("a", job.key, 0, 10);  // the acknowledgement was lost
  const auto messages = world.read("a");
  EXPECT_EQ(count(messages, CoordinatorMessage::kPreparedAck), 1);
  EXPECT_EQ(count(messages, CoordinatorMessage::kCheckpointCommitted), 1);
  EXPECT_EQ(world.checkpoints.at(job.name).size(), 1u);
}

TEST(Controller, OlderCheckpointsArePrunedAfterTheNextIsCommitted) {
  SimulatedWorld world;
  RunningJob job(world);
  for (const int64_t step : {10, 20, 30}) {
    world.prepare("a", job.key, 0, step);
    world.prepare("b", job.key, 1, step);
  }
  EXPECT_THAT(world.removed_folders, ::testing::ElementsAre("/root/checkpoint/j/step-10.attempt-1"));
  EXPECT_EQ(world.checkpoints.at(job.name).at(10).state(), v1::CHECKPOINT_STATE_DELETED);
}

TEST(Controller, AManifestThatCannotBeWrittenFailsTheAttemptNotTheJob) {
  SimulatedWorld world;
  RunningJob job(world);
  world.manifest_status = absl::ResourceExhaustedError("disk full");
  world.prepare("a", job.key, 0, 10);
  world.prepare("b", job.key, 1, 10);
  world.exit_by_signal("a", job.key, 0, 9, /*aborted=*/true);
  world.exit_by_signal("b", job.key, 1, 9, /*aborted=*/true);
  EXPECT_EQ(world.job(job.name).state(), v1::JOB_STATE_RECOVERING);
  EXPECT_EQ(world.job(job.name).failure().reason(), "CHECKPOINT_COMMIT_FAILED");
  EXPECT_THAT(world.job(job.name).failure().message(), HasSubstr("disk full"));
}

TEST(Controller, CancelStopsAtAStepAndAfterAGraceByForce) {
  SimulatedWorld world;
  RunningJob job(world);
  absl::Status answer = absl::UnknownError("no answer");
  world.controller().cancel(job.name, world.now, [&](const absl::Status& status) { answer = status; });
  world.settle();
  EXPECT_TRUE(answer.ok());
  EXPECT_EQ(world.job(job.name).state(), v1::JOB_STATE_STOPPING);
  EXPECT_EQ(count(world.read("a"), CoordinatorMessage::kControl), 1);
  world.pass(absl::Seconds(9));
  EXPECT_EQ(count(world.read("a"), CoordinatorMessage::kAbort), 0);
  world.pass(absl::Seconds(2));
  EXPECT_EQ(count(world.read("a"), CoordinatorMessage::kAbort), 1);
  world.pass(absl::Seconds(6));  // nobody ever says that a rank is gone
  EXPECT_EQ(world.job(job.name).state(), v1::JOB_STATE_CANCELLED);
}

TEST(Controller, CancelEndsCancelledThoughEveryWorkerIsGone) {
  SimulatedWorld world;
  RunningJob job(world);
  world.disconnect("a");
  world.disconnect("b");
  world.controller().cancel(job.name, world.now, [](const absl::Status&) {});
  world.pass(absl::Seconds(20));
  EXPECT_EQ(world.job(job.name).state(), v1::JOB_STATE_CANCELLED);
}

TEST(Controller, ACancelSurvivesARestart) {
  SimulatedWorld world;
  RunningJob job(world);
  world.controller().cancel(job.name, world.now, [](const absl::Status&) {});
  world.settle();
  world.restart_coordinator();
  world.connect("a", 1, "1", {job.key});
  world.connect("b", 1, "1", {job.key});
  EXPECT_EQ(count(world.read("a"), CoordinatorMessage::kControl), 1);
  world.finish("a", job.key, 0, 7, /*stopped=*/true);
  world.finish("b", job.key, 1, 7, /*stopped=*/true);
  EXPECT_EQ(world.job(job.name).state(), v1::JOB_STATE_CANCELLED);
}

TEST(Controller, ASecondCancelIsFineAndACancelAfterSuccessIsNot) {
  SimulatedWorld world;
  const std::string queued = world.submit("q", 9);
  absl::Status answer;
  const auto cancel = [&](const std::string& name) {
    answer = absl::UnknownError("no answer");
    world.controller().cancel(name, world.now, [&](const absl::Status& status) { answer = status; });
    world.settle();
    return answer;
  };
  EXPECT_TRUE(cancel(queued).ok());
  EXPECT_EQ(world.job(queued).state(), v1::JOB_STATE_CANCELLED);
  EXPECT_TRUE(cancel(queued).ok());
  RunningJob job(world);
  world.prepare("a", job.key, 0, 100);
  world.prepare("b", job.key, 1, 100);
  world.finish("a", job.key, 0, 100);
  world.finish("b", job.key, 1, 100);
  EXPECT_TRUE(absl::IsFailedPrecondition(cancel(job.name)));
  EXPECT_TRUE(absl::IsNotFound(cancel("tenants/default/jobs/none")));
}

TEST(Controller, TheQueueIsFirstInFirstOutAndAnImpossibleJobHoldsUpNobody) {
  SimulatedWorld world;
  const std::string huge = world.submit("huge", 50);
  RunningJob first(world);
  const std::string second = world.submit("second", 2);
  const std::string third = world.submit("third", 1);
  EXPECT_EQ(world.controller().live(huge)->pending_reason, "WAITING_FOR_WORKERS");
  EXPECT_EQ(world.controller().live(second)->pending_reason, "WAITING_FOR_SLOTS");
  EXPECT_EQ(world.controller().live(third)->pending_reason, "WAITING_IN_QUEUE");
  world.prepare("a", first.key, 0, 100);
  world.prepare("b", first.key, 1, 100);
  world.finish("a", first.key, 0, 100);
  world.finish("b", first.key, 1, 100);
  EXPECT_EQ(world.job(second).state(), v1::JOB_STATE_SCHEDULED);
  EXPECT_EQ(world.job(third).state(), v1::JOB_STATE_QUEUED);
}

TEST(Controller, ADeclinedAssignmentPutsTheJobBackInItsPlace) {
  SimulatedWorld world;
  const std::string name = world.submit("j", 2);
  world.connect("a", 1);
  world.connect("b", 1);
  const AttemptKey key = world.read_assign("a")->key();
  world.accept("a", key);
  world.decline("b", key);
  world.exit_by_signal("a", key, 0, 9, /*aborted=*/true);
  EXPECT_EQ(world.job(name).state(), v1::JOB_STATE_QUEUED) << "b rests";
  const std::string behind = world.submit("behind", 1);
  EXPECT_EQ(world.job(behind).state(), v1::JOB_STATE_QUEUED) << "it would take the slot on a";
  world.pass(absl::Seconds(1));
  EXPECT_EQ(world.job(name).attempt_count(), 2);
  EXPECT_EQ(world.job(name).failure().reason(), "ASSIGN_DECLINED");
  EXPECT_EQ(world.job(name).state(), v1::JOB_STATE_SCHEDULED);
}

TEST(Controller, AWorkerThatSeesAnotherFileSystemIsRefused) {
  SimulatedWorld world;
  internal::v1::WorkerMessage message;
  internal::v1::Hello& hello = *message.mutable_hello();
  hello.set_worker("a");
  hello.set_incarnation("1");
  hello.set_slots(1);
  hello.set_device_kind("cpu");
  hello.set_advertise_address("127.0.0.1");
  hello.set_checkpoint_root_probe("something else");
  world.controller().on_message(77, message, world.now);
  EXPECT_TRUE(absl::IsFailedPrecondition(world.closed_sessions.at(77)));
  EXPECT_TRUE(world.controller().workers().empty());
}

TEST(Controller, TwoDaemonsCannotShareAWorkerId) {
  SimulatedWorld world;
  world.connect("a", 1, "1");
  world.connect("a", 1, "2");
  ASSERT_EQ(world.closed_sessions.size(), 1u);
  EXPECT_TRUE(absl::IsUnavailable(world.closed_sessions.begin()->second));
}

// Whatever daemons, users and time do, in whatever order: no illegal transition, no gap in the events, no slot given
// twice (the simulated store throws), and in the end every job can be brought to its end.
TEST(Controller, A100000RandomOperationsBreakNoRule) {
  const std::vector<std::string> workers = {"a", "b", "c"};
  int terminal = 0, succeeded = 0, operations = 0;
  for (uint32_t seed = 1; operations < 100'000; ++seed) {
    std::mt19937 random(seed);
    const auto pick = [&](size_t n) { return static_cast<size_t>(random() % n); };
    SimulatedWorld world;
    std::map<std::string, bool> connected;
    std::map<std::string, std::vector<AttemptKey>> running;  // by worker
    int submitted = 0;
    try {
      for (int i = 0; i < 500; ++i, ++operations) {
        const std::string& worker = workers[pick(workers.size())];
        for (const CoordinatorMessage& message : world.read(worker)) {
          if (message.has_assign()) running[worker].push_back(message.assign().key());
        }
        const bool has_attempt = !running[worker].empty();
        const AttemptKey key = has_attempt ? running[worker][pick(running[worker].size())] : AttemptKey();
        const auto rank = static_cast<int32_t>(pick(2));
        switch (pick(14)) {
          case 0:
            if (submitted < 8) world.submit("j" + std::to_string(submitted++), 1 + static_cast<int64_t>(pick(2)));
            break;
          case 1:
            if (!connected[worker]) world.connect(worker, 1, "1", running[worker]);
            connected[worker] = true;
            break;
          case 2:
            if (connected[worker] && pick(4) == 0) {
              world.disconnect(worker);
              connected[worker] = false;
            }
            break;
          case 3:
          case 4:
            if (pick(20) == 0) {
              world.decline(worker, key);
            } else {
              world.accept(worker, key);
            }
            break;
          case 5:
          case 6:
            world.step(worker, key, static_cast<int64_t>(pick(100)));
            break;
          case 7:
          case 8:
            world.hold_manifests = pick(4) == 0;
            for (int32_t r = 0; r < 2; ++r) world.prepare(worker, key, r, 100 - static_cast<int64_t>(pick(3)));
            break;
          case 9:
          case 10:
            world.finish(worker, key, rank, 98 + static_cast<int64_t>(pick(3)));
            break;
          case 11:
            if (pick(3) == 0) world.exit_by_signal(worker, key, rank, 9, pick(2) == 0);
            break;
          case 12:
            world.release_manifests();
            world.pass(absl::Milliseconds(100 * static_cast<int64_t>(1 + pick(30))));
            break;
          default:
            if (pick(20) == 0) {
              world.controller().cancel("tenants/default/jobs/j" + std::to_string(pick(8)), world.now,
                                        [](const absl::Status&) {});
              world.settle();
            } else if (pick(20) == 0) {
              world.restart_coordinator();
              connected.clear();
            }
        }
      }
      world.release_manifests();
      for (int j = 0; j < submitted; ++j) {
        world.controller().cancel("tenants/default/jobs/j" + std::to_string(j), world.now, [](const absl::Status&) {});
      }
      world.pass(absl::Seconds(40));
    } catch (const std::exception& error) {
      FAIL() << "seed " << seed << ": " << error.what();
    }
    for (const auto& [name, job] : world.jobs) {
      ASSERT_TRUE(is_terminal(job.job().state())) << "seed " << seed << ": " << name << " never ended";
      ++terminal;
      succeeded += job.job().state() == v1::JOB_STATE_SUCCEEDED;
    }
  }
  EXPECT_GT(succeeded, terminal / 50) << "the walk must also reach the happy end";
}

}  // namespace
}  // namespace qwen3::coordinator
