// How a coordinator is started.
#pragma once
#include <string>

#include "absl/time/time.h"
#include "coordinator/leases.h"

namespace qwen3::coordinator {

struct Options {
  std::string listen = "127.0.0.1:7400";         // the API
  std::string worker_listen = "127.0.0.1:7401";  // daemons
  std::string http_listen = "127.0.0.1:7402";    // metrics and probes
  std::string state_dir;                         // database, records, lock
  std::string checkpoint_root;                   // shared with all daemons
  std::string data_root;                         // datasets/ and tokenizers/; empty: none
  bool insecure = false;                         // allows addresses that are not loopback

  // Time bounds; tests shorten them.
  Leases::Bounds leases;
  absl::Duration cancel_grace = absl::Seconds(10);
  absl::Duration exit_window = absl::Seconds(5);
  absl::Duration evidence_window = absl::Seconds(1);
  int heartbeat_seconds = 10;  // silence of a watch stream until a heartbeat
};

}  // namespace qwen3::coordinator
