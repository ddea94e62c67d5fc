// Evaluations and conversions in the control plane, on virtual time.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "coordinator/controller.h"
#include "coordinator/names.h"
#include "tests/coordinator/simulated_world.h"

namespace qwen3::coordinator {
namespace {

using internal::v1::AttemptKey;
using internal::v1::CoordinatorMessage;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using testing::SimulatedWorld;

int count(const std::vector<CoordinatorMessage>& messages, CoordinatorMessage::MessageCase kind) {
  int n = 0;
  for (const CoordinatorMessage& message : messages) n += message.message_case() == kind;
  return n;
}

// A job of one rank on worker "w" with committed checkpoints of these steps; it keeps the newest two.
struct TrainingJob {
  TrainingJob(SimulatedWorld& world, const std::vector<int64_t>& steps) : name(world.submit("j", 1)) {
    world.connect("w", 1);
    key = world.read_assign("w")->key();
    world.accept("w", key);
    world.step("w", key, 1);
    for (const int64_t step : steps) world.prepare("w", key, 0, step);
  }
  std::string checkpoint(int64_t step) const { return checkpoint_name(name, step); }
  static std::string folder(int64_t step) { return "/root/checkpoint/j/step-" + std::to_string(step) + ".attempt-1"; }
  std::string name;
  AttemptKey key;
};

TEST(Tasks, AnEvaluationGoesFromTheQueueToItsResult) {
  SimulatedWorld world;
  world.connect("a", 1);
  world.connect("b", 1);
  const std::string name = world.submit_evaluation("e", 2);
  const auto assign = world.read_assign("a");
  ASSERT_NE(assign, nullptr);
  EXPECT_EQ(assign->key().job(), "tenants/default/operations/e");
  EXPECT_EQ(assign->assignment().evaluation().tokens_file(), "/data/tokens");
  EXPECT_EQ(assign->assignment().evaluation().model().hf(), "/models/hf");
  EXPECT_EQ(assign->assignment().world_size(), 2);
  const AttemptKey key = assign->key();
  world.accept("a", key);
  world.accept("b", key);
  EXPECT_EQ(world.job(name).state(), v1::JOB_STATE_STARTING);
  world.report_progress("a", key, 3, 8);
  EXPECT_EQ(world.job(name).state(), v1::JOB_STATE_RUNNING);
  world.report_progress("a", key, 4, 8);
  EXPECT_EQ(world.controller().live(name)->task.done(), 4);
  world.finish_evaluation("a", key, 0, 2.5);
  EXPECT_EQ(world.job(name).state(), v1::JOB_STATE_RUNNING) << "rank 1 has not finished";
  world.finish_evaluation("b", key, 1, 0);
  EXPECT_EQ(world.job(name).state(), v1::JOB_STATE_SUCCEEDED);
  EXPECT_EQ(world.jobs.at(name).task().evaluation_result().loss(), 2.5);
  EXPECT_EQ(count(world.read("b"), CoordinatorMessage::kRankExitAck), 1);
  EXPECT_EQ(world.controller().counts().operations.at(v1::JOB_STATE_SUCCEEDED), 1);
  EXPECT_THAT(world.controller().counts().jobs, IsEmpty());
}

TEST(Tasks, EvaluationsQueueWithJobsFirstInFirstOut) {
  SimulatedWorld world;
  world.connect("w", 1);
  const std::string first = world.submit("j", 1);
  const std::string evaluation = world.submit_evaluation("e", 1);
  const std::string last = world.submit("k", 1);
  EXPECT_EQ(world.job(first).state(), v1::JOB_STATE_SCHEDULED);
  EXPECT_EQ(world.controller().live(evaluation)->pending_reason, "WAITING_FOR_SLOTS");
  EXPECT_THAT(world.controller().live(last)->status_message, HasSubstr("waits behind " + evaluation));
  const AttemptKey key = world.read_assign("w")->key();
  world.accept("w", key);
  world.controller().cancel(first, world.now, [](const absl::Status&) {});
  world.exit_by_signal("w", key, 0, 9, /*aborted=*/true);
  EXPECT_EQ(world.job(evaluation).state(), v1::JOB_STATE_SCHEDULED);
  EXPECT_EQ(world.job(last).state(), v1::JOB_STATE_QUEUED);
}

TEST(Tasks, AConversionTakesNoSlotAndPassesTheQueue) {
  SimulatedWorld world;
  const std::string early = world.submit_conversion("early");
  EXPECT_EQ(world.controller().live(early)->pending_reason, "WAITING_FOR_WORKERS");
  world.connect("w", 1);
  ASSERT_EQ(world.read_assign("w")->key().job(), early);
  world.submit("j", 1);
  EXPECT_EQ(world.read_assign("w")->ranks(0).slot(), 0) << "the conversion left the slot to the job";
  world.submit("waits", 1);
  const std::string name = world.submit_conversion("c");
  const auto assign = world.read_assign("w");
  ASSERT_NE(assign, nullptr) << "a full worker and a waiting job do not hold it up";
  EXPECT_EQ(assign->ranks(0).slot(), kNoSlot);
  EXPECT_EQ(assign->assignment().conversion().native(), "/models/native");
  EXPECT_EQ(assign->assignment().conversion().from().hf(), "/models/hf");
  EXPECT_EQ(world.controller().counts().free_slots, 0);
  world.accept("w", assign->key());
  world.finish_conversion("w", assign->key());
  EXPECT_EQ(world.job(name).state(), v1::JOB_STATE_SUCCEEDED);
  EXPECT_EQ(world.jobs.at(name).task().conversion_result().tensors(), 3);
}

TEST(Tasks, TheLossOfItsRanksStartsATaskAgainFromItsBeginningWithinABudget) {
  SimulatedWorld world;
  world.connect("w", 1);
  const std::string name = world.submit_evaluation("e", 1);
  for (int attempt = 1; attempt <= 4; ++attempt) {
    const auto assign = world.read_assign("w");
    ASSERT_NE(assign, nullptr) << "attempt " << attempt;
    EXPECT_EQ(assign->key().attempt(), attempt);
    EXPECT_EQ(assign->assignment().restore_folder(), "");
    EXPECT_EQ(world.controller().live(name)->task.done(), 0) << "what was done is done again";
    world.accept("w", assign->key());
    world.report_progress("w", assign->key(), 5, 8);
    EXPECT_EQ(world.job(name).state(), v1::JOB_STATE_RUNNING);
    world.exit_by_signal("w", assign->key(), 0, 9);
    world.pass(absl::Seconds(2));  // nothing, 1 s, 2 s
  }
  EXPECT_EQ(world.job(name).state(), v1::JOB_STATE_FAILED);
  EXPECT_EQ(world.job(name).failure().class_(), v1::FAILURE_CLASS_INFRA);
  EXPECT_THAT(world.job(name).failure().message(), HasSubstr("an operation's retries = 3"));
}

TEST(Tasks, AFailureOfTheUserEndsATaskAtOnceWithTheRanksSentence) {
  SimulatedWorld world;
  world.connect("w", 1);
  const std::string name = world.submit_evaluation("e", 1);
  const AttemptKey key = world.read_assign("w")->key();
  world.accept("w", key);
  world.fail("w", key, 0, v1::FAILURE_CLASS_USER, "layers.0.attention.wq is missing");
  EXPECT_EQ(world.job(name).state(), v1::JOB_STATE_FAILED);
  EXPECT_EQ(world.job(name).failure().message(), "layers.0.attention.wq is missing");
  EXPECT_EQ(world.read_assign("w"), nullptr);
}

TEST(Tasks, AFinishedTaskWithoutAResultOfItsKindIsADefect) {
  SimulatedWorld world;
  world.connect("w", 1);
  const std::string name = world.submit_evaluation("e", 1);
  const AttemptKey key = world.read_assign("w")->key();
  world.accept("w", key);
  world.finish_conversion("w", key);
  EXPECT_EQ(world.job(name).state(), v1::JOB_STATE_FAILED);
  EXPECT_EQ(world.job(name).failure().reason(), "NO_RESULT");
}

TEST(Tasks, CancelKillsTheRanks) {
  SimulatedWorld world;
  world.connect("w", 1);
  const std::string name = world.submit_evaluation("e", 1);
  const AttemptKey key = world.read_assign("w")->key();
  world.accept("w", key);
  world.report_progress("w", key, 1, 8);
  absl::Status answer = absl::UnknownError("not answered");
  world.controller().cancel(name, world.now, [&](const absl::Status& status) { answer = status; });
  world.settle();
  EXPECT_TRUE(answer.ok()) << answer;
  const auto messages = world.read("w");
  EXPECT_EQ(count(messages, CoordinatorMessage::kAbort), 1);
  EXPECT_EQ(count(messages, CoordinatorMessage::kControl), 0) << "a task has no step boundary to wait for";
  world.exit_by_signal("w", key, 0, 9, /*aborted=*/true);
  EXPECT_EQ(world.job(name).state(), v1::JOB_STATE_CANCELLED);
}

TEST(Tasks, ACancelThatACrashInterruptedIsSeenThrough) {
  SimulatedWorld world;
  world.connect("w", 1);
  const std::string name = world.submit_evaluation("e", 1);
  const AttemptKey key = world.read_assign("w")->key();
  world.accept("w", key);
  world.report_progress("w", key, 1, 8);
  world.controller().cancel(name, world.now, [](const absl::Status&) {});
  world.settle();
  world.restart_coordinator();
  world.connect("w", 1, "1", {key});
  EXPECT_EQ(count(world.read("w"), CoordinatorMessage::kAbort), 1);
  world.exit_by_signal("w", key, 0, 9, /*aborted=*/true);
  EXPECT_EQ(world.job(name).state(), v1::JOB_STATE_CANCELLED);
}

TEST(Tasks, ARestartOfTheCoordinatorCostsARunningTaskNothing) {
  SimulatedWorld world;
  world.connect("w", 1);
  const std::string name = world.submit_evaluation("e", 1);
  const std::string conversion = world.submit_conversion("c");
  const auto messages = world.read("w");
  ASSERT_EQ(count(messages, CoordinatorMessage::kAssign), 2);
  AttemptKey of_evaluation, of_conversion;
  for (const CoordinatorMessage& message : messages) {
    if (!message.has_assign()) continue;
    (message.assign().key().job() == name ? of_evaluation : of_conversion) = message.assign().key();
    world.accept("w", message.assign().key());
  }
  world.report_progress("w", of_evaluation, 1, 8);
  world.restart_coordinator();
  world.connect("w", 1, "1", {of_evaluation, of_conversion});
  const auto after = world.read("w");
  EXPECT_EQ(count(after, CoordinatorMessage::kAssign), 0);
  EXPECT_EQ(count(after, CoordinatorMessage::kAbort), 0);
  world.finish_evaluation("w", of_evaluation, 0, 1.5);
  world.finish_conversion("w", of_conversion);
  EXPECT_EQ(world.job(name).state(), v1::JOB_STATE_SUCCEEDED);
  EXPECT_EQ(world.job(name).attempt_count(), 1);
  EXPECT_EQ(world.job(conversion).state(), v1::JOB_STATE_SUCCEEDED);
}

TEST(Tasks, ACheckpointThatATaskReadsIsPrunedOnlyAfterIt) {
  SimulatedWorld world;
  TrainingJob job(world, {10, 20});
  const std::string evaluation = world.submit_evaluation("e", 1, job.checkpoint(10));  // waits for the job's slot
  world.prepare("w", job.key, 0, 30);
  world.prepare("w", job.key, 0, 40);
  EXPECT_THAT(world.removed_folders, ElementsAre(TrainingJob::folder(20))) << "10 is read";
  world.restart_coordinator();
  world.connect("w", 1, "1", {job.key});
  world.prepare("w", job.key, 0, 50);
  EXPECT_THAT(world.removed_folders, Not(Contains(TrainingJob::folder(10)))) << "also after a restart";
  world.controller().cancel(evaluation, world.now, [](const absl::Status&) {});
  world.settle();
  EXPECT_THAT(world.removed_folders, Contains(TrainingJob::folder(10)));
}

TEST(Tasks, ACheckpointThatWasPrunedDuringTheCheckIsNotPromised) {
  SimulatedWorld world;
  TrainingJob job(world, {10, 20, 30});
  ASSERT_THAT(world.removed_folders, ElementsAre(TrainingJob::folder(10)));
  NewJob task;
  task.stored.mutable_job()->set_name(operation_name("e"));
  task.stored.mutable_task()->mutable_evaluation();
  task.stored.mutable_task()->set_checkpoint(job.checkpoint(10));
  task.stored.mutable_task()->mutable_source()->set_native(TrainingJob::folder(10));
  absl::Status answer;
  world.controller().create(std::move(task), world.now,
                            [&](const absl::StatusOr<CreatedJob>& created) { answer = created.status(); });
  EXPECT_TRUE(absl::IsUnavailable(answer)) << answer;
}

TEST(Tasks, AnEvaluationIsKeptWithItsCheckpointAndTheBestOutliveTheNewest) {
  SimulatedWorld world;
  world.keep_best = 1;
  const TrainingJob job(world, {});
  world.connect("idle", 1);  // where the evaluations run
  const auto train_and_evaluate = [&](int64_t step, double loss) {
    world.prepare("w", job.key, 0, step);
    world.submit_evaluation("e" + std::to_string(step), 1, job.checkpoint(step));
    const auto assign = world.read_assign("idle");
    ASSERT_NE(assign, nullptr);
    EXPECT_EQ(assign->assignment().evaluation().model().native(), TrainingJob::folder(step));
    world.accept("idle", assign->key());
    world.finish_evaluation("idle", assign->key(), 0, loss);
  };
  train_and_evaluate(10, 3.0);
  ASSERT_EQ(world.evaluations.size(), 1u);
  EXPECT_EQ(world.evaluations[0].job, job.name);
  EXPECT_EQ(world.evaluations[0].step, 10);
  EXPECT_EQ(world.evaluations[0].evaluation.data(), "/data/tokens");
  EXPECT_EQ(world.evaluations[0].evaluation.operation(), operation_name("e10"));
  EXPECT_EQ(world.evaluations[0].evaluation.result().loss(), 3.0);
  EXPECT_EQ(world.events.at(job.name).back().event.kind(), "EVALUATED");

  train_and_evaluate(20, 1.0);
  train_and_evaluate(30, 2.0);
  EXPECT_THAT(world.removed_folders, IsEmpty()) << "20 and 30 are the newest, 10 is the best of the others";
  train_and_evaluate(40, 4.0);
  EXPECT_THAT(world.removed_folders, ElementsAre(TrainingJob::folder(10))) << "20 is better";
  world.restart_coordinator();
  world.connect("w", 1, "1", {job.key});
  world.connect("idle", 1);
  train_and_evaluate(50, 0.5);
  EXPECT_THAT(world.removed_folders, ElementsAre(TrainingJob::folder(10), TrainingJob::folder(30)))
      << "the losses survive a restart";
}

TEST(Tasks, AnEvaluationOfATerminalJobsCheckpointIsKeptToo) {
  SimulatedWorld world;
  const TrainingJob job(world, {100});
  world.finish("w", job.key, 0, 100);
  ASSERT_EQ(world.job(job.name).state(), v1::JOB_STATE_SUCCEEDED);
  world.submit_evaluation("e", 1, job.checkpoint(100));
  const auto assign = world.read_assign("w");
  ASSERT_NE(assign, nullptr);
  world.accept("w", assign->key());
  world.finish_evaluation("w", assign->key(), 0, 1.0);
  ASSERT_EQ(world.evaluations.size(), 1u);
  EXPECT_EQ(world.evaluations[0].step, 100);
}

}  // namespace
}  // namespace qwen3::coordinator
