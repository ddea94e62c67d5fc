// The real qwen3-worker as a process: what happens to ranks when it dies, and what its command line says.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "tests/temporary_folder.h"
#include "tests/worker/fake_coordinator.h"
#include "worker/daemon/host.h"

extern char** environ;

namespace qwen3::worker {
namespace {

using internal::v1::CoordinatorMessage;
using internal::v1::WorkerMessage;
using ::testing::HasSubstr;

// A child process whose standard error can be read.
class Process {
 public:
  explicit Process(std::vector<std::string> arguments) {
    arguments.insert(arguments.begin(), std::string(QWEN3_BIN_DIR) + "/qwen3-worker");
    std::vector<char*> argv;
    for (std::string& argument : arguments) argv.push_back(argument.data());
    argv.push_back(nullptr);
    std::array<int, 2> fds{};
    EXPECT_EQ(::pipe(fds.data()), 0);
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, fds[1], 2);
    posix_spawn_file_actions_adddup2(&actions, fds[1], 1);
    posix_spawn_file_actions_addclose(&actions, fds[0]);
    posix_spawn_file_actions_addclose(&actions, fds[1]);
    EXPECT_EQ(::posix_spawn(&pid_, argv[0], &actions, nullptr, argv.data(), environ), 0);
    posix_spawn_file_actions_destroy(&actions);
    ::close(fds[1]);
    output_fd_ = fds[0];
  }
  ~Process() {
    if (pid_ > 0) {
      ::kill(pid_, SIGKILL);
      wait();
    }
    ::close(output_fd_);
  }
  void signal(int number) { ASSERT_EQ(::kill(pid_, number), 0); }
  // The exit status, or 128 + the signal.
  int wait() {
    int status = 0;
    EXPECT_EQ(::waitpid(pid_, &status, 0), pid_);
    pid_ = -1;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  }
  // All it printed, once it is gone.
  std::string output() {
    std::string text;
    std::array<char, 4096> buffer;
    for (ssize_t got; (got = ::read(output_fd_, buffer.data(), buffer.size())) > 0;) text.append(buffer.data(), got);
    return text;
  }
  pid_t pid() const { return pid_; }

 private:
  pid_t pid_ = -1;
  int output_fd_ = -1;
};

bool ended(int pidfd) {
  pollfd poll{.fd = pidfd, .events = POLLIN};
  return ::poll(&poll, 1, std::chrono::milliseconds(testing::kPatience).count()) == 1;
}

class WorkerBinaryTest : public ::testing::Test {
 protected:
  std::vector<std::string> arguments() const {
    return {"--coordinator", coordinator_.address(), "--id",        "host-1",         "--slots", "1",
            "--rank-binary", QWEN3_FAKE_RANK,        "--state-dir", state_dir_.path()};
  }
  // Starts a rank that never ends by itself; a descriptor that is readable when it is gone.
  int start_rank() {
    coordinator_.welcome();
    CoordinatorMessage message;
    auto* assign = message.mutable_assign();
    assign->mutable_key()->set_job("tenants/default/jobs/shake");
    assign->mutable_key()->set_attempt(1);
    assign->add_ranks();
    assign->mutable_assignment()->mutable_spec()->mutable_job()->set_description("hang, deaf to its socket");
    coordinator_.send(message);
    return static_cast<int>(::syscall(SYS_pidfd_open, std::stoi(coordinator_.log_line_after("pid ")), 0));
  }

  testing::FakeCoordinator coordinator_;
  const qwen3::tests::TemporaryFolder state_dir_{"worker"};
};

TEST_F(WorkerBinaryTest, KilledItTakesItsRanksWithIt) {
  Process worker(arguments());
  const int rank = start_rank();
  ASSERT_GE(rank, 0);
  worker.signal(SIGKILL);
  EXPECT_TRUE(ended(rank));
  EXPECT_EQ(worker.wait(), 128 + SIGKILL);
  ::close(rank);
}

TEST_F(WorkerBinaryTest, TerminatedItKillsItsRanksReportsThemAndExitsZero) {
  Process worker(arguments());
  const int rank = start_rank();
  ASSERT_GE(rank, 0);
  worker.signal(SIGTERM);
  const auto exit = coordinator_.expect(WorkerMessage::kRankExit).rank_exit();
  EXPECT_EQ(exit.signal(), SIGKILL);
  CoordinatorMessage ack;
  *ack.mutable_rank_exit_ack()->mutable_key() = exit.key();
  coordinator_.send(ack);
  EXPECT_TRUE(ended(rank));
  EXPECT_EQ(worker.wait(), 0);
  ::close(rank);
}

TEST_F(WorkerBinaryTest, ASecondOneOnTheSameStateFolderIsRefusedAndTheFirstNamed) {
  Process first(arguments());
  coordinator_.welcome();
  Process second(arguments());
  EXPECT_EQ(second.wait(), 75);
  EXPECT_THAT(second.output(), HasSubstr("is held by process " + std::to_string(first.pid())));
}

TEST_F(WorkerBinaryTest, BadFlagsAreNamedBeforeAnythingStarts) {
  std::vector<std::string> bad = arguments();
  bad.insert(bad.end(), {"--advertise", "a:b:c"});
  Process worker(bad);
  EXPECT_EQ(worker.wait(), 2);
  EXPECT_THAT(worker.output(), HasSubstr("--advertise wants HOST or HOST:INTERFACE"));
}

TEST_F(WorkerBinaryTest, HelpHasExamplesAndVersionSaysTheBuild) {
  Process help({"--help"});
  EXPECT_EQ(help.wait(), 0);
  EXPECT_THAT(help.output(), HasSubstr("qwen3-worker --coordinator 10.0.0.1:7401 --advertise 10.0.0.7:eth0"));
  Process version({"--version"});
  EXPECT_EQ(version.wait(), 0);
  EXPECT_THAT(version.output(), HasSubstr("qwen3-worker 0."));
}

}  // namespace
}  // namespace qwen3::worker
