// What the services share: the controller on its state thread, the store, the records, the streams. Implements the
// controller's effects.
#pragma once
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>

#include "coordinator/checkpoint_files.h"
#include "coordinator/controller.h"
#include "coordinator/effects.h"
#include "coordinator/executor.h"
#include "coordinator/metrics.h"
#include "coordinator/options.h"
#include "coordinator/records.h"
#include "coordinator/store.h"
#include "coordinator/store_reader.h"
#include "coordinator/watch_hub.h"

namespace qwen3::coordinator {

// The network end of one daemon's session. Any thread; never blocks.
class SessionSink {
 public:
  virtual ~SessionSink() = default;
  virtual void send(const internal::v1::CoordinatorMessage& message) = 0;
  virtual void close(const absl::Status& why) = 0;
};

class Core final : public Effects {
 public:
  // Opens the state folder (its lock must be held), repairs what a crash left, loads the controller.
  static absl::StatusOr<std::unique_ptr<Core>> open(const Options& options);
  ~Core() override;

  const Options& options() const { return options_; }
  Executor& state() { return *state_; }      // the controller's thread
  Executor& readers() { return *readers_; }  // blocking reads
  Metrics& metrics() { return metrics_; }
  WatchHub& hub() { return hub_; }
  Records& records() { return *records_; }
  StoreReader& reader() { return *reader_; }
  // REQUIRES: on the state thread.
  Controller& controller() { return *controller_; }

  // Steady: starts at the wall clock and does not jump with it.
  absl::Time now() const;

  // Sessions of daemons; returns the session's number.
  int64_t add_session(std::shared_ptr<SessionSink> sink);
  void remove_session(int64_t session);  // tells the controller
  void end_sessions();

  // Runs `read` on the state thread and waits, for threads that may block (HTTP); false: no answer within a second.
  bool ask_state(std::function<void()> read);
  // Stops the threads; what was posted is done, what was written is on disk.
  void stop();

  // Effects.
  void send(int64_t session, const internal::v1::CoordinatorMessage& message) override;
  void close(int64_t session, const absl::Status& why) override;
  void write(Write write, std::function<void()> done) override;
  void commit_checkpoint(CheckpointParts parts, std::function<void(absl::StatusOr<CommittedCheckpoint>)> done) override;
  void remove_folders(std::vector<std::string> folders) override;
  void sweep(std::string job_folder, int32_t attempt) override;
  void on_queue_wait(absl::Duration wait) override;
  void on_progress(const std::string& job, const v1::Progress& progress) override;
  void on_ended(const std::string& job) override;

 private:
  explicit Core(Options options);
  absl::Status load();
  void repair(const StoredState& state);

  Options options_;
  const absl::Time boot_wall_;
  const int64_t boot_steady_ns_;
  Probe probe_;
  Metrics metrics_;
  WatchHub hub_;
  std::unique_ptr<StoreReader> reader_;
  std::unique_ptr<Records> records_;
  std::unique_ptr<Controller> controller_;
  std::unique_ptr<Executor> readers_;
  std::unique_ptr<Executor> disk_;  // manifests, pruning
  std::unique_ptr<Executor> state_;
  std::unique_ptr<Store> store_;
  std::unique_ptr<Ticker> ticker_;
  int ticks_ = 0;
  std::mutex sessions_mutex_;  // guards the next two
  int64_t next_session_ = 1;
  std::map<int64_t, std::shared_ptr<SessionSink>> sessions_;
};

}  // namespace qwen3::coordinator
