// A disk or network that fails is not the user's doing: the job is tried again. What the user asked wrongly is not.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cerrno>
#include <filesystem>
#include <functional>
#include <memory>
#include <stdexcept>
#include <string>
#include <system_error>

#include "tests/full_disk.h"
#include "tests/ranks/checkpointed_run.h"
#include "tests/ranks/run_ranks.h"
#include "tests/ranks/tiny_run.h"
#include "tests/temporary_folder.h"
#include "worker/rank/checkpointer.h"
#include "worker/rank/error_boundary.h"
#include "worker/rank/status_error.h"
#include "worker/rank/trainer.h"

namespace qwen3::testing {
namespace {

using ::testing::HasSubstr;

// What the boundary reports of a body that throws.
v1::Failure failure_of(const std::function<void()>& body) {
  const auto failed = rank::run_guarded(body);
  EXPECT_TRUE(failed.has_value()) << "it did not throw";
  return failed ? failed->failure() : v1::Failure();
}

v1::FailureClass class_of_errno(int error) {
  return failure_of([&] { throw std::system_error(error, std::generic_category(), "a file"); }).class_();
}

v1::FailureClass class_of(const absl::Status& status) {
  return failure_of([&] { throw rank::StatusError("a file", status); }).class_();
}

TEST(IoErrors, ADiskThatFailsIsInfrastructureAndAPathThatLeadsNowhereTheUsers) {
  for (const int error : {ENOSPC, EDQUOT, EFBIG, EIO, ESTALE, EROFS, ECONNRESET}) {
    EXPECT_EQ(class_of_errno(error), v1::FAILURE_CLASS_INFRA) << std::generic_category().message(error);
  }
  for (const int error : {ENOENT, ENOTDIR, EISDIR, EACCES, EPERM}) {
    EXPECT_EQ(class_of_errno(error), v1::FAILURE_CLASS_USER) << std::generic_category().message(error);
  }
  EXPECT_EQ(failure_of([] { std::filesystem::rename("/nowhere/a", "/nowhere/b"); }).class_(), v1::FAILURE_CLASS_USER);
}

TEST(IoErrors, AStatusKeepsItsCodeOnItsWayToTheBoundary) {
  for (const int error : {ENOSPC, EIO, ESTALE, ECONNREFUSED}) {
    EXPECT_EQ(class_of(absl::ErrnoToStatus(error, "cannot write")), v1::FAILURE_CLASS_INFRA)
        << std::generic_category().message(error);
  }
  EXPECT_EQ(class_of(absl::DataLossError("ends at byte 3")), v1::FAILURE_CLASS_INFRA);
  EXPECT_EQ(class_of(absl::InvalidArgumentError("no such dtype")), v1::FAILURE_CLASS_USER);
  EXPECT_EQ(class_of(absl::NotFoundError("no tokenizer.json")), v1::FAILURE_CLASS_USER);
  EXPECT_EQ(failure_of([] { throw std::runtime_error("line 3 is not UTF-8"); }).class_(), v1::FAILURE_CLASS_USER);
}

TEST(IoErrors, TheLastCheckpointOnAFullDiskIsTriedAgain) {
  const tests::TemporaryFolder folder("full");
  const spec::RunSpec run = tiny_run(data_parallel_mesh(1, 1), /*tied=*/true);
  run_ranks(run.mesh, [&](const parallel::DeviceMesh& mesh) {
    rank::Trainer trainer(run, mesh, {text_of(run), nullptr});
    rank::Checkpointer checkpointer(run, mesh, trainer.model(), {folder.path(), 1, "{}"}, nullptr);
    checkpoint::RunState state;
    state.step = 1;
    const tests::FullDisk full(/*bytes=*/4096);
    const v1::Failure failure = failure_of([&] { checkpointer.save(state, /*last=*/true); });
    EXPECT_EQ(failure.class_(), v1::FAILURE_CLASS_INFRA);
    EXPECT_THAT(failure.message(), HasSubstr("the last checkpoint could not be written: " + folder.path()));
  });
}

TEST(IoErrors, ACheckpointThatIsDamagedOrGoneIsCalledSo) {
  CheckpointedRuns runs;
  const spec::RunSpec run = tiny_run(data_parallel_mesh(1, 1), /*tied=*/true);
  const std::string folder = runs.run_steps(run, 0, 1, "");
  run_ranks(run.mesh, [&](const parallel::DeviceMesh& mesh) {
    rank::Trainer trainer(run, mesh, {text_of(run), nullptr});
    rank::Checkpointer checkpointer(run, mesh, trainer.model(), {runs.folder(), 9, "{}"}, nullptr);
    const auto restore = [&] { checkpointer.restore(folder, {}); };
    std::filesystem::resize_file(folder + "/rank-0.safetensors", 100);
    const v1::Failure damaged = failure_of(restore);
    EXPECT_EQ(damaged.class_(), v1::FAILURE_CLASS_INFRA) << damaged.message();
    EXPECT_EQ(damaged.reason(), "CHECKPOINT_UNREADABLE");
    EXPECT_THAT(damaged.message(), HasSubstr("checkpoint " + folder));
    std::filesystem::remove_all(folder);
    const v1::Failure gone = failure_of(restore);
    EXPECT_EQ(gone.class_(), v1::FAILURE_CLASS_INFRA) << gone.message();
    EXPECT_EQ(gone.reason(), "CHECKPOINT_UNREADABLE");
  });
}

}  // namespace
}  // namespace qwen3::testing
