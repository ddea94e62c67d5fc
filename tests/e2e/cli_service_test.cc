// The real qwen3ctl as a process: Ctrl-C, and a local service whose parts are killed.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>

#include <filesystem>
#include <fstream>
#include <functional>
#include <iterator>
#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "absl/time/clock.h"
#include "client/exit_code.h"
#include "client/local/process.h"
#include "client/local/state.h"
#include "tests/e2e/service_fixture.h"
#include "tests/temporary_folder.h"

namespace qwen3::e2e {
namespace {

using client::local::load_state;
using client::local::LocalState;
using client::local::ProcessId;
using client::local::spawn;
using ::testing::HasSubstr;

std::string read(const std::string& file) {
  std::ifstream input(file);
  return {std::istreambuf_iterator<char>(input), {}};
}

// Other processes announce nothing, so their effects are polled for.
bool eventually(const std::function<bool()>& condition) {
  for (const absl::Time end = absl::Now() + absl::Seconds(60); absl::Now() < end;
       absl::SleepFor(absl::Milliseconds(5))) {
    if (condition()) return true;
  }
  return false;
}

ProcessId start(std::vector<std::string> arguments, const std::string& output) {
  arguments.insert(arguments.begin(), QWEN3_BIN_DIR "/qwen3ctl");
  return spawn(arguments, output);
}

int exit_status(const ProcessId& process) {
  int status = 0;
  waitpid(process.pid, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

TEST(CtrlC, DetachesFromAWatchAndLeavesTheJobAlone) {
  Service service(/*workers=*/0);
  const auto job = service.submit(service.small_job(/*slots=*/1, /*steps=*/4));
  ASSERT_TRUE(job.ok()) << job.status();
  const std::string output = service.dir() + "/watch.txt";
  const ProcessId watch = start({"watch", *job, "--address", service.address()}, output);
  ASSERT_TRUE(eventually([&] { return read(output).find("QUEUED") != std::string::npos; })) << read(output);

  kill(watch.pid, SIGINT);

  EXPECT_EQ(exit_status(watch), client::kDetached);
  EXPECT_THAT(read(output), HasSubstr("the job goes on. To come back: qwen3ctl watch " + client::last_part(*job)));
  EXPECT_EQ(service.patient_client()->get_job(*job)->state(), v1::JOB_STATE_QUEUED);
}

// Names of the steps in a trace, by rank.
std::map<int, std::set<std::string>> steps_in(const nlohmann::json& trace) {
  std::map<int, std::set<std::string>> steps;
  for (const auto& event : trace.at("traceEvents")) {
    const std::string name = event.at("name");
    if (event.at("ph") == "X" && name.starts_with("step ")) steps[event.at("pid").get<int>()].insert(name);
  }
  return steps;
}

TEST(Trace, TwoOfARunningJobAtOnceHaveAllRanksAndEachItsOwnSteps) {
  Service service(/*workers=*/2);
  v1::JobSpec spec = service.small_job(/*slots=*/2, /*steps=*/100000);
  spec.mutable_checkpoint()->set_interval(100000);
  spec.mutable_debug()->set_step_delay_ms(200);  // so that the second is ordered before the first is done
  const auto job = service.submit(spec);
  ASSERT_TRUE(job.ok()) << job.status();
  ASSERT_TRUE(service.wait_for_step(*job, 2)) << service.logs();
  const std::string files[] = {service.dir() + "/first.json", service.dir() + "/second.json"};
  std::vector<ProcessId> traces;
  for (const std::string& file : files) {
    traces.push_back(
        start({"trace", *job, "--steps", "2", "--output", file, "--address", service.address()}, file + ".txt"));
  }
  std::set<std::string> all_steps, names;
  for (size_t i = 0; i < traces.size(); ++i) {
    const std::string output = files[i] + ".txt";
    ASSERT_EQ(exit_status(traces[i]), client::kSucceeded) << read(output) << service.logs();
    EXPECT_THAT(read(output), HasSubstr(": 2 steps of 2 ranks"));
    const nlohmann::json trace = nlohmann::json::parse(read(files[i]));
    auto steps = steps_in(trace);
    EXPECT_EQ(steps[0].size(), 2u);
    EXPECT_EQ(steps[0], steps[1]);
    all_steps.merge(steps[0]);
    for (const auto& event : trace.at("traceEvents")) names.insert(event.at("name"));
  }
  EXPECT_EQ(all_steps.size(), 4u);
  for (const char* name :
       {"forward layers.0", "backward layers.0", "wait dp_shard", "all_gather dp_shard", "optimizer"}) {
    EXPECT_TRUE(names.contains(name)) << name;
  }

  const auto running = service.patient_client()->get_job(*job);  // the same split is in the job
  ASSERT_TRUE(running.ok()) << running.status();
  EXPECT_GT(running->progress().split().compute_seconds(), 0);
  EXPECT_GT(running->progress().mean_split().wait_seconds().at("dp_shard"), 0);
  EXPECT_TRUE(service.patient_client()->cancel_job(*job).ok());
}

TEST(Local, StartsAgainWhatIsKilledOnTheSamePortsAndDownLeavesNothing) {
  const qwen3::tests::TemporaryFolder folder("local");
  const std::string& dir = folder.path();
  const std::string output = dir + "/output.txt";
  ASSERT_EQ(exit_status(start({"local", "up", "--dir", dir, "--workers", "2"}, output)), client::kSucceeded)
      << read(output);
  const LocalState before = *load_state(dir);

  ASSERT_TRUE(client::local::send_signal(before.coordinator.process, SIGKILL));
  ASSERT_TRUE(client::local::send_signal(before.workers.at(1).process, SIGKILL));
  const bool back = eventually([&] {
    const auto now = load_state(dir);
    return now && now->coordinator.restarts == 1 && now->workers.at(1).restarts == 1 &&
           client::local::is_alive(now->coordinator.process) && client::local::is_alive(now->workers.at(1).process);
  });
  EXPECT_TRUE(back) << read(dir + "/logs/supervisor.log");
  client::Client client({.address = before.address, .deadline = absl::Seconds(30), .wait_for_ready = true});
  EXPECT_TRUE(eventually([&] {
    const auto workers = client.list_workers();
    return workers.ok() && workers->size() == 2 && workers->at(1).state() == v1::WORKER_STATE_READY;
  }));
  EXPECT_EQ(load_state(dir)->address, before.address);

  const LocalState after = *load_state(dir);
  EXPECT_EQ(exit_status(start({"local", "down", "--dir", dir}, output)), client::kSucceeded) << read(output);
  for (const ProcessId& process :
       {after.supervisor, after.coordinator.process, after.workers[0].process, after.workers[1].process}) {
    EXPECT_FALSE(client::local::is_alive(process)) << process.pid;
  }
  EXPECT_FALSE(load_state(dir).has_value());
}

}  // namespace
}  // namespace qwen3::e2e
