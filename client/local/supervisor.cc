#include "client/local/supervisor.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <iostream>
#include <stdexcept>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "client/local/paths.h"
#include "client/local/state.h"
#include "spec/config/data_root.h"

namespace qwen3::client::local {
namespace {

constexpr absl::Duration kTick = absl::Milliseconds(50);  // how soon a due restart or a new port file is seen
constexpr absl::Duration kStable = absl::Seconds(10);     // a process that lived so long starts backoff anew
constexpr absl::Duration kStopLimit = absl::Seconds(15);  // from SIGTERM to SIGKILL
constexpr absl::Duration kFirstBackoff = absl::Milliseconds(100);
constexpr absl::Duration kLastBackoff = absl::Seconds(2);

class Supervisor {
 public:
  explicit Supervisor(const ServiceOptions& options) : options_(options) {
    state_.dir = options.dir;
    state_.slots = options.slots;
    state_.supervisor = *identify(getpid());
    state_.workers.resize(options.workers);
    state_.coordinator.name = "coordinator";
    for (int i = 0; i < options.workers; ++i) state_.workers[i].name = absl::StrCat("local-", i);
    restarts_.resize(1 + state_.workers.size());
  }

  void run() {
    std::filesystem::remove(port_file());
    sigset_t signals;
    sigemptyset(&signals);
    for (const int signal : {SIGTERM, SIGINT, SIGHUP, SIGCHLD}) sigaddset(&signals, signal);
    sigprocmask(SIG_BLOCK, &signals, nullptr);
    save_state(state_);  // may throw: a service that nobody could find is not begun
    while (true) {
      if (!saved_) save();
      start_what_is_due();
      learn_ports();
      const timespec tick = absl::ToTimespec(kTick);
      const int signal = sigtimedwait(&signals, nullptr, &tick);
      if (signal == SIGTERM || signal == SIGINT) break;
      reap();
    }
    stop_all();
    remove_state(options_.dir);
  }

 private:
  struct Restart {
    absl::Time due = absl::InfinitePast();
    absl::Time started;
    int failures = 0;
  };

  std::string port_file() const { return absl::StrCat(options_.dir, "/ports.json"); }

  // Member 0 is the coordinator, the others are the workers.
  Member& member(size_t i) { return i == 0 ? state_.coordinator : state_.workers[i - 1]; }

  std::vector<std::string> command(size_t i) const {
    const std::string& dir = options_.dir;
    if (i == 0) {  // port 0 the first time, then the ports it got
      return {absl::StrCat(options_.bin_dir, "/qwen3-coordinator"),
              "--listen",
              absl::StrCat("127.0.0.1:", state_.ports.api),
              "--worker-listen",
              absl::StrCat("127.0.0.1:", state_.ports.worker),
              "--http-listen",
              absl::StrCat("127.0.0.1:", state_.ports.http),
              "--state-dir",
              absl::StrCat(dir, "/coordinator"),
              "--checkpoint-root",
              absl::StrCat(dir, "/checkpoints"),
              "--data-root",
              spec::config::default_data_root(),
              "--port-file",
              port_file()};
    }
    const std::string& name = state_.workers[i - 1].name;
    return {absl::StrCat(options_.bin_dir, "/qwen3-worker"),
            "--coordinator",
            absl::StrCat("127.0.0.1:", state_.ports.worker),
            "--id",
            name,
            "--slots",
            absl::StrCat(options_.slots),
            "--state-dir",
            absl::StrCat(dir, "/workers/", name),
            "--data-root",
            spec::config::default_data_root()};
  }

  void start_what_is_due() {
    for (size_t i = 0; i < restarts_.size(); ++i) {
      const bool possible = i == 0 || state_.ports.worker != 0;
      if (!possible || member(i).process.pid != 0 || absl::Now() < restarts_[i].due) continue;
      restarts_[i].started = absl::Now();
      try {
        member(i).process = spawn(command(i), log_file(options_.dir, member(i).name));
      } catch (const std::exception& e) {
        say(absl::StrCat(member(i).name, ": ", e.what(), "; tried again in ", absl::FormatDuration(back_off(i))));
        continue;
      }
      say(absl::StrCat(member(i).name, " started, pid ", member(i).process.pid));
      save();
    }
  }

  void learn_ports() {
    if (state_.ports.api != 0) return;
    const auto ports = load_ports(port_file());
    if (!ports) return;
    state_.ports = *ports;
    state_.address = absl::StrCat("127.0.0.1:", ports->api);
    say(absl::StrCat("coordinator serves at ", state_.address));
    save();
  }

  void reap() {
    int status = 0;
    for (pid_t pid; (pid = waitpid(-1, &status, WNOHANG)) > 0;) {
      for (size_t i = 0; i < restarts_.size(); ++i) {
        if (member(i).process.pid == pid) ended(i, status);
      }
    }
  }

  // How long until the member is started again.
  absl::Duration back_off(size_t i) {
    Restart& restart = restarts_[i];
    if (absl::Now() - restart.started > kStable) restart.failures = 0;
    const absl::Duration wait = std::min(kFirstBackoff * (1 << std::min(restart.failures, 10)), kLastBackoff);
    ++restart.failures;
    restart.due = absl::Now() + wait;
    return wait;
  }

  void ended(size_t i, int status) {
    const absl::Duration wait = back_off(i);
    member(i).process = {};
    ++member(i).restarts;
    say(absl::StrCat(member(i).name, WIFSIGNALED(status) ? " was killed by signal " : " exited with status ",
                     WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status), "; starts again in ",
                     absl::FormatDuration(wait)));
    save();
  }

  // local.json tells others what runs; what runs does not need it. What a full disk did not take is saved later.
  void save() {
    try {
      save_state(state_);
      saved_ = true;
    } catch (const std::exception& e) {
      if (saved_) say(absl::StrCat(e.what(), "; tried again until it can be"));
      saved_ = false;
    }
  }

  void stop_all() {
    say("stopping");
    for (size_t i = 0; i < restarts_.size(); ++i) send_signal(member(i).process, SIGTERM);
    const absl::Time limit = absl::Now() + kStopLimit;
    for (bool killed = false;;) {
      bool any = false;
      for (size_t i = 0; i < restarts_.size(); ++i) {
        pid_t& pid = member(i).process.pid;
        if (pid != 0 && waitpid(pid, nullptr, WNOHANG) == pid) pid = 0;
        any = any || pid != 0;
      }
      if (!any) return;
      if (!killed && absl::Now() > limit) {
        for (size_t i = 0; i < restarts_.size(); ++i) send_signal(member(i).process, SIGKILL);
        killed = true;
      }
      absl::SleepFor(absl::Milliseconds(5));
    }
  }

  // Into logs/supervisor.log. A line that a full disk does not take is lost, the next is tried.
  static void say(const std::string& line) {
    std::cout.clear();
    std::cout << absl::FormatTime("%Y-%m-%dT%H:%M:%E3SZ ", absl::Now(), absl::UTCTimeZone()) << line << std::endl;
  }

  const ServiceOptions options_;
  LocalState state_;
  std::vector<Restart> restarts_;
  bool saved_ = true;  // state_, in local.json
};

}  // namespace

int supervise(const ServiceOptions& options) try {
  // One supervisor for a folder: the lock goes with the process.
  const int lock = open((options.dir + "/supervisor.lock").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
  if (lock < 0 || flock(lock, LOCK_EX | LOCK_NB) != 0) {
    throw std::runtime_error(absl::StrCat(options.dir, " already has a supervisor"));
  }
  Supervisor(options).run();
  return 0;
} catch (const std::exception& e) {
  std::cerr << "qwen3ctl: local supervise: " << e.what() << std::endl;
  return 1;
}

void launch_supervisor(const ServiceOptions& options) {
  const std::string self = own_folder() + "/qwen3ctl";
  const std::string log = log_file(options.dir, "supervisor");
  const std::vector<std::string> argv = {self,
                                         "local",
                                         "supervise",
                                         "--dir",
                                         options.dir,
                                         "--bin-dir",
                                         options.bin_dir,
                                         "--workers",
                                         absl::StrCat(options.workers),
                                         "--slots",
                                         absl::StrCat(options.slots)};
  std::vector<char*> arguments;
  for (const std::string& argument : argv) arguments.push_back(const_cast<char*>(argument.c_str()));
  arguments.push_back(nullptr);
  const int output = open(log.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
  const int input = open("/dev/null", O_RDONLY | O_CLOEXEC);
  if (output < 0 || input < 0) throw std::runtime_error("cannot open " + log);
  const pid_t child = fork();
  if (child < 0) throw std::runtime_error("cannot start " + self);
  if (child == 0) {  // the second fork leaves a process that is nobody's child and has no terminal
    setsid();
    if (fork() != 0) _exit(0);
    dup2(input, STDIN_FILENO);
    dup2(output, STDOUT_FILENO);
    dup2(output, STDERR_FILENO);
    execv(arguments[0], arguments.data());
    _exit(127);
  }
  close(input);
  close(output);
  waitpid(child, nullptr, 0);
}

}  // namespace qwen3::client::local
