// The contract of client/client.h: retries, deadlines, idempotency.
#include "client/client.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>
#include <thread>

#include "absl/time/clock.h"
#include "tests/client/fake_server.h"

namespace qwen3::client {
namespace {

using testing::FakeServer;
using ::testing::HasSubstr;

constexpr char kJob[] = "tenants/default/jobs/a";
const grpc::Status kAway(grpc::StatusCode::UNAVAILABLE, "away");

TEST(Client, ACallThatIsUnavailableThreeTimesIsTriedAFourthTimeWithTheSameRequestId) {
  FakeServer server;
  std::set<std::string> request_ids;
  server.create = [&](const v1::CreateJobRequest& request, v1::Job* job) {
    request_ids.insert(request.request_id());
    job->set_name(kJob);
    return server.calls() < 4 ? kAway : grpc::Status::OK;
  };
  Client client({.address = server.address()});

  const auto job = client.create_job(v1::CreateJobRequest());

  ASSERT_TRUE(job.ok()) << job.status();
  EXPECT_EQ(job->name(), kJob);
  EXPECT_EQ(server.calls(), 4);
  EXPECT_EQ(request_ids.size(), 1);
}

TEST(Client, AfterFourUnavailableAnswersTheCallFailsAndNamesTheAddress) {
  FakeServer server;
  server.fail_next(10, kAway);
  Client client({.address = server.address()});

  const auto job = client.get_job(kJob);

  EXPECT_EQ(job.status().code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(job.status().message()), HasSubstr(server.address()));
  EXPECT_EQ(server.calls(), 4);
}

TEST(Client, NoOtherErrorIsRetried) {
  using enum grpc::StatusCode;
  FakeServer server;
  Client client({.address = server.address()});
  int calls = 0;
  for (const grpc::StatusCode code : {INVALID_ARGUMENT, NOT_FOUND, ABORTED, RESOURCE_EXHAUSTED, INTERNAL, UNKNOWN}) {
    server.fail_next(1, grpc::Status(code, "no"));
    EXPECT_EQ(static_cast<int>(client.get_job(kJob).status().code()), static_cast<int>(code));
    EXPECT_EQ(server.calls(), ++calls);
  }
}

TEST(Client, ACallThatIsNotAnsweredEndsAtItsDeadline) {
  FakeServer server;
  server.create = [](const v1::CreateJobRequest&, v1::Job*) {
    absl::SleepFor(absl::Milliseconds(300));  // a handler slower than the deadline below
    return grpc::Status::OK;
  };
  Client client({.address = server.address(), .deadline = absl::Milliseconds(50)});
  EXPECT_EQ(client.create_job(v1::CreateJobRequest()).status().code(), absl::StatusCode::kDeadlineExceeded);
}

TEST(Client, WithWaitForReadyACallOutlivesARestartOfTheServer) {
  FakeServer server;
  server.jobs[kJob].set_name(kJob);
  Client client({.address = server.address(), .wait_for_ready = true});
  server.stop();
  absl::StatusOr<v1::Job> job;
  std::thread caller([&] { job = client.get_job(kJob); });
  server.restart();
  caller.join();
  EXPECT_TRUE(job.ok()) << job.status();
}

TEST(Client, ListGathersPagesUpToTheLimit) {
  FakeServer server;
  for (const char* id : {"a", "b", "c", "d", "e"}) server.jobs[job_name(id)].set_name(job_name(id));
  Client client({.address = server.address()});
  EXPECT_EQ(client.list_jobs(100)->size(), 5);
  EXPECT_EQ(client.list_jobs(3)->size(), 3);
}

TEST(Client, RequestIdsAreRandomUuids) {
  std::set<std::string> ids;
  for (int i = 0; i < 1000; ++i) ids.insert(random_request_id());
  EXPECT_EQ(ids.size(), 1000);
  for (const std::string& id : ids) {  // 8-4-4-4-12 hex digits, version 4, variant 1
    ASSERT_EQ(id.size(), 36);
    EXPECT_EQ(id.find_first_not_of("0123456789abcdef-"), std::string::npos) << id;
    EXPECT_EQ(id[14], '4') << id;
    EXPECT_THAT(std::string("89ab"), HasSubstr(std::string(1, id[19]))) << id;
  }
}

TEST(Client, AJobIsNamedByItsIdOrItsFullName) {
  EXPECT_EQ(job_name("quick-1"), "tenants/default/jobs/quick-1");
  EXPECT_EQ(job_name("tenants/default/jobs/quick-1"), "tenants/default/jobs/quick-1");
  EXPECT_EQ(last_part("tenants/default/jobs/quick-1"), "quick-1");
}

}  // namespace
}  // namespace qwen3::client
