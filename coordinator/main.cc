// qwen3-coordinator: flags, signals, exit codes.
#include <signal.h>
#include <spdlog/spdlog.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <sstream>
#include <string>

#include "coordinator/coordinator.h"
#include "spec/build_info/build_info.h"
#include "spec/config/data_root.h"

namespace {

using qwen3::coordinator::Coordinator;
using qwen3::coordinator::Options;

constexpr int kExitUsage = 64;
constexpr int kExitUnavailable = 69;
constexpr int kExitStateInUse = 75;

constexpr char kExamples[] = R"(
Examples:
  qwen3-coordinator --state-dir /var/lib/qwen3 --checkpoint-root /shared/checkpoints
  qwen3-coordinator --state-dir ./state --checkpoint-root ./checkpoints --listen 127.0.0.1:0 --port-file ports.json

Exit codes: 0 stopped by SIGTERM or SIGINT, 64 a flag or folder cannot be used, 69 a port is taken,
74 the database could not be written, 75 another coordinator uses the state folder.)";

// The whole file or nothing: written beside it, then renamed. One that says so already stays, so that a start with the
// same ports needs no room on the disk.
bool write_port_file(const std::string& path, const Coordinator::Ports& ports) {
  std::ostringstream text, there;
  text << "{\"api\": " << ports.api << ", \"worker\": " << ports.worker << ", \"http\": " << ports.http << "}\n";
  if (there << std::ifstream(path).rdbuf(); there.str() == text.str()) return true;
  const std::string temporary = path + ".tmp";
  {
    std::ofstream file(temporary);
    file << text.str();
    if (!file.flush()) return false;
  }
  return std::rename(temporary.c_str(), path.c_str()) == 0;
}

int exit_code(const absl::Status& status) {
  if (absl::IsAborted(status)) return kExitStateInUse;
  if (absl::IsUnavailable(status)) return kExitUnavailable;
  return kExitUsage;
}

}  // namespace

int main(int argc, char** argv) {
  Options options;
  std::string port_file;
  CLI::App app("Accepts training jobs, queues them, runs them on the worker daemons that connect, keeps their state.",
               "qwen3-coordinator");
  app.footer(kExamples);
  app.set_version_flag("--version", std::string(qwen3::build_id()));
  options.data_root = qwen3::spec::config::default_data_root();
  app.add_option("--listen", options.listen, "HOST:PORT of the API; port 0: any")->capture_default_str();
  app.add_option("--worker-listen", options.worker_listen, "HOST:PORT for worker daemons")->capture_default_str();
  app.add_option("--http-listen", options.http_listen, "HOST:PORT of /metrics, /livez, /readyz")->capture_default_str();
  app.add_option("--state-dir", options.state_dir, "Folder of the database and the records (a local disk)")->required();
  app.add_option("--checkpoint-root", options.checkpoint_root,
                 "Folder of all checkpoints; daemons must see the same one at the same path")
      ->required();
  app.add_option("--data-root", options.data_root, "Folder with datasets/ and tokenizers/, as set-up fills it")
      ->capture_default_str();
  app.add_flag("--insecure", options.insecure,
               "Allow addresses that are not loopback although nobody is asked who he is");
  app.add_option("--port-file", port_file, "Write {\"api\": N, \"worker\": N, \"http\": N} there once serving");
  CLI11_PARSE(app, argc, argv);

  // Blocked in every thread; this one waits for them below.
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGTERM);
  sigaddset(&signals, SIGINT);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  signal(SIGPIPE, SIG_IGN);

  auto coordinator = Coordinator::start(options);
  if (!coordinator.ok()) {
    std::cerr << "qwen3-coordinator: " << coordinator.status().message() << "\n";
    return exit_code(coordinator.status());
  }
  const Coordinator::Ports ports = (*coordinator)->ports();
  spdlog::info("qwen3-coordinator {} serves the API on port {}, daemons on {}, HTTP on {}",
               std::string(qwen3::build_id()), ports.api, ports.worker, ports.http);
  if (options.insecure) {
    spdlog::warn("--insecure: everyone who reaches these ports may run jobs and read their results");
  }
  if (!port_file.empty() && !write_port_file(port_file, ports)) {
    std::cerr << "qwen3-coordinator: cannot write --port-file " << port_file << "\n";
    return kExitUsage;
  }
  int received = 0;
  sigwait(&signals, &received);
  spdlog::info("stopping on {}", received == SIGTERM ? "SIGTERM" : "SIGINT");
  (*coordinator)->stop();
  return EXIT_SUCCESS;
}
