// A rank process without an engine, for tests of the daemon: it does what [job] description of its assignment says.
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <string>

#include "qwen3/internal/v1/rank.pb.h"
#include "worker/channel/channel.h"

extern char** environ;

namespace {

using qwen3::internal::v1::DaemonToRank;
using qwen3::internal::v1::RankAssignment;
using qwen3::internal::v1::RankToDaemon;
using qwen3::worker::Channel;

constexpr int kControlFd = 3;
constexpr int kSteps = 3;

// The next message of the wanted kind; ends the process when the daemon is gone.
DaemonToRank wait_for(Channel& channel, DaemonToRank::MessageCase wanted) {
  DaemonToRank message;
  do {
    if (!channel.receive(message).ok()) std::exit(3);
  } while (message.message_case() != wanted);
  return message;
}

void say(Channel& channel, const RankToDaemon& message) {
  if (!channel.send(message).ok()) std::exit(3);
}

void rendezvous(Channel& channel, const RankAssignment& assignment) {
  if (assignment.rank() == 0) {
    RankToDaemon store;
    store.set_store_port(4242);
    say(channel, store);
  } else {
    const DaemonToRank message = wait_for(channel, DaemonToRank::kStoreAddress);
    std::printf("store %s\n", message.store_address().c_str());
  }
}

void step(Channel& channel, const RankAssignment& assignment, int number) {
  RankToDaemon message;
  message.mutable_step_done()->set_step(number);
  if (assignment.rank() == 0) {
    message.mutable_step_done()->mutable_report()->set_step(number);
    message.mutable_step_done()->mutable_report()->set_loss(10.0 - number);
  }
  say(channel, message);
}

void prepare(Channel& channel, int number) {
  RankToDaemon message;
  message.mutable_prepared()->set_step(number);
  message.mutable_prepared()->set_last(true);
  message.mutable_prepared()->set_folder("/checkpoints/step-3.attempt-1");
  say(channel, message);
}

void finish(Channel& channel) {
  RankToDaemon message;
  message.mutable_finished()->set_step(kSteps);
  message.mutable_finished()->mutable_result()->set_final_loss(7.0);
  say(channel, message);
}

// A whole run: rendezvous, steps, a checkpoint that must be acknowledged and committed, the end.
void train(Channel& channel, const RankAssignment& assignment) {
  rendezvous(channel, assignment);
  for (int number = 1; number <= kSteps; ++number) step(channel, assignment, number);
  prepare(channel, kSteps);
  std::printf("acknowledged %lld\n",
              static_cast<long long>(wait_for(channel, DaemonToRank::kPreparedAckStep).prepared_ack_step()));
  std::printf("committed %lld\n",
              static_cast<long long>(wait_for(channel, DaemonToRank::kCommittedStep).committed_step()));
  finish(channel);
}

// Says nothing and does not end until the daemon is gone.
[[noreturn]] void hang(Channel& channel) {
  DaemonToRank message;
  while (channel.receive(message).ok()) {
  }
  std::exit(3);
}

void fail(Channel& channel, bool peer_lost) {
  RankToDaemon message;
  message.mutable_failed()->set_peer_lost(peer_lost);
  auto* failure = message.mutable_failed()->mutable_failure();
  failure->set_class_(qwen3::v1::FAILURE_CLASS_USER);
  failure->set_reason("NON_FINITE");
  failure->set_message("loss is nan at step 2");
  say(channel, message);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3 || std::string(argv[1]) != "--control-fd" || std::string(argv[2]) != "3") {
    std::fprintf(stderr, "fake_rank: wants --control-fd 3\n");
    return 64;
  }
  std::setvbuf(stdout, nullptr, _IOLBF, 0);
  Channel channel(kControlFd);
  const RankAssignment assignment = wait_for(channel, DaemonToRank::kAssignment).assignment();
  const std::string behaviour = assignment.spec().job().description();
  std::printf("pid %d\n", static_cast<int>(::getpid()));

  if (behaviour == "train") {
    train(channel, assignment);
  } else if (behaviour == "train, then prepare and hang") {
    rendezvous(channel, assignment);
    for (int number = 1; number <= kSteps; ++number) step(channel, assignment, number);
    prepare(channel, kSteps);
    hang(channel);
  } else if (behaviour == "wait for a word, then finish") {
    rendezvous(channel, assignment);
    wait_for(channel, DaemonToRank::kControl);
    for (int number = 1; number <= kSteps; ++number) step(channel, assignment, number);
    finish(channel);
  } else if (behaviour == "tell progress, wait for a word, then finish a task") {
    RankToDaemon message;
    message.mutable_progress()->set_done(3);
    message.mutable_progress()->set_total(8);
    say(channel, message);
    wait_for(channel, DaemonToRank::kControl);
    message.mutable_finished()->mutable_evaluation()->set_loss(2.5);
    say(channel, message);
  } else if (behaviour == "hang") {
    hang(channel);
  } else if (behaviour == "hang, deaf to its socket") {  // so that only the kernel can end it
    while (true) ::pause();
  } else if (behaviour == "crash") {
    ::signal(SIGSEGV, SIG_DFL);  // a sanitizer's handler would make it an exit
    ::raise(SIGSEGV);
  } else if (behaviour == "fail") {
    fail(channel, /*peer_lost=*/false);
    return 1;
  } else if (behaviour == "lose a peer") {
    fail(channel, /*peer_lost=*/true);
    return 1;
  } else if (behaviour == "print environment") {
    for (char** variable = environ; *variable != nullptr; ++variable) std::printf("ENV %s\n", *variable);
    finish(channel);
  } else if (behaviour == "print descriptors") {
    for (int fd = 0; fd < 256; ++fd) {
      if (::dup2(fd, fd) == fd) std::printf("FD %d\n", fd);
    }
    finish(channel);
  } else if (behaviour == "flood") {
    for (int line = 0; line < 100'000; ++line) std::printf("line %d\n", line);
    finish(channel);
  } else if (behaviour == "linger") {
    finish(channel);
    hang(channel);
  } else if (behaviour == "send rubbish") {
    const char rubbish[] = {'\xff', '\xff', '\xff', '\xff'};
    if (::send(kControlFd, rubbish, sizeof rubbish, 0) < 0) return 3;
    hang(channel);
  } else {
    std::fprintf(stderr, "fake_rank: no behaviour '%s'\n", behaviour.c_str());
    return 64;
  }
  return 0;
}
