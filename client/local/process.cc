#include "client/local/process.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <sstream>
#include <system_error>

extern "C" {  // the header of glibc 2.36 forgets it
#include <sys/pidfd.h>
}

namespace qwen3::client::local {
namespace {

std::string boot_id() {
  std::string id;
  std::ifstream("/proc/sys/kernel/random/boot_id") >> id;
  return id;
}

[[noreturn]] void fail(const std::string& what) { throw std::system_error(errno, std::generic_category(), what); }

}  // namespace

std::optional<ProcessId> identify(pid_t pid) {
  std::ifstream file("/proc/" + std::to_string(pid) + "/stat");
  std::string stat;
  if (pid <= 0 || !std::getline(file, stat)) return std::nullopt;
  // "PID (name) S ...": the name may hold spaces and parentheses, so fields are counted after the last ')'.
  std::istringstream fields(stat.substr(stat.rfind(')') + 1));
  std::string field;
  ProcessId process{.pid = pid, .boot_id = boot_id()};
  for (int number = 3; fields >> field; ++number) {
    if (number == 3 && (field == "Z" || field == "X")) return std::nullopt;
    if (number == 22) {
      process.start_time = std::stoull(field);
      return process;
    }
  }
  return std::nullopt;
}

bool is_alive(const ProcessId& process) { return process.pid > 0 && identify(process.pid) == process; }

bool send_signal(const ProcessId& process, int signal) {
  const int fd = process.pid > 0 ? pidfd_open(process.pid, 0) : -1;
  if (fd < 0) return false;
  // The descriptor pins one process: if the identity still holds now, the signal cannot reach another.
  const bool sent = is_alive(process) && pidfd_send_signal(fd, signal, nullptr, 0) == 0;
  close(fd);
  return sent;
}

ProcessId spawn(const std::vector<std::string>& argv, const std::string& log_file) {
  const int log = open(log_file.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
  if (log < 0) fail("cannot open " + log_file);
  std::vector<char*> arguments;
  for (const std::string& argument : argv) arguments.push_back(const_cast<char*>(argument.c_str()));
  arguments.push_back(nullptr);
  const pid_t parent = getpid();
  const pid_t pid = fork();
  if (pid < 0) {
    const int error = errno;
    close(log);
    throw std::system_error(error, std::generic_category(), "cannot start " + argv[0]);
  }
  if (pid == 0) {  // only async-signal-safe calls from here to execv
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    if (getppid() != parent) _exit(127);
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, nullptr);
    dup2(open("/dev/null", O_RDONLY), STDIN_FILENO);
    dup2(log, STDOUT_FILENO);
    dup2(log, STDERR_FILENO);
    execv(arguments[0], arguments.data());
    constexpr char message[] = "cannot execute the program\n";
    [[maybe_unused]] const ssize_t written = write(STDERR_FILENO, message, sizeof(message) - 1);
    _exit(127);
  }
  close(log);
  return identify(pid).value_or(ProcessId{.pid = pid});
}

std::string own_folder() { return std::filesystem::read_symlink("/proc/self/exe").parent_path().string(); }

}  // namespace qwen3::client::local
