#include "worker/daemon/process.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace qwen3::worker {
namespace {

constexpr int kControlFd = 3;

// Closes what it still owns.
struct Pipe {
  int read = -1, write = -1;
  bool open() {
    std::array<int, 2> fds{};
    if (::pipe2(fds.data(), O_CLOEXEC) != 0) return false;
    read = fds[0];
    write = fds[1];
    return true;
  }
  void close_write() {
    if (write >= 0) ::close(write);
    write = -1;
  }
  int release_read() {
    const int fd = read;
    read = -1;
    return fd;
  }
  ~Pipe() {
    if (read >= 0) ::close(read);
    close_write();
  }
};

std::vector<char*> pointers(const std::vector<std::string>& strings) {
  std::vector<char*> result;
  for (const std::string& string : strings) result.push_back(const_cast<char*>(string.c_str()));
  result.push_back(nullptr);
  return result;
}

// Between fork and exec in a process of many threads only async-signal-safe calls are allowed: no allocation, no lock.
// Each descriptor is first moved out of the way of the numbers it may have to make room for.
[[noreturn]] void become(const char* binary, char* const* argv, char* const* envp, int out, int err, int control,
                         int report, pid_t parent) {
  ::setpgid(0, 0);
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (::getppid() != parent) ::_exit(127);  // it died before prctl
  for (int number = 1; number < NSIG; ++number) {
    if (number != SIGKILL && number != SIGSTOP) ::signal(number, SIG_DFL);
  }
  sigset_t none;
  sigemptyset(&none);
  ::sigprocmask(SIG_SETMASK, &none, nullptr);

  constexpr int kAbove = 16;
  out = ::fcntl(out, F_DUPFD_CLOEXEC, kAbove);
  err = ::fcntl(err, F_DUPFD_CLOEXEC, kAbove);
  control = ::fcntl(control, F_DUPFD_CLOEXEC, kAbove);
  report = ::fcntl(report, F_DUPFD_CLOEXEC, kAbove);
  const int null = ::open("/dev/null", O_RDONLY | O_CLOEXEC);
  if (out >= 0 && err >= 0 && control >= 0 && report >= 0 && null >= 0 && ::dup2(null, 0) >= 0 && ::dup2(out, 1) >= 0 &&
      ::dup2(err, 2) >= 0 && ::dup2(control, kControlFd) >= 0) {
    ::close_range(kControlFd + 1, ~0U, CLOSE_RANGE_CLOEXEC);  // whatever a library opened without the flag
    ::execve(binary, argv, envp);
  }
  const int error = errno;
  [[maybe_unused]] const ssize_t ignored = ::write(report, &error, sizeof error);
  ::_exit(127);
}

}  // namespace

absl::StatusOr<Child> start_process(const Command& command) {
  Pipe out, err, report;
  if (!out.open() || !err.open() || !report.open()) {
    return absl::ErrnoToStatus(errno, absl::StrCat("cannot start ", command.binary, ": no pipe"));
  }
  std::vector<std::string> arguments = command.arguments;
  arguments.insert(arguments.begin(), command.binary);
  const std::vector<char*> argv = pointers(arguments), envp = pointers(command.environment);
  const pid_t parent = ::getpid();
  const pid_t pid = ::fork();
  if (pid < 0) return absl::ErrnoToStatus(errno, absl::StrCat("cannot start ", command.binary, ": fork"));
  if (pid == 0) {
    become(command.binary.c_str(), argv.data(), envp.data(), out.write, err.write, command.control_fd, report.write,
           parent);
  }
  ::setpgid(pid, pid);  // also here: a kill of the group may come before the child's own call
  out.close_write();
  err.close_write();
  report.close_write();
  int error = 0;
  ssize_t got = 0;
  do {
    got = ::read(report.read, &error, sizeof error);  // end of file: exec closed it
  } while (got < 0 && errno == EINTR);
  if (got == static_cast<ssize_t>(sizeof error)) {
    reap(pid);
    return absl::ErrnoToStatus(error, absl::StrCat("cannot start ", command.binary));
  }
  return Child{.pid = pid, .stdout_fd = out.release_read(), .stderr_fd = err.release_read()};
}

ExitStatus wait_for_exit(pid_t pid) {
  siginfo_t info{};
  while (::waitid(P_PID, static_cast<id_t>(pid), &info, WEXITED | WNOWAIT) != 0 && errno == EINTR) {
  }
  if (info.si_code == CLD_EXITED) return {.exit_code = info.si_status, .signal = 0};
  return {.exit_code = -1, .signal = info.si_status};
}

void reap(pid_t pid) {
  while (::waitpid(pid, nullptr, 0) < 0 && errno == EINTR) {
  }
}

}  // namespace qwen3::worker
