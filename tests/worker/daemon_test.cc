// The daemon against a scripted coordinator (gRPC on loopback) and scripted rank processes (fake_rank).
// Long because it is one table of scenes over one fixture: every way a rank, a session or a coordinator can end.
#include "worker/daemon/daemon.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "spec/build_info/build_info.h"
#include "tests/temporary_folder.h"
#include "tests/worker/fake_coordinator.h"

namespace qwen3::worker {
namespace {

using internal::v1::AttemptKey;
using internal::v1::CoordinatorMessage;
using internal::v1::Hello;
using internal::v1::RankExit;
using internal::v1::Welcome;
using internal::v1::WorkerMessage;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::UnorderedElementsAre;

AttemptKey key(int attempt = 1) {
  AttemptKey key;
  key.set_job("tenants/default/jobs/shake");
  key.set_attempt(attempt);
  key.set_epoch(attempt);
  return key;
}

// One rank on each slot, all doing the same.
CoordinatorMessage assign(const std::string& behaviour, int ranks = 1, int attempt = 1) {
  CoordinatorMessage message;
  auto* assign = message.mutable_assign();
  *assign->mutable_key() = key(attempt);
  for (int rank = 0; rank < ranks; ++rank) {
    auto* slot = assign->add_ranks();
    slot->set_rank(rank);
    slot->set_slot(rank);
  }
  assign->mutable_assignment()->set_world_size(ranks);
  assign->mutable_assignment()->mutable_spec()->mutable_job()->set_description(behaviour);
  return message;
}

CoordinatorMessage exit_ack(const RankExit& exit) {
  CoordinatorMessage message;
  *message.mutable_rank_exit_ack()->mutable_key() = exit.key();
  message.mutable_rank_exit_ack()->set_rank(exit.rank());
  return message;
}

// Waits for the end of a process, whoever its parent is.
bool ended(pid_t pid) {
  const int fd = static_cast<int>(::syscall(SYS_pidfd_open, pid, 0));
  if (fd < 0) return errno == ESRCH;
  pollfd poll{.fd = fd, .events = POLLIN};
  const int ready = ::poll(&poll, 1, std::chrono::milliseconds(testing::kPatience).count());
  ::close(fd);
  return ready == 1;
}

class DaemonTest : public ::testing::Test {
 protected:
  DaemonTest() {
    options_.coordinator = coordinator_.address();
    options_.worker_id = "host-1";
    options_.slots = 2;
    options_.rank_binary = QWEN3_FAKE_RANK;
    options_.data_root = "/data";
    options_.beat_interval = std::chrono::milliseconds(20);
    options_.flush_timeout = std::chrono::milliseconds(20);
  }
  ~DaemonTest() override { stop(); }

  void start() {
    daemon_ = std::make_unique<Daemon>(options_);
    thread_ = std::thread([this] { daemon_->run(); });
  }
  void stop() {
    if (!thread_.joinable()) return;
    daemon_->stop();
    thread_.join();
  }
  void start_and_welcome() {
    start();
    coordinator_.welcome();
  }
  RankExit expect_exit() { return coordinator_.expect(WorkerMessage::kRankExit).rank_exit(); }

  testing::FakeCoordinator coordinator_;
  DaemonOptions options_;
  std::unique_ptr<Daemon> daemon_;
  std::thread thread_;
};

TEST_F(DaemonTest, IntroducesItselfAndProvesThatItSeesTheCheckpointRoot) {
  const qwen3::tests::TemporaryFolder root("checkpoints");
  std::ofstream(root.file("probe")) << "seen";
  start();
  Welcome welcome;
  welcome.set_checkpoint_root(root.path());
  welcome.set_probe_file("probe");

  const Hello first = coordinator_.welcome(welcome);
  EXPECT_EQ(first.worker(), "host-1");
  EXPECT_EQ(first.slots(), 2);
  EXPECT_EQ(first.device_kind(), "cpu");
  EXPECT_EQ(first.build_id(), build_id());
  EXPECT_EQ(first.advertise_address(), "127.0.0.1");
  EXPECT_GT(first.cores(), 0);
  EXPECT_GT(first.memory_bytes(), 0);
  EXPECT_EQ(first.checkpoint_root_probe(), "");
  const Hello second = coordinator_.welcome();
  EXPECT_EQ(second.checkpoint_root_probe(), "seen");
  EXPECT_EQ(second.incarnation(), first.incarnation());
}

TEST_F(DaemonTest, SaysNothingButHelloBeforeItIsAdmitted) {
  start();
  Welcome welcome;
  welcome.set_probe_file("/dev/null");
  coordinator_.welcome(welcome);
  coordinator_.expect(WorkerMessage::kHello);  // the probe's answer; several beats would be due by now
  EXPECT_FALSE(coordinator_.has(WorkerMessage::kBeat));
  CoordinatorMessage admitted;
  admitted.mutable_welcome();
  coordinator_.send(admitted);
  coordinator_.expect(WorkerMessage::kBeat);
}

TEST_F(DaemonTest, ACoordinatorThatFallsSilentForALeaseIsConnectedToAnew) {
  start();
  Welcome welcome;
  welcome.set_lease_ms(100);
  const Hello first = coordinator_.welcome(welcome);
  const Hello again = coordinator_.welcome(welcome);  // no BeatAck came
  EXPECT_EQ(again.incarnation(), first.incarnation());
}

TEST_F(DaemonTest, AnExitIsToldWhenTheRanksLastLinesAreAcknowledged) {
  options_.exit_record_wait = testing::kPatience;
  start_and_welcome();
  coordinator_.acknowledge_records(false);
  coordinator_.send(assign("fail"));
  EXPECT_TRUE(ended(std::stoi(coordinator_.log_line_after("pid "))));
  for (int beat = 0; beat < 5; ++beat) coordinator_.expect(WorkerMessage::kBeat);  // drops an exit told too early
  coordinator_.acknowledge_records(true);
  EXPECT_EQ(expect_exit().exit_code(), 1);
}

TEST_F(DaemonTest, AnExitDoesNotWaitForEverForItsRecords) {
  options_.exit_record_wait = std::chrono::milliseconds(20);
  start_and_welcome();
  coordinator_.acknowledge_records(false);
  coordinator_.send(assign("fail"));
  EXPECT_EQ(expect_exit().exit_code(), 1);
}

TEST_F(DaemonTest, AnUnreadableProbeIsNamedToTheCoordinator) {
  start();
  Welcome welcome;
  welcome.set_checkpoint_root("/nowhere");
  welcome.set_probe_file("probe");
  coordinator_.welcome(welcome);
  EXPECT_EQ(coordinator_.expect(WorkerMessage::kHello).hello().checkpoint_root_probe(),
            "cannot read /nowhere/probe: No such file or directory");
}

TEST_F(DaemonTest, RunsAnAttemptFromAssignmentToResult) {
  start_and_welcome();
  coordinator_.send(assign("train", /*ranks=*/2));
  EXPECT_TRUE(coordinator_.expect(WorkerMessage::kAssignReply).assign_reply().accepted());

  const auto store = coordinator_.expect(WorkerMessage::kStoreReady).store_ready();
  EXPECT_EQ(store.address(), "127.0.0.1:4242");
  CoordinatorMessage address;
  *address.mutable_store_address()->mutable_key() = key();
  address.mutable_store_address()->set_address(store.address());
  coordinator_.send(address);
  EXPECT_EQ(coordinator_.log_line_after("store "), "127.0.0.1:4242");  // rank 1 was told

  for (int i = 0; i < 2; ++i) {
    const auto prepared = coordinator_.expect(WorkerMessage::kPrepared).prepared();
    EXPECT_EQ(prepared.checkpoint().step(), 3);
    CoordinatorMessage ack;
    *ack.mutable_prepared_ack()->mutable_key() = key();
    ack.mutable_prepared_ack()->set_rank(prepared.rank());
    ack.mutable_prepared_ack()->set_step(3);
    coordinator_.send(ack);
  }
  CoordinatorMessage committed;
  *committed.mutable_checkpoint_committed()->mutable_key() = key();
  committed.mutable_checkpoint_committed()->set_step(3);
  coordinator_.send(committed);

  std::vector<int> ranks;
  for (int i = 0; i < 2; ++i) {
    const RankExit exit = expect_exit();
    EXPECT_EQ(exit.exit_code(), 0);
    EXPECT_EQ(exit.signal(), 0);
    EXPECT_TRUE(exit.finished());
    EXPECT_EQ(exit.result().result().final_loss(), 7.0);
    ranks.push_back(exit.rank());
    coordinator_.send(exit_ack(exit));
  }
  EXPECT_THAT(ranks, UnorderedElementsAre(0, 1));
  ASSERT_TRUE(coordinator_.wait_for_metrics(3));
  for (int i = 0; i < 3; ++i) {
    const v1::MetricRecord record = coordinator_.metrics()[i];
    EXPECT_EQ(record.seq(), i + 1);
    EXPECT_EQ(record.attempt(), 1);
    EXPECT_EQ(record.report().step(), i + 1);
    EXPECT_EQ(record.report().loss(), 10.0 - (i + 1));
  }
}

TEST_F(DaemonTest, TheFirstStepIsToldOnceAndBeatsCarryTheSlowestRanksStep) {
  start_and_welcome();
  coordinator_.send(assign("train, then prepare and hang", /*ranks=*/2));
  EXPECT_EQ(coordinator_.expect(WorkerMessage::kFirstStep).first_step().step(), 1);
  EXPECT_TRUE(coordinator_.wait_for_metrics(3));
  // Rank 1 still waits for the store, so the attempt is at step 0 here.
  const auto beat = coordinator_.expect(WorkerMessage::kBeat).beat();
  ASSERT_EQ(beat.progress_size(), 1);
  EXPECT_EQ(beat.progress(0).step(), 0);
  CoordinatorMessage address;
  *address.mutable_store_address()->mutable_key() = key();
  address.mutable_store_address()->set_address("127.0.0.1:4242");
  coordinator_.send(address);
  int64_t step = 0;
  while (step != 3) {
    const WorkerMessage message = coordinator_.expect(WorkerMessage::kBeat);
    ASSERT_TRUE(message.has_beat());
    step = message.beat().progress(0).step();
  }
  EXPECT_FALSE(coordinator_.has(WorkerMessage::kFirstStep));
}

TEST_F(DaemonTest, ARankThatIsKilledIsReportedWithItsSignal) {
  start_and_welcome();
  coordinator_.send(assign("hang"));
  const pid_t pid = std::stoi(coordinator_.log_line_after("pid "));
  ASSERT_EQ(::kill(pid, SIGKILL), 0);
  const RankExit exit = expect_exit();
  EXPECT_EQ(exit.signal(), SIGKILL);
  EXPECT_EQ(exit.exit_code(), -1);
  EXPECT_FALSE(exit.finished());
  EXPECT_FALSE(exit.oom_killed());
  EXPECT_FALSE(exit.aborted());
}

TEST_F(DaemonTest, ARankThatCrashesIsReportedWithItsSignal) {
  start_and_welcome();
  coordinator_.send(assign("crash"));
  EXPECT_EQ(expect_exit().signal(), SIGSEGV);
}

TEST_F(DaemonTest, AFailedRankIsReportedInItsOwnWords) {
  start_and_welcome();
  coordinator_.send(assign("fail"));
  const RankExit exit = expect_exit();
  EXPECT_EQ(exit.exit_code(), 1);
  EXPECT_EQ(exit.failure().reason(), "NON_FINITE");
  EXPECT_EQ(exit.failure().message(), "loss is nan at step 2");
  EXPECT_FALSE(exit.peer_lost());
}

TEST_F(DaemonTest, AVictimOfALostPeerIsMarked) {
  start_and_welcome();
  coordinator_.send(assign("lose a peer"));
  EXPECT_TRUE(expect_exit().peer_lost());
}

TEST_F(DaemonTest, ARankThatSendsRubbishIsKilledAndTheLogSaysWhy) {
  start_and_welcome();
  coordinator_.send(assign("send rubbish"));
  EXPECT_EQ(expect_exit().signal(), SIGKILL);
  EXPECT_THAT(coordinator_.log_line_after("qwen3-worker: killed: "), HasSubstr("4294967295 bytes"));
}

TEST_F(DaemonTest, ARankThatIsDoneAndDoesNotEndIsKilled) {
  options_.exit_grace = std::chrono::milliseconds(50);
  start_and_welcome();
  coordinator_.send(assign("linger"));
  const RankExit exit = expect_exit();
  EXPECT_EQ(exit.signal(), SIGKILL);
  EXPECT_TRUE(exit.finished());
  EXPECT_FALSE(exit.oom_killed());
}

TEST_F(DaemonTest, ANewSessionHearsAgainWhatWasNotAcknowledged) {
  start_and_welcome();
  coordinator_.send(assign("train, then prepare and hang"));
  coordinator_.expect(WorkerMessage::kPrepared);
  const pid_t pid = std::stoi(coordinator_.log_line_after("pid "));

  coordinator_.stop();
  coordinator_.start();
  const Hello hello = coordinator_.welcome();
  ASSERT_EQ(hello.running_size(), 1);
  EXPECT_THAT(hello.running(0).ranks(), ElementsAre(0));
  EXPECT_EQ(coordinator_.expect(WorkerMessage::kFirstStep).first_step().step(), 1);
  EXPECT_EQ(coordinator_.expect(WorkerMessage::kPrepared).prepared().checkpoint().step(), 3);
  CoordinatorMessage ack;
  *ack.mutable_prepared_ack()->mutable_key() = key();
  ack.mutable_prepared_ack()->set_step(3);
  coordinator_.send(ack);
  ASSERT_EQ(::kill(pid, SIGKILL), 0);
  expect_exit();  // not acknowledged

  coordinator_.stop();
  coordinator_.start();
  EXPECT_EQ(coordinator_.welcome().running_size(), 1);
  const RankExit exit = expect_exit();
  EXPECT_EQ(exit.signal(), SIGKILL);
  EXPECT_FALSE(coordinator_.has(WorkerMessage::kPrepared));  // acknowledged before
  coordinator_.send(exit_ack(exit));

  coordinator_.stop();  // in order behind the acknowledgement
  coordinator_.start();
  EXPECT_EQ(coordinator_.welcome().running_size(), 0);
}

TEST_F(DaemonTest, RanksWorkOnWithoutACoordinatorAndTheirReportsWait) {
  start_and_welcome();
  coordinator_.send(assign("wait for a word, then finish"));
  const pid_t pid = std::stoi(coordinator_.log_line_after("pid "));
  CoordinatorMessage word;
  *word.mutable_control()->mutable_key() = key();
  coordinator_.send(word);
  coordinator_.stop();  // now, or a little before, the rank does its steps
  EXPECT_TRUE(ended(pid));

  coordinator_.start();
  EXPECT_EQ(coordinator_.welcome().running_size(), 1);
  const RankExit exit = expect_exit();
  EXPECT_TRUE(exit.finished());
  EXPECT_EQ(exit.exit_code(), 0);
  EXPECT_TRUE(coordinator_.wait_for_metrics(3));
}

TEST_F(DaemonTest, AStaleAttemptIsKilledAndForgotten) {
  start_and_welcome();
  coordinator_.send(assign("hang", /*ranks=*/2));
  coordinator_.expect(WorkerMessage::kAssignReply);
  const pid_t pid = std::stoi(coordinator_.log_line_after("pid "));
  coordinator_.stop();
  EXPECT_EQ(::kill(pid, 0), 0);  // it outlives the session

  coordinator_.start();
  Welcome welcome;
  *welcome.add_stale() = key();
  coordinator_.welcome(welcome);
  EXPECT_TRUE(ended(pid));
  coordinator_.send(assign("fail", /*ranks=*/2, /*attempt=*/2));  // its slots are free
  EXPECT_TRUE(coordinator_.expect(WorkerMessage::kAssignReply).assign_reply().accepted());
  EXPECT_EQ(expect_exit().key().attempt(), 2);  // none of attempt 1
}

TEST_F(DaemonTest, AbortKillsEveryRankAndTheNextAssignmentWaitsForTheirSlots) {
  start_and_welcome();
  coordinator_.send(assign("hang", /*ranks=*/2));
  EXPECT_TRUE(coordinator_.expect(WorkerMessage::kAssignReply).assign_reply().accepted());
  CoordinatorMessage abort;
  *abort.mutable_abort()->mutable_key() = key();
  coordinator_.send(abort);
  coordinator_.send(assign("fail", /*ranks=*/2, /*attempt=*/2));  // at once: the ranks are hardly dead
  std::vector<std::pair<int, int>> ends;                          // attempt, signal
  for (int i = 0; i < 4; ++i) {
    const RankExit exit = expect_exit();
    EXPECT_EQ(exit.aborted(), exit.key().attempt() == 1);
    ends.emplace_back(exit.key().attempt(), exit.signal());
  }
  EXPECT_THAT(ends, UnorderedElementsAre(std::pair(1, 9), std::pair(1, 9), std::pair(2, 0), std::pair(2, 0)));
}

TEST_F(DaemonTest, AnAssignmentThatIsRepeatedStartsNothingTwice) {
  start_and_welcome();
  coordinator_.send(assign("hang"));
  coordinator_.send(assign("hang"));
  EXPECT_TRUE(coordinator_.expect(WorkerMessage::kAssignReply).assign_reply().accepted());
  EXPECT_TRUE(coordinator_.expect(WorkerMessage::kAssignReply).assign_reply().accepted());
  const pid_t pid = std::stoi(coordinator_.log_line_after("pid "));
  ASSERT_EQ(::kill(pid, SIGKILL), 0);
  expect_exit();
  EXPECT_EQ(coordinator_.logs().size(), 1);  // one "pid" line
}

TEST_F(DaemonTest, AHeldSlotIsRefusedAndItsHolderNamed) {
  start_and_welcome();
  coordinator_.send(assign("hang"));
  EXPECT_TRUE(coordinator_.expect(WorkerMessage::kAssignReply).assign_reply().accepted());
  CoordinatorMessage other = assign("hang");
  other.mutable_assign()->mutable_key()->set_job("tenants/default/jobs/other");
  coordinator_.send(other);
  const auto reply = coordinator_.expect(WorkerMessage::kAssignReply).assign_reply();
  EXPECT_FALSE(reply.accepted());
  EXPECT_EQ(reply.key().job(), "tenants/default/jobs/other");
  EXPECT_THAT(reply.message(), HasSubstr("slot 0 is held by rank 0 of tenants/default/jobs/shake attempt 1"));
}

TEST_F(DaemonTest, ASlotThatIsNotThereIsRefused) {
  start_and_welcome();
  coordinator_.send(assign("hang", /*ranks=*/3));
  const auto reply = coordinator_.expect(WorkerMessage::kAssignReply).assign_reply();
  EXPECT_FALSE(reply.accepted());
  EXPECT_THAT(reply.message(), HasSubstr("rank 2 is for slot 2, but this worker has slots 0 to 1"));
}

TEST_F(DaemonTest, ARankThatCannotBeStartedIsARefusalThatSaysWhy) {
  options_.rank_binary = "/nowhere/qwen3-rank";
  start_and_welcome();
  coordinator_.send(assign("hang", /*ranks=*/2));
  const auto reply = coordinator_.expect(WorkerMessage::kAssignReply).assign_reply();
  EXPECT_FALSE(reply.accepted());
  EXPECT_THAT(reply.message(), HasSubstr("cannot start /nowhere/qwen3-rank: No such file or directory"));
}

TEST_F(DaemonTest, ARankSeesTheListedVariablesAndNothingElse) {
  ::setenv("SECRET_TOKEN", "do not leak", 1);
  ::setenv("LC_ALL", "C.UTF-8", 1);
  ::setenv("TMPDIR", "/tmp", 1);
  ::unsetenv("LANG");
  options_.library_path = "/opt/torch/lib";
  start_and_welcome();
  CoordinatorMessage message = assign("print environment");
  message.mutable_assign()->mutable_assignment()->mutable_spec()->mutable_resources()->set_threads_per_rank(5);
  coordinator_.send(message);
  expect_exit();
  coordinator_.log_line_after("ENV TMPDIR=");  // the last of them
  std::vector<std::string> names;
  for (const auto& record : coordinator_.logs()) {
    if (record.line().compare(0, 4, "ENV ") != 0) continue;
    names.push_back(record.line().substr(4, record.line().find('=') - 4));
  }
  EXPECT_THAT(names, UnorderedElementsAre("QWEN3_JOB", "QWEN3_RANK", "QWEN3_DATA", "OMP_NUM_THREADS", "LD_LIBRARY_PATH",
                                          "LC_ALL", "HOME", "PATH", "TMPDIR"));
  EXPECT_EQ(coordinator_.log_line_after("ENV QWEN3_JOB="), "tenants/default/jobs/shake");
  EXPECT_EQ(coordinator_.log_line_after("ENV QWEN3_RANK="), "0");
  EXPECT_EQ(coordinator_.log_line_after("ENV QWEN3_DATA="), "/data");
  EXPECT_EQ(coordinator_.log_line_after("ENV OMP_NUM_THREADS="), "5");
  EXPECT_EQ(coordinator_.log_line_after("ENV LD_LIBRARY_PATH="), "/opt/torch/lib");
}

TEST_F(DaemonTest, ARankInheritsItsControlSocketAndNoOtherDescriptor) {
  start_and_welcome();
  coordinator_.send(assign("print descriptors"));
  expect_exit();
  coordinator_.log_line_after("FD 3");
  std::vector<std::string> fds;
  for (const auto& record : coordinator_.logs()) {
    if (record.line().compare(0, 3, "FD ") == 0) fds.push_back(record.line());
  }
  EXPECT_THAT(fds, ElementsAre("FD 0", "FD 1", "FD 2", "FD 3"));
}

TEST_F(DaemonTest, AFloodOfOutputIsCutAndCounted) {
  start_and_welcome();
  coordinator_.send(assign("flood"));
  EXPECT_TRUE(expect_exit().finished());
  int64_t told = 0;
  const int64_t printed = 100'001;  // with the "pid" line
  EXPECT_TRUE(coordinator_.wait_for_log([&](const std::vector<v1::LogRecord>& logs) {
    told = 0;
    for (const auto& record : logs) told += record.dropped() + (record.line().empty() ? 0 : 1);
    return told >= printed;
  }));
  EXPECT_EQ(told, printed);
  const std::vector<v1::LogRecord> logs = coordinator_.logs();
  EXPECT_LT(logs.size(), 50'000u);
  for (size_t i = 0; i < logs.size(); ++i) ASSERT_EQ(logs[i].seq(), static_cast<int64_t>(i + 1));
}

TEST_F(DaemonTest, StoppingKillsTheRanksAndReportsThem) {
  options_.flush_timeout = testing::kPatience;  // the acknowledgement ends the wait, not the clock
  start_and_welcome();
  coordinator_.send(assign("hang"));
  const pid_t pid = std::stoi(coordinator_.log_line_after("pid "));
  daemon_->stop();
  const RankExit exit = expect_exit();
  EXPECT_EQ(exit.signal(), SIGKILL);
  EXPECT_TRUE(ended(pid));
  coordinator_.send(exit_ack(exit));
  thread_.join();
}

TEST_F(DaemonTest, StoppingWithoutACoordinatorDoesNotWaitForOne) {
  options_.flush_timeout = testing::kPatience;
  coordinator_.stop();
  start();
  const auto begin = std::chrono::steady_clock::now();
  stop();
  EXPECT_LT(std::chrono::steady_clock::now() - begin, testing::kPatience / 2);
}

TEST_F(DaemonTest, BeatsTellHowFarATaskIsAndItsExitCarriesTheResult) {
  start_and_welcome();
  coordinator_.send(assign("tell progress, wait for a word, then finish a task"));
  internal::v1::Beat beat;
  do {
    beat = coordinator_.expect(WorkerMessage::kBeat).beat();
  } while (!HasFailure() && (beat.progress().empty() || !beat.progress(0).has_task()));
  EXPECT_EQ(beat.progress(0).task().done(), 3);
  EXPECT_EQ(beat.progress(0).task().total(), 8);
  CoordinatorMessage control;
  *control.mutable_control()->mutable_key() = key();
  coordinator_.send(control);
  const RankExit exit = expect_exit();
  EXPECT_TRUE(exit.finished());
  EXPECT_EQ(exit.result().evaluation().loss(), 2.5);
}

TEST_F(DaemonTest, OnlyAConversionRunsWithoutASlotAndItWaitsForNone) {
  start_and_welcome();
  coordinator_.send(assign("hang", /*ranks=*/2, /*attempt=*/1));
  ASSERT_TRUE(coordinator_.expect(WorkerMessage::kAssignReply).assign_reply().accepted());
  for (const int attempt : {2, 3}) {  // two at once, on a host whose slots are taken
    CoordinatorMessage conversion = assign("hang", /*ranks=*/1, attempt);
    conversion.mutable_assign()->mutable_key()->set_job("tenants/default/operations/op-" + std::to_string(attempt));
    conversion.mutable_assign()->mutable_ranks(0)->set_slot(-1);
    conversion.mutable_assign()->mutable_assignment()->mutable_conversion();
    coordinator_.send(conversion);
    const auto reply = coordinator_.expect(WorkerMessage::kAssignReply).assign_reply();
    EXPECT_TRUE(reply.accepted()) << reply.message();
  }
  CoordinatorMessage training = assign("hang", /*ranks=*/1, /*attempt=*/4);
  training.mutable_assign()->mutable_key()->set_job("tenants/default/jobs/other");
  training.mutable_assign()->mutable_ranks(0)->set_slot(-1);
  coordinator_.send(training);
  EXPECT_FALSE(coordinator_.expect(WorkerMessage::kAssignReply).assign_reply().accepted());
}

}  // namespace
}  // namespace qwen3::worker
