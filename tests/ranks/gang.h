// The ranks of one assignment as threads of this process, meeting over TCP on loopback as processes do.
#pragma once
#include <condition_variable>
#include <future>
#include <map>
#include <mutex>
#include <string>
#include <vector>

#include "checkpoint/manifest.h"
#include "qwen3/internal/v1/rank.pb.h"
#include "spec/config/job_spec.h"
#include "worker/rank/standalone_link.h"

namespace qwen3::testing {

// Commits a checkpoint when all ranks have prepared their parts, as the coordinator does.
class GangCommits {
 public:
  explicit GangCommits(size_t world) : world_(world) {}
  void prepared(const internal::v1::PreparedCheckpoint& checkpoint);
  int64_t newest();
  // Gives up, with an exception, after a minute.
  void wait(int64_t step);

 private:
  const size_t world_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::map<int64_t, std::vector<checkpoint::Manifest>> parts_;  // by step; guarded by mutex_
  int64_t newest_ = 0;                                          // guarded by mutex_
};

// What a rank reported.
class GangLink : public rank::StandaloneLink {
 public:
  GangLink(std::shared_future<int> store_port, GangCommits& commits)
      : commits_(commits), store_port_(std::move(store_port)) {}
  void store_ready(int port) override { ready_.set_value(port); }
  std::string store_address() override { return "127.0.0.1:" + std::to_string(store_port_.get()); }
  void step_done(int64_t step, const rank::StepMetrics* metrics) override {
    if (metrics != nullptr) steps.push_back(*metrics);
  }
  void progress(int64_t done, int64_t total, const std::string& unit) override {
    progress_reports.push_back(std::to_string(done) + " of " + std::to_string(total) + " " + unit);
  }
  void prepared(const internal::v1::PreparedCheckpoint& checkpoint) override { commits_.prepared(checkpoint); }
  bool settled(int64_t step) override { return commits_.newest() >= step; }
  void wait_committed(int64_t step) override { commits_.wait(step); }
  void finished(const internal::v1::RunFinished& finished) override { result = finished; }
  std::future<int> port() { return ready_.get_future(); }
  void give_up() { ready_.set_value(0); }  // rank 0 failed before it had a store

  std::vector<rank::StepMetrics> steps;
  std::vector<std::string> progress_reports;
  internal::v1::RunFinished result;

 private:
  GangCommits& commits_;
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
