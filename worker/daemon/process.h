// Starts a child process with nothing inherited but what is listed, in a process group of its own.
#pragma once
#include <sys/types.h>

#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace qwen3::worker {

struct Command {
  std::string binary;                    // path; not searched in PATH
  std::vector<std::string> arguments;    // without argv[0]
  std::vector<std::string> environment;  // "NAME=value", all of it
  int control_fd = -1;                   // becomes descriptor 3
};

// A started child. The caller owns the descriptors and reaps the pid.
struct Child {
  pid_t pid = -1;
  int stdout_fd = -1;
  int stderr_fd = -1;
};

// Descriptors of the child: 0 is /dev/null, 1 and 2 are pipes, 3 is control_fd, no others. The kernel kills the child
// when the calling *thread* ends, so call this from a thread that lives as long as the daemon.
// NOT_FOUND, PERMISSION_DENIED, RESOURCE_EXHAUSTED, ...: what failed and why; no child is left.
absl::StatusOr<Child> start_process(const Command& command);

// How a process ended.
struct ExitStatus {
  int exit_code = -1;  // -1: killed by a signal
  int signal = 0;      // 0: it exited
};

// Blocks until the child has ended and leaves it a zombie, so that its pid stays ours.
ExitStatus wait_for_exit(pid_t pid);
// Ends the zombie.
void reap(pid_t pid);

}  // namespace qwen3::worker
