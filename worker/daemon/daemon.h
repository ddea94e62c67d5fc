// The daemon of a host: owns its slots, holds the session with the coordinator, starts and supervises ranks. It never
// stops ranks because the coordinator is away.
#pragma once
#include <memory>
#include <string>

#include "worker/daemon/attempts.h"
#include "worker/daemon/coordinator_link.h"
#include "worker/daemon/event_loop.h"
#include "worker/daemon/options.h"
#include "worker/daemon/spool.h"

namespace qwen3::worker {

class Daemon {
 public:
  explicit Daemon(DaemonOptions options);

  // Works until stop(). The kernel kills the ranks when the calling thread ends, however it ends.
  void run();
  // Any thread: kills the ranks, gives the coordinator the time of options.flush_timeout to take what is left, and
  // makes run() return.
  void stop();

 private:
  internal::v1::Hello hello() const;
  void beat();
  void close_when_done();
  void close();

  const DaemonOptions options_;
  const std::string incarnation_;
  const std::shared_ptr<EventLoop> loop_ = std::make_shared<EventLoop>();
  Spool spool_;
  Attempts attempts_;
  CoordinatorLink link_;
  bool stopping_ = false;
  bool closing_ = false;
};

}  // namespace qwen3::worker
