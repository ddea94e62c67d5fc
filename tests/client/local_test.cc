// Processes and state of a local service.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iterator>
#include <sstream>
#include <thread>

#include "client/arguments.h"
#include "client/exit_code.h"
#include "client/local/process.h"
#include "client/local/state.h"
#include "client/local/supervisor.h"
#include "tests/temporary_folder.h"

namespace qwen3::client::local {
namespace {

using ::testing::HasSubstr;

// A child that waits to be killed.
class Sleeper {
 public:
  Sleeper() : process_(spawn({"/bin/sleep", "1000"}, "/dev/null")) {}
  ~Sleeper() {
    kill(process_.pid, SIGKILL);
    waitpid(process_.pid, nullptr, 0);
  }
  const ProcessId& process() const { return process_; }

 private:
  ProcessId process_;
};

int run(std::vector<std::string> arguments, std::string* err) {
  arguments.insert(arguments.begin(), "qwen3ctl");
  std::vector<const char*> argv;
  for (const std::string& argument : arguments) argv.push_back(argument.c_str());
  std::istringstream in;
  std::ostringstream out, errors;
  const int code = run_cli(static_cast<int>(argv.size()), argv.data(), {in, out, errors});
  if (err != nullptr) *err = errors.str();
  return code;
}

TEST(Process, ItsIdentityHoldsUntilItIsGone) {
  auto sleeper = std::make_unique<Sleeper>();
  const ProcessId process = sleeper->process();
  EXPECT_GT(process.start_time, 0);
  EXPECT_EQ(identify(process.pid), process);
  EXPECT_TRUE(is_alive(process));
  sleeper.reset();
  EXPECT_FALSE(is_alive(process));
  EXPECT_FALSE(send_signal(process, SIGTERM));
}

TEST(Process, AZombieIsNotAlive) {
  const ProcessId process = spawn({"/bin/true"}, "/dev/null");
  siginfo_t info;
  waitid(P_PID, process.pid, &info, WEXITED | WNOWAIT);  // dead, not reaped
  EXPECT_FALSE(is_alive(process));
  waitpid(process.pid, nullptr, 0);
}

TEST(Process, AnotherProcessWithTheSameNumberIsNotSignalled) {
  const Sleeper sleeper;
  ProcessId earlier = sleeper.process();
  --earlier.start_time;
  EXPECT_FALSE(send_signal(earlier, SIGKILL));
  ProcessId other_boot = sleeper.process();
  other_boot.boot_id = "another";
  EXPECT_FALSE(send_signal(other_boot, SIGKILL));
  EXPECT_TRUE(is_alive(sleeper.process()));

  EXPECT_TRUE(send_signal(sleeper.process(), SIGKILL));
}

TEST(LocalState, IsReadBackAsWritten) {
  const qwen3::tests::TemporaryFolder folder("local");
  LocalState state{.dir = folder.path(),
                   .address = "127.0.0.1:4000",
                   .ports = {4000, 4001, 4002},
                   .slots = 2,
                   .supervisor = {.pid = 7, .start_time = 70, .boot_id = "boot"},
                   .coordinator = {.name = "coordinator", .process = {.pid = 8}, .restarts = 3}};
  state.workers.push_back({.name = "local-0", .process = {.pid = 9}});
  save_state(state);
  const auto read = load_state(state.dir);
  ASSERT_TRUE(read.has_value());
  EXPECT_EQ(read->address, state.address);
  EXPECT_EQ(read->ports.http, 4002);
  EXPECT_EQ(read->supervisor, state.supervisor);
  EXPECT_EQ(read->coordinator.restarts, 3);
  ASSERT_EQ(read->workers.size(), 1);
  EXPECT_EQ(read->workers[0].process.pid, 9);
}

TEST(LocalState, ATornFileIsNoState) {
  const qwen3::tests::TemporaryFolder folder("local");
  const std::string& dir = folder.path();
  EXPECT_FALSE(load_state(dir).has_value());
  std::ofstream(dir + "/local.json") << "{\"address\": \"127.0";
  EXPECT_FALSE(load_state(dir).has_value());
}

TEST(LocalDown, StopsWhatItStartedAndSparesAProcessThatGotTheSameNumberLater) {
  const qwen3::tests::TemporaryFolder folder("local");
  const Sleeper ours, stranger;
  LocalState state{.dir = folder.path()};
  state.supervisor = {.pid = 0};  // was killed
  state.coordinator = {.name = "coordinator", .process = ours.process()};
  ProcessId reused = stranger.process();
  reused.start_time -= 1;
  state.workers.push_back({.name = "local-0", .process = reused});
  save_state(state);

  EXPECT_EQ(run({"local", "down", "--dir", state.dir}, nullptr), kSucceeded);

  EXPECT_FALSE(is_alive(ours.process()));
  EXPECT_TRUE(is_alive(stranger.process()));
  EXPECT_FALSE(load_state(state.dir).has_value());
}

// A supervisor in a process of its own, of a coordinator that notes each start and then sleeps.
class Supervised {
 public:
  Supervised() {
    for (const char* name : {"logs", "bin"}) std::filesystem::create_directory(folder_.file(name));
    const std::string program = folder_.file("bin/qwen3-coordinator");
    std::ofstream(program) << "#!/bin/sh\necho started >> " << starts_ << "\nexec sleep 1000\n";
    std::filesystem::permissions(program, std::filesystem::perms::owner_all);
    supervisor_ = fork();
    if (supervisor_ == 0) _exit(supervise({.dir = dir(), .bin_dir = folder_.file("bin")}));
  }
  ~Supervised() {
    kill(supervisor_, SIGTERM);  // ends the coordinator too
    waitpid(supervisor_, nullptr, 0);
  }
  const std::string& dir() const { return folder_.path(); }
  LocalState state() const { return load_state(dir()).value_or(LocalState{}); }
  int64_t starts() const {
    std::ifstream file(starts_);
    return std::count(std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>(), '\n');
  }

 private:
  const qwen3::tests::TemporaryFolder folder_{"local"};
  const std::string starts_ = folder_.file("starts");
  pid_t supervisor_ = 0;
};

bool eventually(const std::function<bool()>& holds) {
  for (int i = 0; i < 1000 && !holds(); ++i) std::this_thread::sleep_for(std::chrono::milliseconds(10));
  return holds();
}

// A folder where local.json is written first stands for a disk that is full.
TEST(LocalSupervise, GoesOnWithoutAPlaceForItsStateAndSavesItLater) {
  const Supervised service;
  ASSERT_TRUE(eventually([&] { return service.state().coordinator.process.pid != 0 && service.starts() == 1; }));
  const std::string temporary = service.dir() + "/local.json.tmp";
  std::filesystem::create_directory(temporary);
  const pid_t coordinator = service.state().coordinator.process.pid;
  ASSERT_GT(coordinator, 0);
  kill(coordinator, SIGKILL);
  EXPECT_TRUE(eventually([&] { return service.starts() == 2; })) << "the supervisor ended";
  EXPECT_EQ(service.state().coordinator.restarts, 0);

  std::filesystem::remove(temporary);
  EXPECT_TRUE(eventually([&] { return service.state().coordinator.restarts == 1; }));
}

TEST(LocalStatus, NoServiceIsNotFound) {
  const qwen3::tests::TemporaryFolder folder("local");
  std::string err;
  EXPECT_EQ(run({"local", "status", "--dir", folder.path()}, &err), kNotFound);
  EXPECT_THAT(err, HasSubstr("no local service runs in"));
}

TEST(LocalUp, NamesTheBinaryThatIsMissing) {
  std::string err;
  const qwen3::tests::TemporaryFolder folder("local");
  const std::string& dir = folder.path();
  EXPECT_EQ(run({"local", "up", "--dir", dir, "--bin-dir", dir}, &err), kNotFound);
  EXPECT_THAT(err, HasSubstr("there is no " + dir + "/qwen3-coordinator"));
}

}  // namespace
}  // namespace qwen3::client::local
