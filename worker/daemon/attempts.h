// The attempts that have ranks on this host: starts and ends their processes, passes on what they and the coordinator
// say to each other, and keeps what the coordinator has not acknowledged. Runs on the event loop's thread alone.
#pragma once
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "qwen3/internal/v1/session.pb.h"
#include "worker/daemon/event_loop.h"
#include "worker/daemon/oom.h"
#include "worker/daemon/options.h"
#include "worker/daemon/rank_process.h"
#include "worker/daemon/spool.h"

namespace qwen3::worker {

class Attempts {
 public:
  struct Outlet {
    // False: there is no session, it was not sent.
    std::function<bool(internal::v1::WorkerMessage)> send;
    // The spool has new records.
    std::function<void()> records_added;
    // A rank was reaped, or an exit acknowledged.
    std::function<void()> changed;
  };

  Attempts(const DaemonOptions& options, std::shared_ptr<EventLoop> loop, Spool& spool, Outlet outlet);

  // What the coordinator says.
  void handle(const internal::v1::CoordinatorMessage& message);
  // Kills their ranks and forgets them: nobody waits for what they would report.
  void drop_stale(const google::protobuf::RepeatedPtrField<internal::v1::AttemptKey>& stale);
  // A new session: says again what may have been lost, and what is not acknowledged.
  void say_again();
  // Records were acknowledged: an exit may have waited for them.
  void records_taken();
  void kill_all();

  std::vector<internal::v1::RunningAttempt> running() const;
  std::vector<internal::v1::AttemptProgress> progress() const;
  bool any_alive() const;
  bool any_unacknowledged() const;

 private:
  struct Rank {
    int32_t slot = 0;
    std::unique_ptr<RankProcess> process;                          // null once reaped
    bool killed = false;                                           // by us
    int64_t step = 0;                                              // newest one done
    std::map<int64_t, internal::v1::PreparedCheckpoint> prepared;  // by step; not acknowledged
    internal::v1::RankExit exit;                                   // filled as its parts become known
    bool exit_waits = false;                                       // for the rank's records to be acknowledged
    bool exit_acknowledged = false;
  };
  struct Attempt {
    std::map<int32_t, Rank> ranks;
    std::string store;       // address that rank 0, being here, has reported
    std::string told_store;  // address that the other ranks were told
    std::optional<internal::v1::FirstStep> first_step;
    std::optional<internal::v1::TaskProgress> task;  // of a task, as its rank 0 said last
    std::vector<internal::v1::CheckpointSkipped> unsent_skips;
    bool stale = false;
  };

  void assign(const internal::v1::Assign& assign);
  absl::Status check(const internal::v1::Assign& assign) const;
  bool slots_are_leaving(const internal::v1::Assign& assign) const;
  absl::Status start_ranks(const internal::v1::Assign& assign);
  absl::Status start_rank(const AttemptId& id, Attempt& attempt, const internal::v1::RankAssignment& assignment);
  void start_waiting();
  void reply(const AttemptId& id, const absl::Status& status);

  void on_rank_message(const AttemptId& id, int32_t rank, internal::v1::RankToDaemon message);
  void on_store_port(const AttemptId& id, Attempt& attempt, int port);
  void on_step(const AttemptId& id, Attempt& attempt, int32_t rank, internal::v1::StepDone step);
  void on_last_word(const AttemptId& id, int32_t rank);
  void on_rank_output(const AttemptId& id, int32_t rank, std::vector<LogLine> lines);
  void on_rank_exit(const AttemptId& id, int32_t rank, ExitStatus status);

  void report_exit(const AttemptId& id, int32_t rank);
  void send_exit(Rank& rank);

  void on_store_address(const internal::v1::StoreAddress& message);
  void on_prepared_ack(const internal::v1::PreparedAck& ack);
  void on_exit_ack(const internal::v1::RankExitAck& ack);

  Attempt* find(const AttemptId& id);
  void tell(const AttemptId& id, int32_t rank, const internal::v1::DaemonToRank& message);
  void abort(Attempt& attempt);
  void forget_if_over(const AttemptId& id);

  const DaemonOptions& options_;
  std::shared_ptr<EventLoop> loop_;
  Spool& spool_;
  Outlet outlet_;
  OomCounter oom_;
  std::map<AttemptId, Attempt> attempts_;
  std::vector<internal::v1::Assign> waiting_;  // for slots whose killed ranks are not reaped yet
};

}  // namespace qwen3::worker
