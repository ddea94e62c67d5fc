// A rank process as its daemon sees it: started, spoken to over its control socket, listened to, and reaped.
#pragma once
#include <sys/types.h>

#include <functional>
#include <memory>
#include <thread>
#include <vector>

#include "absl/status/statusor.h"
#include "qwen3/internal/v1/rank.pb.h"
#include "worker/channel/channel.h"
#include "worker/daemon/log_lines.h"
#include "worker/daemon/process.h"

namespace qwen3::worker {

class RankProcess {
 public:
  // Called on threads of this object; must not block.
  struct Listener {
    std::function<void(internal::v1::RankToDaemon)> on_message;
    std::function<void(std::vector<LogLine>)> on_output;
    std::function<void(ExitStatus)> on_exit;  // once, after every message and line
  };

  // `command.control_fd` is filled in here. Call it from one thread that lives as long as the daemon.
  static absl::StatusOr<std::unique_ptr<RankProcess>> start(Command command, Listener listener);
  // Kills what still runs, and waits for it.
  ~RankProcess();

  // A rank that reads nothing for a second, its socket's buffer being full, is an error like a lost one.
  absl::Status send(const internal::v1::DaemonToRank& message);
  // SIGKILL to its process group. Ranks are crash-only: nothing gentler is needed.
  void kill();
  pid_t pid() const { return child_.pid; }

 private:
  RankProcess(Child child, int control_fd, Listener listener);
  void read_control();
  void read_output();
  void watch();

  Child child_;
  Channel channel_;
  Listener listener_;
  int output_stop_ = -1;  // eventfd: the process is gone, read what is there and end
  std::thread watcher_;   // starts and joins the two readers
};

}  // namespace qwen3::worker
