#include "coordinator/store.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <future>
#include <string>

#include "coordinator/database.h"
#include "coordinator/store_reader.h"
#include "tests/temporary_folder.h"

namespace qwen3::coordinator {
namespace {

class StoreTest : public ::testing::Test {
 protected:
  StoreTest() { path_ = folder_.path() + "/coordinator.db"; }

  static std::unique_ptr<Store> open(const std::string& path) {
    auto store = Store::open(path, [](const absl::Status& status) {
      ADD_FAILURE() << status;
      abort();
    });
    EXPECT_TRUE(store.ok()) << store.status();
    return *std::move(store);
  }
  static Write new_job(int64_t number) {
    Write write;
    internal::v1::StoredJob& job = write.job.emplace();
    job.mutable_job()->set_name("tenants/default/jobs/j" + std::to_string(number));
    job.mutable_job()->set_state(v1::JOB_STATE_QUEUED);
    job.set_number(number);
    job.set_last_seq(1);
    write.events.emplace_back().event.set_seq(1);
    return write;
  }
  static void wait_for(Store& store) {
    std::promise<void> done;
    store.write({}, [&] { done.set_value(); });
    done.get_future().wait();
  }

  const qwen3::tests::TemporaryFolder folder_{"store"};
  std::string path_;
};

TEST_F(StoreTest, WhatIsWrittenIsReadBackAlsoAfterReopening) {
  {
    auto store = open(path_);
    Write write = new_job(1);
    v1::Checkpoint& checkpoint = write.events.emplace_back().checkpoint.emplace();
    write.events.back().event.set_seq(2);
    checkpoint.set_step(10);
    checkpoint.set_state(v1::CHECKPOINT_STATE_COMMITTED);
    internal::v1::StoredRequest& request = write.request.emplace();
    request.set_request_id("r");
    request.set_job("tenants/default/jobs/j1");
    request.mutable_create_time()->set_seconds(5);
    store->write(std::move(write), nullptr);
    wait_for(*store);
  }
  auto store = open(path_);
  auto reader = StoreReader::open(path_);
  ASSERT_TRUE(reader.ok());
  EXPECT_EQ((*reader)->job("tenants/default/jobs/j1")->number(), 1);
  EXPECT_EQ((*reader)->events("tenants/default/jobs/j1", 0, 10)->size(), 2u);
  EXPECT_EQ((*reader)->events("tenants/default/jobs/j1", 1, 10)->size(), 1u);
  EXPECT_EQ((*reader)->checkpoint_events("tenants/default/jobs/j1", 0, 10)->size(), 1u);
  EXPECT_EQ((*reader)->checkpoints("tenants/default/jobs/j1")->at(0).step(), 10);
  EXPECT_EQ((*reader)->requests(5)->size(), 1u);
  EXPECT_EQ((*reader)->requests(6)->size(), 0u);
  EXPECT_TRUE(absl::IsNotFound((*reader)->job("tenants/default/jobs/none").status()));
}

TEST_F(StoreTest, TasksShareTheQueueButNotTheListAndEvaluationsStandBesideTheirCheckpoint) {
  auto store = open(path_);
  Write job = new_job(1);
  job.events[0].checkpoint.emplace().set_step(10);
  store->write(std::move(job), nullptr);
  for (const int64_t number : {2, 3}) {
    Write task = new_job(number);
    task.job->mutable_job()->set_name("tenants/default/operations/o" + std::to_string(number));
    StoredEvaluation& stored = task.events[0].evaluation.emplace();
    stored.job = "tenants/default/jobs/j1";
    stored.step = 10;
    stored.evaluation.set_operation(task.job->job().name());
    stored.evaluation.mutable_end_time()->set_seconds(10 - number);
    store->write(std::move(task), nullptr);
  }
  wait_for(*store);
  auto reader = StoreReader::open(path_);
  ASSERT_TRUE(reader.ok());
  EXPECT_EQ((*reader)->jobs(100, 100)->size(), 1u);
  EXPECT_EQ((*reader)->jobs(100, 100, Rows::kTasks)->size(), 2u);
  EXPECT_EQ((*reader)->jobs(100, 100, Rows::kBoth)->size(), 3u);
  const auto checkpoints = (*reader)->checkpoints("tenants/default/jobs/j1");
  ASSERT_EQ(checkpoints->size(), 1u);
  ASSERT_EQ(checkpoints->at(0).evaluations_size(), 2);
  EXPECT_EQ(checkpoints->at(0).evaluations(0).operation(), "tenants/default/operations/o3") << "oldest first";
}

TEST_F(StoreTest, ListIsNewestFirstAndPaged) {
  auto store = open(path_);
  for (int64_t number = 1; number <= 5; ++number) store->write(new_job(number), nullptr);
  wait_for(*store);
  auto reader = StoreReader::open(path_);
  const auto page = (*reader)->jobs(/*before=*/4, /*limit=*/2);
  ASSERT_EQ(page->size(), 2u);
  EXPECT_EQ(page->at(0).number(), 3);
  EXPECT_EQ(page->at(1).number(), 2);
}

TEST_F(StoreTest, AnUnfinishedTransactionLeavesNothing) {
  auto store = open(path_);
  store->write(new_job(1), nullptr);
  wait_for(*store);
  std::promise<absl::Status> fatal;
  auto second = Store::open(path_, [&](const absl::Status& status) { fatal.set_value(status); });
  Write bad = new_job(2);
  bad.events.push_back(bad.events.front());  // the same seq twice
  (*second)->write(std::move(bad), [] { ADD_FAILURE() << "a failed commit was acknowledged"; });
  EXPECT_TRUE(absl::IsAlreadyExists(fatal.get_future().get()));
  auto reader = StoreReader::open(path_);
  EXPECT_TRUE(absl::IsNotFound((*reader)->job("tenants/default/jobs/j2").status()));
}

TEST_F(StoreTest, OpeningWhatIsThereWritesNothing) {  // there may be no room
  const auto first = open(path_);
  auto watcher = Database::open(path_, Database::Mode::kReader);
  ASSERT_TRUE(watcher.ok()) << watcher.status();
  const auto commits = [&] {  // another number after each commit of another connection
    Statement version = (*watcher)->prepare("PRAGMA data_version");
    EXPECT_TRUE(version.step().value_or(false));
    return version.integer(0);
  };
  const int64_t before = commits();
  const auto second = open(path_);
  EXPECT_EQ(commits(), before);
}

TEST_F(StoreTest, ANewerSchemaIsRefused) {
  { open(path_); }
  {
    auto database = Database::open(path_, Database::Mode::kWriter);
    ASSERT_TRUE((*database)->execute("UPDATE meta SET value = 99 WHERE key = 'schema_version'").ok());
  }
  const auto store = Store::open(path_, [](const absl::Status&) {});
  EXPECT_TRUE(absl::IsFailedPrecondition(store.status()));
  EXPECT_THAT(std::string(store.status().message()), ::testing::HasSubstr("version 99"));
}

// A child submits as fast as it can and reports each acknowledgement through a pipe; it is killed in the middle.
TEST_F(StoreTest, WhatWasAcknowledgedBeforeAKillIsThere) {
  for (int round = 0; round < 5; ++round) {
    const std::string path = folder_.path() + "/kill" + std::to_string(round) + ".db";
    int acks[2];
    ASSERT_EQ(pipe(acks), 0);
    const pid_t child = fork();
    if (child == 0) {
      close(acks[0]);
      auto store = Store::open(path, [](const absl::Status&) { _exit(3); });
      if (!store.ok()) _exit(2);
      for (int64_t number = 1;; ++number) {
        (*store)->write(new_job(number), [number, fd = acks[1]] {
          if (write(fd, &number, sizeof number) != sizeof number) _exit(4);
        });
        if (number % 64 == 0) wait_for(**store);
      }
    }
    close(acks[1]);
    int64_t acknowledged = 0, number = 0;
    while (acknowledged < 200 + 57 * round && read(acks[0], &number, sizeof number) == sizeof number) {
      acknowledged = number;
    }
    kill(child, SIGKILL);
    while (read(acks[0], &number, sizeof number) == sizeof number) acknowledged = number;
    close(acks[0]);
    int status = 0;
    waitpid(child, &status, 0);
    ASSERT_TRUE(WIFSIGNALED(status)) << "the child ended by itself: " << status;
    auto store = open(path);
    auto reader = StoreReader::open(path);
    for (int64_t n = 1; n <= acknowledged; ++n) {
      const std::string name = "tenants/default/jobs/j" + std::to_string(n);
      ASSERT_TRUE((*reader)->job(name).ok()) << "acknowledged, and gone after the kill: " << name;
      ASSERT_EQ((*reader)->events(name, 0, 10)->size(), 1u) << "projection without its event: " << name;
    }
  }
}

}  // namespace
}  // namespace qwen3::coordinator
