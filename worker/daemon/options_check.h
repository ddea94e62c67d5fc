// Reads and checks a daemon's options; messages name the flag, what it got and what it wants.
#pragma once
#include <string>

#include "absl/status/status.h"
#include "worker/daemon/options.h"

namespace qwen3::worker {

// "cuda" where this build can use GPUs and there are some, else "cpu".
std::string default_device_kind();
// One for each GPU; on a CPU one.
int default_slots(const std::string& device_kind);

// HOST, HOST:INTERFACE, [IPV6] or [IPV6]:INTERFACE into advertise_address and advertise_interface.
absl::Status set_advertise(const std::string& text, DaemonOptions& options);

absl::Status check_options(const DaemonOptions& options);

}  // namespace qwen3::worker
