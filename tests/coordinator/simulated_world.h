// A world for the controller on virtual time: what it writes is kept, what it sends is read by simulated daemons, and
// everything asynchronous happens when the test says so.
#pragma once
#include <deque>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "coordinator/controller.h"

namespace qwen3::coordinator::testing {

class SimulatedWorld final : public Effects {
 public:
  SimulatedWorld();

  // A controller that remembers only what was written.
  void restart_coordinator();
  Controller& controller() { return *controller_; }
  absl::Time now = absl::UnixEpoch() + absl::Seconds(100);

  // Runs all that is pending: commits, their callbacks, manifests.
  void settle();
  // Lets time pass in ticks of 0.1 s.
  void pass(absl::Duration time);
  // The same, while every connected daemon beats.
  void pass_with_beats(absl::Duration time);

  // Queues a job of `ranks`; returns its name.
  std::string submit(const std::string& id, int64_t ranks);
  // Queues a task; returns its name. `checkpoint`: the resource name of the committed checkpoint it reads, or none.
  std::string submit_evaluation(const std::string& id, int64_t ranks, const std::string& checkpoint = "",
                                const std::string& data = "/data/tokens");
  std::string submit_conversion(const std::string& id);
  // As the database has it.
  const v1::Job& job(const std::string& name) const { return jobs.at(name).job(); }

  // Daemons. connect() does both Hellos.
  void connect(const std::string& worker, int32_t slots, const std::string& incarnation = "1",
               const std::vector<internal::v1::AttemptKey>& running = {}, const std::string& build = "b");
  void disconnect(const std::string& worker);
  void say(const std::string& worker, const internal::v1::WorkerMessage& message);
  // Shorthands for one message.
  void accept(const std::string& worker, const internal::v1::AttemptKey& key);
  void decline(const std::string& worker, const internal::v1::AttemptKey& key);
  void store_ready(const std::string& worker, const internal::v1::AttemptKey& key, const std::string& address);
  void step(const std::string& worker, const internal::v1::AttemptKey& key, int64_t step);
  void prepare(const std::string& worker, const internal::v1::AttemptKey& key, int32_t rank, int64_t step);
  void fail_to_prepare(const std::string& worker, const internal::v1::AttemptKey& key, int32_t rank, int64_t step,
                       const std::string& error);
  void exit_by_signal(const std::string& worker, const internal::v1::AttemptKey& key, int32_t rank, int32_t signal,
                      bool aborted = false);
  void exit_as_victim(const std::string& worker, const internal::v1::AttemptKey& key, int32_t rank);
  void finish(const std::string& worker, const internal::v1::AttemptKey& key, int32_t rank, int64_t step,
              bool stopped = false);

  // Of tasks.
  void report_progress(const std::string& worker, const internal::v1::AttemptKey& key, int64_t done, int64_t total);
  void finish_evaluation(const std::string& worker, const internal::v1::AttemptKey& key, int32_t rank, double loss);
  void finish_conversion(const std::string& worker, const internal::v1::AttemptKey& key);
  void fail(const std::string& worker, const internal::v1::AttemptKey& key, int32_t rank, v1::FailureClass whose,
            const std::string& message, const std::string& reason = "");

  // What a daemon was sent and has not looked at yet, oldest first; looking takes it.
  std::vector<internal::v1::CoordinatorMessage> read(const std::string& worker);
  // The Assign among them; null: none.
  std::unique_ptr<internal::v1::Assign> read_assign(const std::string& worker);

  // What is "on disk".
  std::map<std::string, internal::v1::StoredJob> jobs;
  std::map<std::string, std::map<int32_t, internal::v1::StoredAttempt>> attempts;
  std::map<std::string, std::vector<StoredEvent>> events;
  std::map<std::string, std::map<int64_t, v1::Checkpoint>> checkpoints;
  std::map<std::string, internal::v1::StoredRequest> requests;
  std::vector<StoredEvaluation> evaluations;  // in order of writing
  int64_t keep_best = 0;                      // of the jobs that submit() makes
  std::vector<std::string> removed_folders;
  absl::Status manifest_status;  // of the next manifests
  bool hold_manifests = false;   // the next ones are written when release_manifests() is called
  void release_manifests();

  void send(int64_t session, const internal::v1::CoordinatorMessage& message) override;
  void close(int64_t session, const absl::Status& why) override;
  void write(Write write, std::function<void()> done) override;
  void commit_checkpoint(CheckpointParts parts, std::function<void(absl::StatusOr<CommittedCheckpoint>)> done) override;
  void remove_folders(std::vector<std::string> folders) override;
  void sweep(std::string job_folder, int32_t attempt) override {}
  void on_queue_wait(absl::Duration wait) override {}
  void on_progress(const std::string& job, const v1::Progress& progress) override {}
  void on_ended(const std::string& job) override {}

  std::map<int64_t, absl::Status> closed_sessions;

 private:
  void apply(const Write& write);
  std::unique_ptr<Controller> controller_;
  std::deque<std::function<void()>> pending_, held_;
  int64_t next_session_ = 1;
  std::map<std::string, int64_t> sessions_;  // by worker
  std::map<int64_t, std::vector<internal::v1::CoordinatorMessage>> sent_;
};

int count(const std::vector<internal::v1::CoordinatorMessage>& messages,
          internal::v1::CoordinatorMessage::MessageCase kind);

// A job of two ranks on two workers, each with one slot, that has done its first step.
struct RunningJob {
  explicit RunningJob(SimulatedWorld& world, const std::string& id = "j");
  std::string name;
  internal::v1::AttemptKey key;
};

}  // namespace qwen3::coordinator::testing
