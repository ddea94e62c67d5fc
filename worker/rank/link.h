// What a rank says and hears while it runs. In the service the other end is the daemon (daemon_link.h); standalone it
// is the terminal (standalone_link.h). All calls come from the training thread but prepared(), which may also come from
// the checkpoint writer's.
#pragma once
#include <cstdint>
#include <string>

#include "qwen3/internal/v1/rank.pb.h"
#include "worker/rank/metrics/step_metrics.h"
#include "worker/rank/trainer.h"

namespace qwen3::rank {

class Link {
 public:
  virtual ~Link() = default;
  // The store of rank 0 is bound to `port`.
  virtual void store_ready(int port) = 0;
  // HOST:PORT of the store; waits until it is known.
  virtual std::string store_address() = 0;
  // Rank 0: what to do after step `step`.
  virtual Orders::Word word_for(int64_t step) = 0;
  // Rank 0: the oldest trace that was ordered and not taken yet, each once; steps 0: none.
  virtual TraceOrder take_trace() { return {}; }
  // `metrics` is null where nothing is to be reported.
  virtual void step_done(int64_t step, const StepMetrics* metrics) = 0;
  // How far a task (not a training run) is; `unit` is "microbatches" or "bytes". From its rank 0.
  virtual void progress(int64_t done, int64_t total, const std::string& unit) = 0;
  // This rank's part is on disk or, with an error, could not be written.
  virtual void prepared(const internal::v1::PreparedCheckpoint& checkpoint) = 0;
  // No rank begins the save of `step`.
  virtual void skipped(int64_t step, const std::string& reason) = 0;
  // Whether the checkpoint of `step` waits for nothing any more: it is committed, or given up because a rank could not
  // write its part.
  virtual bool settled(int64_t step) = 0;
  // Waits until the checkpoint of `step` is committed, however long that takes.
  virtual void wait_committed(int64_t step) = 0;
  virtual void finished(const internal::v1::RunFinished& result) = 0;
  virtual void failed(const internal::v1::RankFailed& failure) = 0;
};

}  // namespace qwen3::rank
