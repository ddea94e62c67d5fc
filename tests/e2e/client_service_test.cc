// The client library against a real service whose processes and connections are cut off.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <barrier>
#include <functional>
#include <set>
#include <thread>

#include "client/client.h"
#include "client/watch.h"
#include "tests/e2e/cutting_proxy.h"
#include "tests/e2e/service_fixture.h"

namespace qwen3::e2e {
namespace {

TEST(ClientService, AHundredConcurrentSubmissionsWithOneRequestIdAcrossAKillOfTheCoordinatorMakeOneJob) {
  constexpr int kCalls = 100;
  Service service(/*workers=*/0);
  const auto client = service.patient_client();
  v1::CreateJobRequest request;
  *request.mutable_job()->mutable_spec() = service.small_job(/*slots=*/1, /*steps=*/4);
  request.set_request_id("the-one");

  std::barrier start(kCalls + 1);
  std::vector<absl::StatusOr<v1::Job>> jobs(kCalls);
  std::vector<std::thread> threads;
  std::atomic<int> answered = 0;
  for (int i = 0; i < kCalls; ++i) {
    threads.emplace_back([&, i] {
      start.arrive_and_wait();
      jobs[i] = client->create_job(request);
      ++answered;
    });
  }
  start.arrive_and_wait();
  while (answered == 0) std::this_thread::yield();  // one is acknowledged, the others are in flight
  service.kill_coordinator();
  service.start_coordinator();
  for (std::thread& thread : threads) thread.join();

  std::set<std::string> names;
  for (const auto& job : jobs) {
    ASSERT_TRUE(job.ok()) << job.status() << service.logs();
    names.insert(job->name());
  }
  EXPECT_EQ(names.size(), 1);
  EXPECT_EQ(client->list_jobs(1000)->size(), 1);
}

TEST(ClientService, AWatcherCutAHundredTimesAndACoordinatorKilledInBetweenLoseAndRepeatNothing) {
  constexpr int kCuts = 100, kSteps = 12;
  Service service(/*workers=*/1);
  const auto job = service.submit(service.small_job(/*slots=*/1, kSteps));
  ASSERT_TRUE(job.ok()) << job.status();
  CuttingProxy proxy(service.port(), kCuts, /*max_bytes=*/600, /*seed=*/11);
  client::Client client({.address = proxy.address()});

  const auto watch = [&](client::Client& through, const std::function<void(size_t)>& after, std::string* seen) {
    size_t count = 0;
    return client::watch_events(through, *job, {.backoff = absl::Milliseconds(5)},
                                [&](const v1::Event& event, const std::string&) {
                                  EXPECT_EQ(event.seq(), static_cast<int64_t>(++count));
                                  *seen += event.SerializeAsString();
                                  if (after) after(count);
                                });
  };
  std::string seen;
  const absl::Status end = watch(
      client,
      [&](size_t count) {
        if (count != 3) return;
        service.kill_coordinator();
        service.start_coordinator();
      },
      &seen);
  ASSERT_TRUE(end.ok()) << end << service.logs();
  EXPECT_EQ(service.wait(*job)->state(), v1::JOB_STATE_SUCCEEDED) << service.logs();

  client::Client direct({.address = service.address()});
  std::string all;
  ASSERT_TRUE(watch(direct, nullptr, &all).ok());
  EXPECT_EQ(seen, all);
  while (proxy.cuts_left() > 0) {  // the cuts that are left fall on watches from the beginning
    std::string again;
    const absl::Status status = watch(client, nullptr, &again);
    if (status.ok()) {
      EXPECT_EQ(again, all);
    } else {  // cut four times before the first event
      ASSERT_EQ(status.code(), absl::StatusCode::kUnavailable) << status;
    }
  }
}

}  // namespace
}  // namespace qwen3::e2e
