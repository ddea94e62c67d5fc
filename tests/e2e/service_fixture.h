// A real service for tests: one qwen3-coordinator and some qwen3-worker daemons as child processes, on loopback ports
// the system picks, in a folder of its own that goes with it. Its verbs kill and start single processes.
#pragma once
#include <sys/types.h>

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "client/client.h"
#include "tests/temporary_folder.h"

namespace qwen3::e2e {

class Service {
 public:
  // Serves when this returns, and all workers are registered. Throws std::runtime_error with the tail of a log.
  explicit Service(int workers, int slots_of_each = 1);
  ~Service();
  Service(const Service&) = delete;

  std::string address() const { return address_; }
  int port() const { return api_port_; }
  const std::string& dir() const { return dir_; }
  // A client that waits for the service to come back, up to a minute a call.
  std::unique_ptr<client::Client> patient_client() const;

  void kill_coordinator();   // SIGKILL, reaped
  void start_coordinator();  // on the same ports; serves when this returns
  void kill_worker(int i);
  void start_worker(int i);
  // Processes of qwen3-rank that daemon i runs now.
  std::vector<pid_t> ranks_of(int i) const;
  // SIGKILL to one rank of daemon i; waits until it has one.
  void kill_rank(int i);

  // A job that costs little: debugmodel on sequences of 32 tokens, float32 in ordered mode, a checkpoint every
  // 4 steps. `slots` ranks, each with one sequence a microbatch; the global batch has 2 sequences.
  v1::JobSpec small_job(int slots, int steps) const;
  absl::StatusOr<std::string> submit(const v1::JobSpec& spec);  // name of the job
  // Until a step >= `step` was reported. False: the job ended before, or a minute passed.
  bool wait_for_step(const std::string& job, int64_t step);
  // Until the job is terminal; at most three minutes.
  absl::StatusOr<v1::Job> wait(const std::string& job);
  // Ends of the logs of all processes, for the message of a failed assertion.
  std::string logs() const;

 private:
  void wait_until_serving();
  void wait_for_workers();

  const qwen3::tests::TemporaryFolder folder_{"e2e"};
  const std::string& dir_ = folder_.path();
  std::string address_;
  int api_port_ = 0, worker_port_ = 0, http_port_ = 0;
  int slots_of_each_;
  pid_t coordinator_ = 0;
  std::vector<pid_t> workers_;
};

}  // namespace qwen3::e2e
