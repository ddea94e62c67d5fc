// Every Prometheus series of the coordinator. A job's id is a label only of gauges of living jobs, which go when it
// ends.
#pragma once
#include <prometheus/registry.h>

#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "coordinator/controller.h"

namespace prometheus {
template <typename T>
class Family;
class Gauge;
class Counter;
class Histogram;
}  // namespace prometheus

namespace qwen3::coordinator {

class Metrics {
 public:
  Metrics();
  void count_rpc(const std::string& method, absl::StatusCode code);
  void observe_queue_wait(absl::Duration wait);
  void set_progress(const std::string& job, const v1::Progress& progress);
  void remove_job(const std::string& job);
  void set_counts(const Counts& counts);
  void set_watchers(size_t streams);
  std::string serialize();  // in Prometheus' text format

 private:
  struct JobGauges {
    prometheus::Gauge* step;
    prometheus::Gauge* loss;
    prometheus::Gauge* tokens_per_second;
  };
  std::mutex mutex_;  // guards live_
  prometheus::Registry registry_;
  prometheus::Family<prometheus::Counter>& rpcs_;
  prometheus::Family<prometheus::Gauge>& jobs_;
  prometheus::Family<prometheus::Gauge>& operations_;
  prometheus::Family<prometheus::Gauge>& workers_;
  prometheus::Family<prometheus::Gauge>& slots_;
  prometheus::Family<prometheus::Gauge>& job_step_;
  prometheus::Family<prometheus::Gauge>& job_loss_;
  prometheus::Family<prometheus::Gauge>& job_tokens_;
  prometheus::Gauge& streams_;
  prometheus::Histogram& queue_wait_;
  std::map<std::string, JobGauges> live_;
};

}  // namespace qwen3::coordinator
