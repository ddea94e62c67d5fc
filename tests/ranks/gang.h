// The ranks of one assignment as threads of this process, meeting over TCP on loopback as processes do.
#pragma once
#include <future>
#include <string>
#include <vector>

#include "qwen3/internal/v1/rank.pb.h"
#include "spec/config/job_spec.h"
#include "worker/rank/standalone_link.h"

namespace qwen3::testing {

// What a rank reported.
class GangLink : public rank::StandaloneLink {
 public:
  explicit GangLink(std::shared_future<int> store_port) : store_port_(std::move(store_port)) {}
  void store_ready(int port) override { ready_.set_value(port); }
  std::string store_address() override { return "127.0.0.1:" + std::to_string(store_port_.get()); }
  void step_done(int64_t step, const rank::StepMetrics* metrics) override {
    if (metrics != nullptr) steps.push_back(*metrics);
  }
  void progress(int64_t done, int64_t total, const std::string& unit) override {
    progress_reports.push_back(std::to_string(done) + " of " + std::to_string(total) + " " + unit);
  }
  void finished(const internal::v1::RunFinished& finished) override { result = finished; }
  std::future<int> port() { return ready_.get_future(); }
  void give_up() { ready_.set_value(0); }  // rank 0 failed before it had a store

  std::vector<rank::StepMetrics> steps;
  std::vector<std::string> progress_reports;
  internal::v1::RunFinished result;

 private:
  std::promise<int> ready_;  // of rank 0
  std::shared_future<int> store_port_;
};

struct GangOutcome {
  internal::v1::RunFinished result;      // rank 0's
  std::vector<rank::StepMetrics> steps;  // rank 0's
  std::vector<std::string> progress;     // rank 0's
  std::string error;                     // of the first rank that failed; empty: none did
};

// Performs `assignment` on assignment.world_size() ranks, each with one OpenMP thread.
GangOutcome perform_as_threads(const internal::v1::RankAssignment& assignment,
                               const spec::config::Environment& environment);

}  // namespace qwen3::testing
