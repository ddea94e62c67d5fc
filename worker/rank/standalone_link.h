// A run without a service: reports go to the terminal, and the only rank commits its own checkpoints.
#pragma once
#include <atomic>
#include <string>

#include "worker/rank/link.h"

namespace qwen3::rank {

class StandaloneLink : public Link {
 public:
  void store_ready(int port) override;
  std::string store_address() override;
  Orders::Word word_for(int64_t step) override;
  void step_done(int64_t step, const StepMetrics* metrics) override;
  void progress(int64_t done, int64_t total, const std::string& unit) override;
  void prepared(const internal::v1::PreparedCheckpoint& checkpoint) override;
  void skipped(int64_t step, const std::string& reason) override;
  bool settled(int64_t step) override { return step <= settled_step_; }
  void wait_committed(int64_t step) override;
  void finished(const internal::v1::RunFinished& result) override;
  void failed(const internal::v1::RankFailed& failure) override;

 private:
  std::atomic<int64_t> committed_step_ = 0;  // set by the writing thread, like the next
  std::atomic<int64_t> settled_step_ = 0;    // newest one that was committed or could not be written
};

}  // namespace qwen3::rank
