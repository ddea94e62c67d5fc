// The rank's end of the control socket to its daemon.
#pragma once
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <mutex>
#include <set>
#include <string>
#include <thread>

#include "worker/channel/channel.h"
#include "worker/rank/link.h"

namespace qwen3::rank {

class DaemonLink : public Link {
 public:
  // Owns `fd`. Waits for the assignment, which is the daemon's first message.
  explicit DaemonLink(int fd);
  ~DaemonLink() override;
  const internal::v1::RankAssignment& assignment() const { return assignment_; }

  void store_ready(int port) override;
  std::string store_address() override;
  Orders::Word word_for(int64_t step) override;
  TraceOrder take_trace() override;
  void step_done(int64_t step, const StepMetrics* metrics) override;
  void progress(int64_t done, int64_t total, const std::string& unit) override;
  void prepared(const internal::v1::PreparedCheckpoint& checkpoint) override;
  void skipped(int64_t step, const std::string& reason) override;
  bool settled(int64_t step) override;
  void wait_committed(int64_t step) override;
  void finished(const internal::v1::RunFinished& result) override;
  void failed(const internal::v1::RankFailed& failure) override;

 private:
  void read_loop();
  void send(const internal::v1::RankToDaemon& message);

  worker::Channel channel_;
  internal::v1::RankAssignment assignment_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::string store_address_;  // guarded by mutex_, like the rest
  internal::v1::RankControl control_;
  std::deque<TraceOrder> traces_;   // not taken yet
  std::set<int64_t> known_traces_;  // that were ever ordered
  int64_t committed_step_ = 0;
  std::set<int64_t> given_up_;  // steps
  bool closing_ = false;
  std::thread reader_;
};

}  // namespace qwen3::rank
