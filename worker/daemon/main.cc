// qwen3-worker: the daemon of one host.
#include <fcntl.h>
#include <signal.h>
#include <spdlog/sinks/stdout_color_sinks.h>
#include <spdlog/spdlog.h>
#include <sys/file.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <iostream>
#include <memory>
#include <string>
#include <thread>

#include "spec/build_info/build_info.h"
#include "spec/config/data_root.h"
#include "worker/daemon/daemon.h"
#include "worker/daemon/host.h"
#include "worker/daemon/options.h"
#include "worker/daemon/options_check.h"

namespace {

constexpr int kExitUsage = 2;
constexpr int kExitStateDirHeld = 75;  // EX_TEMPFAIL, as the coordinator's

constexpr char kFooter[] = R"(Examples:
  qwen3-worker                                        one slot (or one per GPU), coordinator on this machine
  qwen3-worker --coordinator 10.0.0.1:7401 --advertise 10.0.0.7:eth0
  qwen3-worker --id local-1 --slots 2 --state-dir /var/lib/qwen3/local-1

SIGTERM kills the ranks and exits 0. Ranks die with the daemon, but not with the coordinator.)";

std::string variable(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? "" : value;
}

std::string default_state_dir(const std::string& worker_id) {
  const std::string state = variable("XDG_STATE_HOME");
  const std::string root = state.empty() ? "/var/tmp/qwen3-" + std::to_string(::getuid()) : state + "/qwen3";
  return root + "/" + worker_id;
}

std::string default_rank_binary() {
  std::error_code error;
  const auto self = std::filesystem::read_symlink("/proc/self/exe", error);
  return (self.parent_path() / "qwen3-rank").string();
}

// One daemon per state folder: a second one would announce the same worker. The lock lasts as long as the process.
void hold_state_dir(const std::string& folder) {
  std::error_code error;
  std::filesystem::create_directories(folder, error);
  const std::string path = folder + "/lock";
  const int fd = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  if (fd < 0) {
    std::cerr << "qwen3-worker: --state-dir " << folder << ": cannot open " << path << ": " << std::strerror(errno)
              << "\n";
    std::exit(kExitUsage);
  }
  if (::flock(fd, LOCK_EX | LOCK_NB) != 0) {
    char holder[32] = {};
    const ssize_t length = ::read(fd, holder, sizeof holder - 1);
    std::cerr << "qwen3-worker: --state-dir " << folder << " is held by process " << (length > 0 ? holder : "(unknown)")
              << ": each worker on a host wants a folder of its own\n";
    std::exit(kExitStateDirHeld);
  }
  const std::string pid = std::to_string(::getpid());
  if (::ftruncate(fd, 0) != 0 || ::write(fd, pid.data(), pid.size()) < 0) {
    spdlog::warn("cannot write {}: {}", path, std::strerror(errno));
  }
}

// Threads inherit the mask, so that only the thread that waits for them gets these signals.
sigset_t block_stop_signals() {
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGTERM);
  sigaddset(&signals, SIGINT);
  ::pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  ::signal(SIGPIPE, SIG_IGN);
  return signals;
}

void stop_on_signal(sigset_t signals, const std::shared_ptr<qwen3::worker::Daemon>& daemon) {
  std::thread([signals, daemon] {
    int signal = 0;
    ::sigwait(&signals, &signal);
    daemon->stop();
    ::sigwait(&signals, &signal);
    std::_Exit(1);  // asked twice: the kernel kills the ranks
  }).detach();
}

}  // namespace

int main(int argc, char** argv) {
  using namespace qwen3::worker;
  DaemonOptions options;
  options.rank_binary = default_rank_binary();
  options.data_root = qwen3::spec::config::default_data_root();
  options.worker_id = worker_id_from_hostname(host_name());
  options.device_kind = default_device_kind();
  options.slots = default_slots(options.device_kind);
  std::string advertise = options.advertise_address;
  std::string state_dir, library_path;

  CLI::App app("The daemon of one host: registers its slots with a coordinator, starts and supervises rank processes.");
  app.footer(kFooter);
  app.set_version_flag("--version", std::string("qwen3-worker ") + std::string(qwen3::build_id()));
  app.add_option("--coordinator", options.coordinator, "HOST:PORT of the coordinator's worker port")
      ->capture_default_str();
  app.add_option("--id", options.worker_id, "Id of this worker: 1-63 of [a-z0-9-]")->capture_default_str();
  app.add_option("--slots", options.slots, "Ranks that may run here at once, each on a device of its own")
      ->capture_default_str();
  app.add_option("--advertise", advertise,
                 "HOST[:INTERFACE] by which ranks on other hosts reach this one, and the interface they use")
      ->capture_default_str();
  app.add_option("--rank-binary", options.rank_binary, "Program of a rank")->capture_default_str();
  app.add_option("--state-dir", state_dir,
                 "Folder of this worker's own small files; default $XDG_STATE_HOME/qwen3/ID or /var/tmp/qwen3-UID/ID");
  app.add_option("--data-root", options.data_root, "Folder with datasets/ and tokenizers/; ranks get it as QWEN3_DATA")
      ->capture_default_str();
  const auto* library_path_option =
      app.add_option("--library-path", library_path, "LD_LIBRARY_PATH of the ranks; default: that of this process");
  CLI11_PARSE(app, argc, argv);

  if (*library_path_option) options.library_path = library_path;
  if (state_dir.empty()) state_dir = default_state_dir(options.worker_id);
  options.data_root = std::filesystem::absolute(options.data_root).string();
  options.rank_binary = std::filesystem::absolute(options.rank_binary).string();
  const absl::Status status = set_advertise(advertise, options);
  for (const absl::Status& problem : {status, check_options(options)}) {
    if (problem.ok()) continue;
    std::cerr << "qwen3-worker: " << std::string(problem.message()) << "\n";
    return kExitUsage;
  }

  spdlog::set_default_logger(spdlog::stderr_color_mt("qwen3-worker"));
  spdlog::set_pattern("%Y-%m-%dT%H:%M:%S.%e %^%l%$ %v");
  hold_state_dir(state_dir);
  const sigset_t signals = block_stop_signals();
  const auto daemon = std::make_shared<Daemon>(options);
  stop_on_signal(signals, daemon);
  daemon->run();
  return 0;
}
