// DIR/local.json: what a local service (qwen3ctl local up) consists of. Written only by its supervisor, atomically.
#pragma once
#include <optional>
#include <string>
#include <vector>

#include "client/local/process.h"

namespace qwen3::client::local {

struct Ports {
  int api = 0, worker = 0, http = 0;  // 0: not bound yet
};

struct Member {
  std::string name;   // "coordinator", "local-0", ...
  ProcessId process;  // pid 0: being restarted
  int restarts = 0;
};

struct LocalState {
  std::string dir;
  std::string address;  // HOST:PORT of the API; empty: not serving yet
  Ports ports;
  int slots = 0;  // of each worker
  ProcessId supervisor;
  Member coordinator;
  std::vector<Member> workers;
};

// Nothing: no file, or one that is not of this format.
std::optional<LocalState> load_state(const std::string& dir);
// Throws std::runtime_error.
void save_state(const LocalState& state);
void remove_state(const std::string& dir);

// The ports in a coordinator's --port-file; nothing: it is not there yet.
std::optional<Ports> load_ports(const std::string& file);

}  // namespace qwen3::client::local
