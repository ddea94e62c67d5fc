// Orders of traces: each reaches rank 0, once it is on disk, whatever becomes of sessions and of the coordinator.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"
#include "coordinator/controller.h"
#include "google/rpc/error_details.pb.h"
#include "tests/coordinator/simulated_world.h"

namespace qwen3::coordinator {
namespace {

using Answer = absl::StatusOr<v1::TraceJobResponse>;
using ::testing::ElementsAre;
using ::testing::IsEmpty;
using testing::RunningJob;
using testing::SimulatedWorld;

Answer trace(SimulatedWorld& world, const std::string& job, int64_t steps, const std::string& request_id) {
  Answer answer = absl::UnknownError("no answer");
  world.controller().trace(job, steps, request_id, world.now, [&](const Answer& given) { answer = given; });
  world.settle();
  return answer;
}

std::string reason(const absl::Status& status) {
  google::rpc::ErrorInfo info;
  const auto payload = status.GetPayload("type.googleapis.com/google.rpc.ErrorInfo");
  return payload && info.ParseFromString(std::string(*payload)) ? info.reason() : "";
}

// Of the traces that the daemon was told to record since the last look.
std::vector<std::string> ordered_folders(SimulatedWorld& world, const std::string& worker) {
  std::vector<std::string> folders;
  for (const internal::v1::CoordinatorMessage& message : world.read(worker)) {
    const internal::v1::RankControl& control = message.control().control();
    if (control.word() != internal::v1::RANK_WORD_TRACE) continue;
    folders.push_back(absl::StrCat("/root/checkpoint/j/traces/", absl::Hex(control.trace(), absl::kZeroPad16)));
  }
  return folders;
}

TEST(TraceOrder, OnlyARunningJobTakesOne) {
  SimulatedWorld world;
  EXPECT_TRUE(absl::IsNotFound(trace(world, "tenants/default/jobs/none", 1, "").status()));
  const absl::Status queued = trace(world, world.submit("q", 9), 1, "").status();
  EXPECT_TRUE(absl::IsFailedPrecondition(queued));
  EXPECT_EQ(reason(queued), "JOB_NOT_RUNNING");
  RunningJob job(world);
  EXPECT_TRUE(trace(world, job.name, 1, "").ok());
  world.controller().cancel(job.name, world.now, [](const absl::Status&) {});
  world.settle();
  EXPECT_EQ(reason(trace(world, job.name, 1, "").status()), "JOB_NOT_RUNNING") << "it stops";
  world.finish("a", job.key, 0, 7, /*stopped=*/true);
  world.finish("b", job.key, 1, 7, /*stopped=*/true);
  EXPECT_EQ(reason(trace(world, job.name, 1, "").status()), "JOB_NOT_RUNNING") << "it has ended";
}

TEST(TraceOrder, ARepeatedRequestIdHasTheFirstAnswerAndOrdersNothing) {
  SimulatedWorld world;
  RunningJob job(world);
  const Answer first = trace(world, job.name, 3, "once");
  ASSERT_TRUE(first.ok()) << first.status();
  EXPECT_EQ(first->ranks(), 2);
  EXPECT_THAT(ordered_folders(world, "a"), ElementsAre(first->folder()));
  EXPECT_EQ(trace(world, job.name, 3, "once")->folder(), first->folder());
  const absl::Status other_steps = trace(world, job.name, 4, "once").status();
  EXPECT_TRUE(absl::IsAlreadyExists(other_steps));
  EXPECT_EQ(reason(other_steps), "REQUEST_ID_REUSED");
  EXPECT_THAT(ordered_folders(world, "a"), IsEmpty());
}

TEST(TraceOrder, WithoutARequestIdEachCallIsATraceOfItsOwn) {
  SimulatedWorld world;
  RunningJob job(world);
  const Answer first = trace(world, job.name, 3, ""), second = trace(world, job.name, 3, "");
  EXPECT_NE(first->folder(), second->folder());
  EXPECT_THAT(ordered_folders(world, "a"), ElementsAre(first->folder(), second->folder()));
}

TEST(TraceOrder, IsGivenAndAnsweredOnceItIsOnDisk) {
  SimulatedWorld world;
  RunningJob job(world);
  bool answered = false;
  world.controller().trace(job.name, 1, "once", world.now, [&](const Answer&) { answered = true; });
  EXPECT_FALSE(answered);
  EXPECT_THAT(ordered_folders(world, "a"), IsEmpty());
  world.settle();
  EXPECT_TRUE(answered);
  EXPECT_EQ(ordered_folders(world, "a").size(), 1u);
}

TEST(TraceOrder, WaitsForADaemonThatIsAway) {
  SimulatedWorld world;
  RunningJob job(world);
  world.disconnect("a");
  const Answer ordered = trace(world, job.name, 3, "once");
  ASSERT_TRUE(ordered.ok()) << ordered.status();
  world.connect("a", 1, "1", {job.key});
  EXPECT_THAT(ordered_folders(world, "a"), ElementsAre(ordered->folder()));
}

TEST(TraceOrder, SurvivesARestartOfTheCoordinator) {
  SimulatedWorld world;
  RunningJob job(world);
  const Answer first = trace(world, job.name, 3, "once");
  world.restart_coordinator();
  world.connect("a", 1, "1", {job.key});
  EXPECT_THAT(ordered_folders(world, "a"), ElementsAre(first->folder()));
  EXPECT_EQ(trace(world, job.name, 3, "once")->folder(), first->folder());
  EXPECT_THAT(ordered_folders(world, "a"), IsEmpty());
}

TEST(TraceOrder, EndsWithItsAttempt) {
  SimulatedWorld world;
  RunningJob job(world);
  const Answer first = trace(world, job.name, 3, "once");
  world.exit_by_signal("a", job.key, 0, 9);
  world.exit_by_signal("b", job.key, 1, 9, /*aborted=*/true);
  EXPECT_EQ(reason(trace(world, job.name, 3, "once").status()), "JOB_NOT_RUNNING");
  world.pass(absl::Seconds(1));
  const auto assign = world.read_assign("a");
  ASSERT_NE(assign, nullptr);
  world.accept("a", assign->key());
  world.accept("b", assign->key());
  world.step("a", assign->key(), 1);
  const Answer second = trace(world, job.name, 3, "once");
  ASSERT_TRUE(second.ok()) << second.status();
  EXPECT_NE(second->folder(), first->folder()) << "where files of the first may be";
  EXPECT_THAT(ordered_folders(world, "a"), ElementsAre(second->folder()));
}

}  // namespace
}  // namespace qwen3::coordinator
