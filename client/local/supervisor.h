// The process behind `qwen3ctl local up`: starts a coordinator and its daemons and starts again what dies, as systemd
// would. One thread; SIGTERM ends it and all it started.
#pragma once
#include <string>

namespace qwen3::client::local {

struct ServiceOptions {
  std::string dir;      // absolute; state, logs and checkpoints live below
  std::string bin_dir;  // folder of qwen3-coordinator and qwen3-worker
  int workers = 1;
  int slots = 1;  // of each worker
};

// The body of the hidden command `local supervise`. Returns the exit status.
int supervise(const ServiceOptions& options);

// Starts `qwen3ctl local supervise` as a daemon of its own session. Throws std::runtime_error.
void launch_supervisor(const ServiceOptions& options);

}  // namespace qwen3::client::local
