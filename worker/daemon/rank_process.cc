#include "worker/daemon/rank_process.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"

namespace qwen3::worker {
namespace {

constexpr int kSendTimeoutMs = 1000;
// How long lines that were dropped may wait for the next line that passes, before a line of their own tells of them.
constexpr int kDroppedNoticeMs = 1000;

// One of the two output pipes.
struct OutputPipe {
  int fd;
  bool is_stderr;
  LineSplitter splitter;
  bool open = true;
};

// Reads up to `reads` times 64 KiB, which is what a pipe holds, from a non-blocking pipe; false at its end.
bool drain(OutputPipe& pipe, int reads, const std::function<void(std::string)>& on_line) {
  std::array<char, 64 << 10> buffer;
  for (; reads > 0; --reads) {
    const ssize_t got = ::read(pipe.fd, buffer.data(), buffer.size());
    if (got < 0) return errno == EINTR || errno == EAGAIN;
    if (got == 0) return false;
    for (std::string& line : pipe.splitter.feed({buffer.data(), static_cast<size_t>(got)})) on_line(std::move(line));
  }
  return true;
}

}  // namespace

absl::StatusOr<std::unique_ptr<RankProcess>> RankProcess::start(Command command, Listener listener) {
  auto sockets = make_socket_pair();
  if (!sockets.ok()) return sockets.status();
  command.control_fd = sockets->second;
  absl::StatusOr<Child> child = start_process(command);
  ::close(sockets->second);
  if (!child.ok()) {
    ::close(sockets->first);
    return child.status();
  }
  return std::unique_ptr<RankProcess>(new RankProcess(*child, sockets->first, std::move(listener)));
}

RankProcess::RankProcess(Child child, int control_fd, Listener listener)
    : child_(child), channel_(control_fd), listener_(std::move(listener)), output_stop_(::eventfd(0, EFD_CLOEXEC)) {
  channel_.set_send_timeout(kSendTimeoutMs);
  watcher_ = std::thread(&RankProcess::watch, this);
}

RankProcess::~RankProcess() {
  kill();
  watcher_.join();
  reap(child_.pid);
  ::close(output_stop_);
  ::close(child_.stdout_fd);
  ::close(child_.stderr_fd);
}

absl::Status RankProcess::send(const internal::v1::DaemonToRank& message) { return channel_.send(message); }

void RankProcess::kill() { ::kill(-child_.pid, SIGKILL); }

void RankProcess::watch() {
  std::thread control(&RankProcess::read_control, this);
  std::thread output(&RankProcess::read_output, this);
  const ExitStatus status = wait_for_exit(child_.pid);
  kill();               // what the rank may have started
  channel_.shutdown();  // ends the reader after what has arrived, whoever else holds the socket
  ::eventfd_write(output_stop_, 1);
  control.join();
  output.join();
  listener_.on_exit(status);
}

void RankProcess::read_control() {
  while (true) {
    internal::v1::RankToDaemon message;
    const absl::Status status = channel_.receive(message);
    if (status.ok()) {
      listener_.on_message(std::move(message));
      continue;
    }
    if (absl::IsInvalidArgument(status)) {  // no way back into step: a rank that cannot be heard is of no use
      listener_.on_output(
          {{.line = absl::StrCat("qwen3-worker: killed: ", std::string(status.message())), .is_stderr = true}});
      kill();
    }
    return;
  }
}

void RankProcess::read_output() {
  std::array<OutputPipe, 2> pipes{OutputPipe{.fd = child_.stdout_fd, .is_stderr = false},
                                  OutputPipe{.fd = child_.stderr_fd, .is_stderr = true}};
  for (const OutputPipe& pipe : pipes) ::fcntl(pipe.fd, F_SETFL, O_NONBLOCK);
  LogThrottle throttle;
  bool process_gone = false;
  bool told_of_dropped = true;
  while (!process_gone && (pipes[0].open || pipes[1].open)) {
    std::array<pollfd, 3> polls{};
    for (size_t i = 0; i < 2; ++i) polls[i] = {.fd = pipes[i].open ? pipes[i].fd : -1, .events = POLLIN};
    polls[2] = {.fd = output_stop_, .events = POLLIN};
    const int ready = ::poll(polls.data(), polls.size(), told_of_dropped ? -1 : kDroppedNoticeMs);
    process_gone = polls[2].revents != 0;

    std::vector<LogLine> lines;
    const auto now = std::chrono::steady_clock::now();
    const auto admit = [&](std::string text, bool is_stderr) {
      LogLine line{.line = std::move(text), .is_stderr = is_stderr};
      told_of_dropped = throttle.admit(line, now);
      if (told_of_dropped) lines.push_back(std::move(line));
    };
    for (OutputPipe& pipe : pipes) {
      if (!pipe.open) continue;
      pipe.open = drain(pipe, /*reads=*/process_gone ? 4 : 1,
                        [&](std::string line) { admit(std::move(line), pipe.is_stderr); });
      if (pipe.open && !process_gone) continue;
      for (std::string& line : pipe.splitter.finish()) admit(std::move(line), pipe.is_stderr);
    }
    if (ready == 0 || process_gone || !(pipes[0].open || pipes[1].open)) {
      if (const int64_t dropped = throttle.take_dropped(); dropped > 0) lines.push_back({.dropped = dropped});
      told_of_dropped = true;
    }
    if (!lines.empty()) listener_.on_output(std::move(lines));
  }
}

}  // namespace qwen3::worker
