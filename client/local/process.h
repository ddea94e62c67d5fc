// Processes by an identity that survives the reuse of their number: pid, start time and boot. A signal is sent only to
// the process that was meant.
#pragma once
#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace qwen3::client::local {

struct ProcessId {
  pid_t pid = 0;            // 0: no process
  uint64_t start_time = 0;  // clock ticks after boot (field 22 of /proc/PID/stat)
  std::string boot_id;      // /proc/sys/kernel/random/boot_id

  bool operator==(const ProcessId&) const = default;
};

// Nothing: there is no such process, or only its zombie.
std::optional<ProcessId> identify(pid_t pid);

// Whether that very process still runs.
bool is_alive(const ProcessId& process);

// Sends `signal` if that very process still runs; false: it does not, and nothing was sent.
bool send_signal(const ProcessId& process, int signal);

// Starts argv[0] with standard input from /dev/null and both outputs appended to log_file. The child gets SIGTERM when
// the calling thread ends. Throws std::system_error.
ProcessId spawn(const std::vector<std::string>& argv, const std::string& log_file);

// Folder of the running executable.
std::string own_folder();

}  // namespace qwen3::client::local
